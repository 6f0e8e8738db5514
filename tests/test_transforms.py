"""The gradient in all of torch's ways: to second order, torch.func, hooks, modes, checkpointing, autocast."""

import pytest
import torch
from known import B, assert_grads, compiled, draw, elbo, exact
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

import vae_kernels as vk

close = torch.testing.assert_close


def all_inputs():
    g = torch.Generator().manual_seed(1)
    shapes = {
        "loc": (3, 4),
        "obs": (4,),
        "x": (3, 4),
        "mu": (3, 2),
        "logvar": (3, 2),
        "m": (2,),
        "v": (1, 2),
        "beta": (2,),
    }
    named = {k: torch.randn(s, generator=g, dtype=torch.float64) for k, s in shapes.items()}
    named["beta"].abs_()
    return [t.requires_grad_() for t in (*named.values(), torch.tensor(0.7, dtype=torch.float64))]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_every_input_to_second_order(backend, reduction):
    def f(loc, obs, x, mu, logvar, m, v, beta, rec_weight):
        return vk.fused_elbo(
            (loc, obs), x, mu, logvar, likelihood="gaussian", prior=(m, v), beta=beta, rec_weight=rec_weight,
            reduction=reduction, backend=backend,
        )  # fmt: skip

    assert gradcheck(f, all_inputs())
    assert gradgradcheck(f, all_inputs())


def test_a_sample_to_second_order(backend):
    def f(mu, logvar, m, v):
        gen = torch.Generator().manual_seed(3)
        return vk.sample_kl(mu, logvar, prior=(m, v), n_samples=2, generator=gen, backend=backend)

    inputs = all_inputs()[3:7]
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)


def test_create_graph_leaves_the_first_order_as_it_is(backend, inputs):
    loss = elbo(*inputs, backend=backend)
    grads = torch.autograd.grad(loss, inputs[:3], create_graph=True)
    assert_grads([g.detach() for g in grads], exact(inputs, 1 / B))
    (slope,) = torch.autograd.grad(grads[1].square().sum(), inputs[1])
    close(slope, 2 * (0.5 / B) ** 2 * inputs[1].detach())


def test_torch_func():
    recon, mu, logvar, x = (t.detach() for t in draw(torch.float64))
    expected = exact((recon, mu, logvar, x), 1 / B)
    assert_grads(torch.func.grad(elbo, argnums=(0, 1, 2))(recon, mu, logvar, x), expected)
    per_sample = torch.func.jacrev(lambda t: elbo(recon, t, logvar, x, reduction="none"))(mu)
    close(per_sample, torch.diag_embed((0.5 * mu).t()).permute(1, 2, 0))
    rows = torch.func.vmap(lambda *row: elbo(*(t[None] for t in row)))(recon, mu, logvar, x)
    close(rows, elbo(recon, mu, logvar, x, reduction="none"))
    sample = lambda mu, logvar: vk.sample_kl(mu, logvar, generator=torch.Generator().manual_seed(1))[0].sum()  # noqa: E731
    close(torch.func.grad(sample)(mu, logvar), torch.ones_like(mu))


@compiled
def test_torch_func_refuses_the_compiled_kernels():
    recon, mu, logvar, x = (t.detach() for t in draw(torch.float64))
    with pytest.raises(ValueError, match="transform only backend='torch' differentiates"):
        torch.func.grad(lambda t: elbo(t, mu, logvar, x, backend="cpu"))(recon)


def test_hooks(backend, inputs):
    seen = []
    inputs[0].register_hook(lambda g: seen.append(g.clone()))
    inputs[1].register_hook(lambda g: 2 * g)
    loss = elbo(*inputs, backend=backend)
    loss.register_hook(lambda g: 5 * g)
    loss.backward()
    expected = exact(inputs, 5 / B)
    close(seen[0], expected[0])
    assert_grads([t.grad for t in inputs[:3]], [expected[0], 2 * expected[1], expected[2]])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_without_gradients(backend, inputs, mode):
    expected = elbo(*inputs, backend=backend).detach()
    with mode():
        loss = elbo(*inputs, backend=backend)
        z, kl = vk.sample_kl(*inputs[1:3], backend=backend)
        assert not (loss.requires_grad or z.requires_grad or kl.requires_grad)
        assert torch.equal(loss, expected)
    assert elbo(*(t.detach() for t in inputs), backend=backend).requires_grad is False


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_draws_the_same_noise(backend, inputs, reentrant):
    """The recomputed forward pass restores the generator: the same z, and so the gradient of an unchecked step."""
    recon, mu, logvar, x = inputs
    drawn = []

    def step(recon, mu, logvar):
        z, kl = vk.sample_kl(mu, logvar, backend=backend)
        drawn.append(z.detach())
        return vk.fused_elbo(recon + z.sum(1, keepdim=True), x, kl=kl, backend=backend)

    torch.manual_seed(8)
    expected = torch.autograd.grad(step(recon, mu, logvar), inputs[:3])
    torch.manual_seed(8)
    checkpoint(step, recon, mu, logvar, use_reentrant=reentrant).backward()
    assert len(drawn) == 3 and torch.equal(drawn[1], drawn[0]) and torch.equal(drawn[2], drawn[0])
    for t, e in zip(inputs, expected, strict=False):
        assert torch.equal(t.grad, e)


def test_autocast(backend):
    """A network under autocast puts out bfloat16; the loss of it is float32, and so is the gradient of its weights."""
    torch.manual_seed(0)
    net, x = torch.nn.Linear(6, 37), torch.rand(B, 37)
    mu, logvar = torch.randn(2, B, 6).unbind()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        recon = net(mu)
        loss = elbo(recon, mu, logvar, x, backend=backend)
    assert recon.dtype == torch.bfloat16 and loss.dtype == torch.float32
    assert torch.equal(loss, elbo(recon, mu, logvar, x, backend=backend))  # autocast changes nothing of ours
    recon.retain_grad()
    loss.backward()
    assert recon.grad.dtype == torch.bfloat16 and net.weight.grad.dtype == torch.float32
