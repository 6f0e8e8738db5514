"""Every way of torch to take a gradient: second order, torch.func, forward mode, hooks, modes without gradients and
checkpointing. Further tests use tensors without values, and modules that are copied, saved and optimised."""

import copy
import pickle

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from known import B, assert_grads, compiled, draw, elbo, exact
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
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


@pytest.mark.full("triton")
@pytest.mark.parametrize("reduction", ["mean", pytest.param("none", marks=pytest.mark.full)])
def test_every_input_to_second_order(backend, reduction):
    def f(loc, obs, x, mu, logvar, m, v, beta, rec_weight):
        return vk.fused_elbo(
            (loc, obs), x, mu, logvar, likelihood="gaussian", prior=(m, v), beta=beta, rec_weight=rec_weight,
            reduction=reduction, backend=backend,
        )  # fmt: skip

    assert gradcheck(f, all_inputs())
    assert gradgradcheck(f, all_inputs())


@pytest.mark.full("triton")
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
    with pytest.raises(ValueError, match=r"inside a torch.func transform, .* only backend='torch' differentiates"):
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


@pytest.mark.full("triton")
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_draws_the_same_noise(backend, inputs, reentrant):
    """Checkpointing restores the generator before it recomputes the forward pass. So the step draws the same z, and has
    the gradient of a step without checkpointing."""
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


def test_forward_mode():
    """The derivative in a direction is the product of gradient and direction, in dual_level, in jvp and in jacfwd."""
    recon, mu, logvar, x = (t.detach() for t in draw(torch.float64))
    direction = torch.randn_like(recon), torch.randn_like(mu), torch.randn_like(logvar)
    expected = sum((g * d).sum() for g, d in zip(exact((recon, mu, logvar, x), 1 / B), direction, strict=True))
    with fwAD.dual_level():
        duals = [fwAD.make_dual(t, d) for t, d in zip((recon, mu, logvar), direction, strict=True)]
        close(fwAD.unpack_dual(elbo(*duals, x)).tangent, expected)
        z, kl = vk.sample_kl(*duals[1:])
        close(fwAD.unpack_dual(kl).tangent, (mu * direction[1] + 0.5 * torch.expm1(logvar) * direction[2]).sum(1))
        assert fwAD.unpack_dual(z).tangent is not None
    _, tangent = torch.func.jvp(lambda *t: elbo(*t, x), (recon, mu, logvar), direction)
    close(tangent, expected)
    close(torch.func.jacfwd(lambda t: elbo(recon, t, logvar, x))(mu), exact((recon, mu, logvar, x), 1 / B)[1])


@compiled
def test_forward_mode_refuses_the_compiled_kernels():
    recon, mu, logvar, x = (t.detach() for t in draw(torch.float64))
    with fwAD.dual_level(), pytest.raises(ValueError, match="in forward mode, only backend='torch' differentiates"):
        elbo(fwAD.make_dual(recon, recon), mu, logvar, x, backend="cpu")


def test_vmap_draws_as_randomness_says():
    mu = torch.zeros(3, B, 4)
    sample = lambda t: vk.reparameterize(t, t)  # noqa: E731
    same, different = (torch.func.vmap(sample, randomness=r)(mu) for r in ("same", "different"))
    assert torch.equal(same[0], same[1]) and not torch.isin(different[0], different[1]).any()
    with pytest.raises(RuntimeError, match="randomness"):
        torch.func.vmap(sample)(mu)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_adaptive_weight_of_a_latent_diffusion_autoencoder(backend, reduction):
    """A latent diffusion autoencoder takes two gradients by the last layer, makes a weight of their norms, and then
    runs the backward pass of the weighted sum (Esser et al. 2021, arXiv:2012.09841, equation 7). So the graph of our
    loss is used several times."""
    torch.manual_seed(0)
    first, last = torch.nn.Linear(6, 8).double(), torch.nn.Linear(8, 37).double()
    _, mu, _, x = draw()
    results = []
    for name in (backend, "torch"):
        recon = last(first(mu).tanh())
        nll = vk.nll(recon, x, reduction=reduction, backend=name).mean()
        other = recon.square().mean()
        of_nll, of_other = (torch.autograd.grad(t, last.weight, retain_graph=True)[0] for t in (nll, other))
        (again,) = torch.autograd.grad(nll, last.weight, retain_graph=True)
        weight = (of_nll.norm() / of_other.norm()).detach()
        inputs = [mu, *first.parameters(), *last.parameters()]
        results.append([of_nll, again, weight, *torch.autograd.grad(nll + weight * other, inputs)])
        assert torch.equal(of_nll, again)
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs)


# --- tensors without values


def step_of(device, backend="auto"):
    tensors = [torch.empty(s, device=device, requires_grad=True) for s in ((B, 3, 4), (B, 6), (B, 6))]
    recon, mu, logvar = tensors
    z, kl = vk.sample_kl(mu, logvar, n_samples=2, backend=backend)
    assert z.shape == (2, B, 6) and kl.shape == (B,) and z.device == mu.device
    terms = vk.fused_elbo(
        recon, torch.empty(B, 3, 4, device=device), mu, logvar, beta=0.5, return_terms=True, backend=backend
    )
    assert terms.nll.shape == (B,) and terms.kl_per_dim.shape == (6,) and terms.loss.shape == ()
    (3 * terms.loss + z.sum() + kl.sum()).backward()
    assert all(t.grad.shape == t.shape and t.grad.dtype == t.dtype and t.grad.device == t.device for t in tensors)
    return terms.loss


def test_meta_tensors():
    assert step_of("meta").device.type == "meta"


def test_fake_tensors(backend):
    """A whole step with its backward pass runs on shapes without values, as torch's memory estimators do it."""
    if backend == "triton":
        pytest.skip("Triton's interpreter reads values; while compiling its ops have fakes: test_compile.py")
    with FakeTensorMode():
        assert isinstance(step_of("cpu", backend), FakeTensor)


# --- modules


def modules():
    observation = torch.nn.Parameter(torch.tensor(-0.5))
    prior = torch.nn.Parameter(torch.zeros(2)), torch.zeros(2)
    settings = {"likelihood": "gaussian", "obs_logvar": observation, "prior": prior, "beta": torch.tensor(0.5)}
    return {"FusedELBO": vk.FusedELBO(**settings), "VAE": vk.mlp_vae((4,), 2, (3,), **settings)}


@pytest.mark.parametrize("name", modules())
def test_modules_are_copied_pickled_and_saved(name, tmp_path):
    module = modules()[name]
    g = torch.Generator().manual_seed(0)
    x, mu = torch.randn(B, 4, generator=g), torch.randn(B, 2, generator=g)
    arguments = (x, x, mu, mu) if name == "FusedELBO" else (x,)
    saved = tmp_path / "module.pt"
    torch.save(module, saved)
    fresh = modules()[name]
    fresh.load_state_dict(module.state_dict())
    copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(saved, weights_only=False), fresh]
    losses = []
    for m in (module, *copies):
        torch.manual_seed(1)
        losses.append(m(*arguments))
    assert all(torch.equal(loss, losses[0]) for loss in losses)
    losses[0].backward()
    assert module.obs_logvar.grad is not None and all(m.obs_logvar.grad is None for m in copies)


@pytest.mark.parametrize("name", modules())
def test_what_is_learned_has_a_name_in_the_optimizer(name):
    """A learned variance has a name in the optimizer. So the user can leave it out of the weight decay, because a
    variance is not a weight. The optimizer also changes the variance."""
    module = modules()[name]
    named = dict(module.named_parameters())
    assert {"obs_logvar", "prior_mu"} <= named.keys() and "prior_logvar" not in named  # prior_logvar is a buffer
    alone = [(n, p) for n, p in named.items() if n == "obs_logvar"]
    rest = [(n, p) for n, p in named.items() if n != "obs_logvar"]
    optimizer = torch.optim.AdamW([{"params": alone, "weight_decay": 0.0}, {"params": rest}], lr=0.1)
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["obs_logvar"]
    x, mu, before = torch.randn(B, 4), torch.randn(B, 2), module.obs_logvar.detach().clone()
    module(*((x, x, mu, mu) if name == "FusedELBO" else (x,))).backward()
    slope = module.obs_logvar.grad.sign()
    optimizer.step()
    torch.testing.assert_close(module.obs_logvar.detach(), before - 0.1 * slope)  # the first step of Adam has size lr
