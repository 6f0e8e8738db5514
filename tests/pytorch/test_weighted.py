"""weight and latent_weight with the rest of PyTorch: compilers, autocast, torch.func, forward mode."""

import pytest
import torch
from known import B, compiled, draw, elbo
from test_compile import counted, outcome, same
from torch.autograd import forward_ad

import vae_kernels as vk

close = torch.testing.assert_close


def masked(recon, x, mu, logvar, weight, latent_weight, backend):
    z, kl = vk.sample_kl(mu, logvar, latent_weight=latent_weight, backend=backend)
    return vk.fused_elbo(recon + z.sum(1, keepdim=True), x, kl=kl, weight=weight, backend=backend)


def batch(n=4, dtype=torch.bool):
    g = torch.Generator().manual_seed(n)
    recon, x = torch.randn(n, 7, generator=g), torch.rand(n, 7, generator=g)
    mu, logvar = torch.randn(2, n, 6, generator=g).unbind()
    weights = [(torch.rand(n, d, generator=g) > 0.4).to(dtype) for d in (7, 6)]
    return [recon.requires_grad_(), x, mu.clone().requires_grad_(), logvar.clone().requires_grad_(), *weights]


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


@pytest.mark.full
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
def test_another_mask_compiles_nothing(backend, dtype):
    """One graph serves all batches and all masks, and has the numbers of eager mode."""
    f = lambda *tensors: masked(*tensors, backend)  # noqa: E731
    step, counter = counted(f, dynamic=True)
    graphs = set()
    for n in (9, 11, 64, 64):  # no other dimension has these sizes
        inputs = batch(n, dtype)
        same(outcome(step, inputs), outcome(f, inputs))
        graphs.add(counter.frame_count)
    for mask in inputs[4:]:
        mask.copy_(mask == 0)
    same(outcome(step, inputs), outcome(f, inputs))
    assert graphs == {counter.frame_count}


@pytest.mark.full  # Inductor compiles C++
@compiled
def test_inductor(backend="cpu"):
    """Inductor lowers plain PyTorch itself, and takes a minute beside Triton's interpreter: one backend is tried."""
    f = lambda *tensors: masked(*tensors, backend)  # noqa: E731
    inputs = batch()
    same(outcome(torch.compile(f, fullgraph=True), inputs), outcome(f, inputs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_leaves_a_weight_alone(backend, dtype):
    """Autocast must not round the weight, and the loss keeps its dtype. A weight of 1/3 rounded to 16 bits would change
    the loss."""
    recon, mu, logvar, x = (t.detach().float() for t in draw())
    weights = {"weight": torch.full((B, 1), 1 / 3), "latent_weight": torch.tensor(1 / 3, dtype=torch.float64)}
    plain = elbo(recon, mu, logvar, x, backend=backend, **weights)
    with torch.autocast("cpu", dtype=dtype):
        ours = elbo(recon, mu, logvar, x, backend=backend, **weights)
    assert ours.dtype == torch.float32 and torch.equal(ours, plain)


def poisoned(t, keep):
    return torch.where(keep, t.detach(), float("nan"))


def test_torch_func_and_forward_mode():
    """The inputs are NaN where the weight is 0. The formulas use torch.where on the inputs and on the result, so no NaN
    reaches a derivative of any kind."""
    recon, mu, logvar, x = draw(torch.float64)
    keep, latent_keep = torch.rand(recon.shape) > 0.4, torch.rand(mu.shape) > 0.4
    bad = poisoned(recon, keep), poisoned(mu, latent_keep), poisoned(logvar, latent_keep), poisoned(x, keep)
    weights = {"weight": keep, "latent_weight": latent_keep}
    f = lambda recon, mu, logvar, x, **w: elbo(recon, mu, logvar, x, reduction="sum", **w)  # noqa: E731
    clean = torch.autograd.grad(f(recon, mu, logvar, x, **weights), (recon, mu, logvar))
    grads = torch.func.grad(lambda *t: f(*t, bad[3], **weights), argnums=(0, 1, 2))(*bad[:3])
    close(grads, clean)
    rows = torch.func.vmap(lambda *t: f(*(row[None] for row in t[:4]), weight=t[4][None], latent_weight=t[5][None]))
    each = elbo(*bad, reduction="none", **weights)
    close(rows(*bad, keep, latent_keep), each)
    assert each.isfinite().all()
    with forward_ad.dual_level():
        tangent = torch.randn_like(bad[0])
        dual = forward_ad.make_dual(bad[0], tangent)
        slope = forward_ad.unpack_dual(f(dual, *bad[1:], **weights)).tangent
    close(slope, (clean[0] * tangent).sum())
    hessian = torch.func.hessian(lambda t: f(t, *bad[1:], **weights))(bad[0]).reshape(recon.numel(), -1)
    assert hessian.isfinite().all() and not hessian[~keep.flatten()].any()


def test_fake_tensors_beside_a_mask(backend):
    if backend == "triton":
        pytest.skip("the interpreter reads values")
    mode = torch._subclasses.FakeTensorMode()
    inputs = [mode.from_tensor(t) for t in batch()]
    with mode:
        loss = masked(*inputs, backend)
        loss.backward()
    assert loss.shape == () and inputs[0].grad.shape == (4, 7)
