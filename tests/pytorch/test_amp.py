"""Mixed and low precision: autocast, GradScaler, and networks that are entirely bfloat16 or float16."""

import pytest
import torch
from known import B, compiled, elbo

import vae_kernels as vk

HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_autocast(backend, dtype):
    """A network under autocast puts out numbers of 16 bits. The loss is float32, and so is the gradient of the
    weights."""
    torch.manual_seed(0)
    net, x = torch.nn.Linear(6, 37), torch.rand(B, 37)
    mu, logvar = torch.randn(2, B, 6).unbind()
    with torch.autocast("cpu", dtype=dtype):
        recon = net(mu)
        loss = elbo(recon, mu, logvar, x, backend=backend)
    assert recon.dtype == dtype and loss.dtype == torch.float32
    assert torch.equal(loss, elbo(recon, mu, logvar, x, backend=backend))  # autocast does not change our loss
    recon.retain_grad()
    loss.backward()
    assert recon.grad.dtype == dtype and net.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_step_with_grad_scaler_is_the_step_without(backend, dtype):
    """GradScaler multiplies the loss by a power of two, and divides the gradients by it before the step. So the weights
    after the step are the same as without a scale."""
    x, h = torch.rand(B, 37), torch.randn(B, 6)
    weights = []
    for scale in (1.0, 2.0**10):
        torch.manual_seed(0)
        net = torch.nn.Linear(6, 37)
        optimizer, scaler = torch.optim.SGD(net.parameters(), lr=0.1), torch.amp.GradScaler("cpu", init_scale=scale)
        with torch.autocast("cpu", dtype=dtype):
            loss = vk.nll(net(h), x, reduction="mean", backend=backend)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == scale  # nothing was inf
        weights.append(net.weight.detach())
    # at scale 1, float16 rounds a small gradient to 2^-24; a weight sums B gradients times h, and the step multiplies
    # by lr
    bound = B * 2.0**-24 * h.abs().max() * 0.1 if dtype == torch.float16 else 0.0
    torch.testing.assert_close(*weights, rtol=torch.finfo(torch.float32).eps * 4, atol=float(bound))


def test_an_overflow_is_inf_and_the_scaler_sees_it(backend):
    """A gradient beyond 65504 is inf with the right sign, and the other gradients are right. GradScaler sees the inf
    and skips the step."""
    recon = torch.zeros(2, 3, dtype=torch.float16)
    recon[0, 0] = 20.0  # with x = 1 the gradient is -2e-9; even times 2^20 it is nearly 0, and it must not be NaN
    recon.requires_grad_()
    x = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.5]])
    (vk.nll(recon, x, reduction="sum", backend=backend) * 2.0**20).backward()
    inf = float("inf")
    assert recon.grad.dtype == torch.float16
    assert recon.grad.flatten()[1:].tolist() == [-inf, inf, -inf, inf, 0.0]
    assert recon.grad[0, 0].abs() < 1e-2

    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    optimizer, scaler = torch.optim.SGD([parameter], lr=1.0), torch.amp.GradScaler("cpu", init_scale=2.0**20)
    scaler.scale(vk.nll(parameter.half(), x, reduction="sum", backend=backend)).backward()
    scaler.step(optimizer)
    scaler.update()
    assert not parameter.any() and scaler.get_scale() == 2.0**19


@pytest.mark.full("triton")
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_network_of_16_bits_alone(backend, dtype, likelihood):
    """After model.to(dtype) the loss is float32, each gradient has the dtype of its parameter, and a few steps lower
    the loss."""
    torch.manual_seed(0)
    observation = {"obs_logvar": torch.nn.Parameter(torch.zeros(()))} if likelihood == "gaussian" else {}
    vae = vk.mlp_vae((12,), 2, (16,), likelihood, backend=backend, **observation).to(dtype)
    x = torch.randint(0, 256, (32, 12), dtype=torch.uint8)
    optimizer = torch.optim.SGD(vae.parameters(), lr=2.0**-6)
    losses = []
    for _ in range(4):
        loss = vae.loss(x, generator=torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        assert loss.dtype == torch.float32
        assert all(p.grad.dtype == p.dtype == dtype and p.grad.isfinite().all() for p in vae.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


@compiled
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_the_loss_is_computed_in_float32(dtype):
    """The sum of 2^20 elements is right to float32. A sum in 16 bits would overflow or stop growing, and its terms
    would be rounded to 3 digits."""
    recon = torch.full((1, 1 << 20), 0.25, dtype=dtype)
    loss = elbo(recon, torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1 << 20), backend="cpu")
    truth = torch.nn.functional.softplus(torch.tensor(-0.25, dtype=torch.float64)) * (1 << 20)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), truth, rtol=2 * torch.finfo(torch.float32).eps, atol=0)
