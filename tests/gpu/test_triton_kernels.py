"""What the tables of the other files do not reach in the Triton kernels: many rows, long runs, the second launch, the
factor in the backward pass, the ticket. In the interpreter; on a GPU, test_gpu.py."""

import os
import re
from pathlib import Path

import cases
import pytest
import torch
from known import BACKENDS
from oracles import ORACLES
from test_objective import compare, posterior

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

from vae_kernels import backends  # noqa: E402
from vae_kernels.backends.triton import launch  # noqa: E402
from vae_kernels.backends.triton.noise import words  # noqa: E402
from vae_kernels.core.noise import philox4x32  # noqa: E402
from vae_kernels.core.objective import Draw  # noqa: E402

pytestmark = pytest.mark.skipif("triton" not in BACKENDS, reason="triton cannot be run here")
BACKEND = "triton"


@pytest.fixture(autouse=True)
def tickets_are_taken_back():
    """Every launch leaves the counter as it found it."""
    yield
    from vae_kernels.backends.triton import tickets

    assert all(int(ticket) == 0 for ticket in tickets.kept.values())


@pytest.mark.parametrize("dtypes", [cases.DTYPES[i] for i in (0, 1, 2, 7)], ids=str)
@pytest.mark.parametrize("likelihood", [name for name in ORACLES if name not in cases.INTERPRETED])
def test_the_formula_of_any_other_likelihood(likelihood, dtypes):
    """Beside those that go through the whole table of test_objective.py."""
    x, params = cases.draw(likelihood, (3, 1031), dtypes)
    compare(BACKEND, likelihood, x, params, posterior(3, (5,), dtypes[0]), "none")


@pytest.mark.full
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_many_rows_are_added_up_by_several_programs(reduction):
    x, params = cases.draw("bernoulli", (70_001, 3))
    compare(BACKEND, "bernoulli", x, params, posterior(70_001, (2,), torch.float32), reduction)


@pytest.mark.full
def test_gradients_of_a_row_from_many_partial_sums():
    x, (loc, logvar) = cases.draw("gaussian", (260, 2100))
    compare(BACKEND, "gaussian", x, (loc, logvar[7]), posterior(260, (3,), torch.float32))


@pytest.mark.full
@pytest.mark.parametrize("shape", [(5, 5000), (70_001, 3)], ids=str)
def test_gradients_of_samples(shape):
    """From several partial sums each, and by several programs."""
    x, (loc, logvar) = cases.draw("gaussian", shape)
    latent, mask = posterior(shape[0], (2,), torch.float32), cases.weight(shape, torch.bool)
    compare(BACKEND, "gaussian", x, (loc, logvar[:, :1]), latent, weight=mask)


@pytest.mark.full
def test_several_tiles_a_program():
    """From 2^20 elements on a program has four tiles, side by side; the last one is not full."""
    from vae_kernels import fused_elbo

    rows, likelihood = 259, "gaussian"
    x, params = cases.draw(likelihood, (rows, 4097))
    compare(BACKEND, likelihood, x, params, posterior(rows, (3,), torch.float32))  # by rows, for the terms
    latent = posterior(rows, (3,), torch.float32)
    inputs = [t.requires_grad_() for t in params]
    results = []
    for backend, to in ((BACKEND, torch.float32), ("torch", torch.float64)):  # as one run
        recon = tuple(t.to(to) for t in inputs)
        loss = fused_elbo(recon, x.to(to), *(t.to(to) for t in latent), likelihood=likelihood, backend=backend)
        results.append([loss, *torch.autograd.grad(loss, inputs)])
    for ours, truth in zip(*results, strict=True):
        torch.testing.assert_close(ours, truth.to(ours.dtype))


@pytest.mark.parametrize("rows", [1, 512, 1 << 20])
@pytest.mark.parametrize("cols", [1, 20, 512, 513, 2048, 16_384])
def test_one_tile_of_latents_a_program(rows, cols):
    """The kernels of latents go through no second one."""
    from vae_kernels.backends.triton.grid import latent_tiles

    tiles = latent_tiles(rows, cols)
    assert tiles.pieces * tiles.c >= cols and tiles.row_blocks * tiles.r >= rows


@pytest.mark.full
@pytest.mark.skipif("VAE_KERNELS_SLOW" not in os.environ, reason="two minutes of the interpreter: VAE_KERNELS_SLOW=1")
def test_many_latents():
    """2^20 latents, 2048 of a sample: each is drawn, counts in the KL, and has its gradient."""
    mu, logvar = posterior(512, (2048,), torch.float32)
    rng, results = torch.tensor((3, 4)), []
    for backend in (BACKEND, "torch"):
        inputs = [t.clone().requires_grad_() for t in (mu, logvar)]
        z, kl_of_z = backends.choose(backend, inputs).sample_kl(Draw(*inputs, (), rng, None, True))
        results.append([z, kl_of_z, *torch.autograd.grad([z, kl_of_z], inputs, [mu, mu[:, 0]])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "latents", [(1, 1), (1, 20), (64, 20), (300, 20), (64, 16_384), (0, 20), (1 << 30, 0)], ids=str
)
def test_samples_up_to_what_the_arguments_allow(latents):
    """Or up to 10^11 elements, which no GPU holds. A grid ends at 2^31 - 1 programs along x, and at 65,535 along y."""
    from vae_kernels.backends.triton import sample

    rows, cols = latents
    most = 2**31 - 1 if rows * cols <= 512 else 10**11 // (rows * cols)
    for draws in (1, 65_535, 65_536, most):
        shape = (rows, cols, (cols, cols), None, torch.float32, False, draws)
        for made in (sample._forward(*shape, True)[0], sample._backward(*shape, 1, cols)):
            x, y, z = made.grid
            assert 1 <= x < 2**31 and y <= 65_535 and z <= 65_535, made.grid


def test_a_grid_that_is_too_long_is_an_error():
    from vae_kernels.backends.triton.launch import Launch
    from vae_kernels.backends.triton.rescale import rescale_kernel

    Launch(rescale_kernel, 2**31 - 1, {}, ())
    with pytest.raises(ValueError, match="2147483648 programs, expected fewer than 2\\^31: split the batch"):
        Launch(rescale_kernel, 2**31, {}, ())


def test_no_kernel_has_a_second_dimension():
    """Along y and z a grid ends at 65,535."""
    folder = Path(launch.__file__).parent
    for path in folder.glob("*.py"):
        axes = re.findall(r"(?:program_id|num_programs)\((.*?)\)", path.read_text())
        assert set(axes) <= {"0"}, path.name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("factor", [1.0, -2.5, 0.0])
def test_rescale(dtype, factor):
    from vae_kernels.backends.triton import kernels

    tensors = [torch.randn(n).to(dtype) for n in (1, 1024, 1025, 5000, 0, 37)]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    expected = [t.to(wide) * factor for t in tensors]
    before = [t.clone() for t in tensors]
    kernels.rescale_(tensors, torch.tensor(factor))
    for t, e, old in zip(tensors, expected, before, strict=True):
        assert torch.equal(t, old if factor == 1 else e.to(dtype))


@pytest.mark.full
def test_the_latent_term_alone_and_given():
    from vae_kernels import fused_elbo, gaussian_kl

    mu, logvar = posterior(70, (2500,), torch.float32)
    for reduction in ("none", "mean"):
        ours, truth = (
            gaussian_kl(mu.to(to), logvar.to(to), reduction=reduction, backend=backend)
            for backend, to in ((BACKEND, torch.float32), ("torch", torch.float64))
        )
        torch.testing.assert_close(ours, truth.float())
    x, (logits,) = cases.draw("bernoulli", (70, 33))
    for kl in (torch.rand(70), torch.rand(70, 9)):
        kl.requires_grad_()
        beta = torch.tensor(0.3) if kl.dim() == 1 else torch.linspace(0, 2, 9)
        loss, truth = (fused_elbo(logits, x, kl=kl, beta=beta, backend=backend) for backend in (BACKEND, "torch"))
        torch.testing.assert_close(loss, truth)
        torch.testing.assert_close(*(torch.autograd.grad(t, kl)[0] for t in (loss, truth)))


def test_the_noise_of_elements_from_2_to_the_34_on():
    """The high word of the group: no tensor here is large enough to reach it."""

    def kernel(groups, out, N: tl.constexpr):
        at = tl.arange(0, N)
        w0, w1, w2, w3 = words(tl.load(groups) * 0 + 3, tl.load(groups) * 0 + 4, tl.load(groups + at))
        tl.store(out + at, w0.to(tl.int64))
        tl.store(out + N + at, w1.to(tl.int64))
        tl.store(out + 2 * N + at, w2.to(tl.int64))
        tl.store(out + 3 * N + at, w3.to(tl.int64))

    groups = torch.tensor([0, 1 << 31, (1 << 32) - 1, 1 << 32, (5 << 32) + 7, (1 << 61) - 1, 1 << 33, 77])
    out = torch.zeros(4, len(groups), dtype=torch.int64)
    triton.jit(kernel)[(1,)](groups, out, len(groups))
    low, high, zero = groups & 0xFFFFFFFF, groups >> 32, torch.zeros_like(groups)
    expected = torch.stack(philox4x32((zero + 4, zero, low, high), (torch.tensor(3), torch.tensor(0))))
    assert torch.equal(out & 0xFFFFFFFF, expected)
