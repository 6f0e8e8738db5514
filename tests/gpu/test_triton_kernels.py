"""What the tables of the other files do not reach in the Triton kernels: many rows, long runs, the second launch, the
factor in the backward pass, the ticket. In the interpreter; on a GPU, test_gpu.py."""

import itertools
import os
import re
from pathlib import Path

import cases
import pixels
import pytest
import torch
from corrected import INCOMING, compare_pixels
from known import BACKENDS
from oracles import ORACLES
from test_objective import compare, posterior
from tiers import every

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

import vae_kernels as vk  # noqa: E402
from vae_kernels import backends  # noqa: E402
from vae_kernels.backends import reference  # noqa: E402
from vae_kernels.backends.triton import launch  # noqa: E402
from vae_kernels.backends.triton.noise import words  # noqa: E402
from vae_kernels.core.noise import philox4x32  # noqa: E402
from vae_kernels.core.objective import Draw, objective, restored  # noqa: E402
from vae_kernels.formulas.kl import gaussian_kl  # noqa: E402

pytestmark = pytest.mark.skipif("triton" not in BACKENDS, reason="triton cannot be run here")
BACKEND = "triton"


@pytest.fixture(autouse=True)
def tickets_are_taken_back():
    """Every launch leaves the counter as it found it."""
    yield
    from vae_kernels.backends.triton import tickets

    assert all(int(ticket) == 0 for ticket in tickets.kept.values())


@pytest.mark.full
@pytest.mark.parametrize("dtypes", [cases.DTYPES[i] for i in (0, 1, 2, 7)], ids=str)
@pytest.mark.parametrize("likelihood", [name for name in ORACLES if name not in cases.INTERPRETED])
def test_the_formula_of_any_other_likelihood(likelihood, dtypes):
    """Beside those that go through the whole table of test_objective.py."""
    x, params = cases.draw(likelihood, (3, 1031), dtypes)
    compare(BACKEND, likelihood, x, params, posterior(3, (5,), dtypes[0]), "none")


@pytest.mark.full
@pytest.mark.parametrize("reduction", ["mean", pytest.param("none", marks=pytest.mark.soak)])
def test_many_rows_are_added_up_by_several_programs(reduction):
    x, params = cases.draw("bernoulli", (70_001, 3))
    compare(BACKEND, "bernoulli", x, params, posterior(70_001, (2,), torch.float32), reduction)


@pytest.mark.full
def test_gradients_of_a_row_from_many_partial_sums():
    x, (loc, logvar) = cases.draw("gaussian", (260, 2100))
    compare(BACKEND, "gaussian", x, (loc, logvar[7]), posterior(260, (3,), torch.float32))


@pytest.mark.full
@pytest.mark.parametrize("shape", [(5, 5000), pytest.param((70_001, 3), marks=pytest.mark.soak)], ids=str)
def test_gradients_of_samples(shape):
    """From several partial sums each, and by several programs."""
    x, (loc, logvar) = cases.draw("gaussian", shape)
    latent, mask = posterior(shape[0], (2,), torch.float32), cases.weight(shape, torch.bool)
    compare(BACKEND, "gaussian", x, (loc, logvar[:, :1]), latent, weight=mask)


@pytest.mark.full
@pytest.mark.parametrize("rows", [3, pytest.param(259, marks=pytest.mark.soak)])
def test_several_tiles_a_program(rows, monkeypatch):
    """In a large batch a program has four tiles, side by side; the last one is not full."""
    from vae_kernels import fused_elbo
    from vae_kernels.backends.triton import grid

    likelihood = "gaussian"
    if rows < 259:
        monkeypatch.setattr(grid, "FOUR_TILES", 1 << 13)
    assert grid.Tiles(rows, 4097).steps == 4
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
    from vae_kernels import fused_elbo

    mu, logvar = posterior(70, (2500,), torch.float32)
    for reduction in ("none", "mean"):
        ours, truth = (
            vk.gaussian_kl(mu.to(to), logvar.to(to), reduction=reduction, backend=backend)
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


@pytest.mark.full
@pytest.mark.parametrize("weight", [None, torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("columns", [1, 5, 10, 64, 65, 1025])
def test_the_likelihood_alone(columns, weight):
    """Of each sample: up to 1024 columns a program writes the loss itself. The sum of all is read as one long row."""
    shape = 2 + 3000 // columns, columns
    x, params = cases.draw("gaussian", shape)
    weight = None if weight is None else cases.weight(shape, weight)
    for reduction in ("none", "sum"):
        results = []
        for backend, to in ((BACKEND, torch.float32), ("torch", torch.float32), ("torch", torch.float64)):
            inputs = [p.to(to).requires_grad_() for p in params]
            out = vk.nll(
                tuple(inputs), x.to(to), likelihood="gaussian", weight=weight, reduction=reduction, backend=backend
            )
            incoming = torch.randn(out.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
            results.append([out, *torch.autograd.grad(out, inputs, incoming.to(to))])
        for ours, theirs, truth in zip(*results, strict=True):
            cases.check(ours, theirs, truth, torch.float32, reduction)


@pytest.mark.parametrize("term", ["likelihood", "latents"])
def test_the_weight_of_a_term_alone(term):
    x, params = cases.draw("gaussian", (300, 5))
    latent = tuple(posterior(300, (7,), torch.float32))
    x, params, name, latent = (x, params, "gaussian", ()) if term == "likelihood" else (None, (), "", latent)
    request = objective(x, params, name, latent, 1.3, 0.7, "none")
    wide = [None if t is None else t.double() for t in request.tensors()]
    ours = backends.choose(BACKEND, params or latent).elbo(request)
    theirs, truth = reference.elbo(request), reference.elbo(restored(request.settings, wide))
    cases.check(ours, theirs, truth, torch.float32, term)


def request_of(rows, columns, dtype, **settings):
    """The arguments of the op for a loss of each sample, with every gradient."""
    x, params = cases.draw("gaussian", (rows, columns), (dtype, dtype))
    latent = [torch.randn(rows, 5, dtype=dtype) for _ in range(4)]
    weights = None, None, cases.weight(x.shape, torch.bool), None, settings.get("nats"), None
    return x, list(params), "gaussian", latent, *weights, 1.3, 0.7, 1.0, settings.get("floor", 0), 0, 0b111111


MARK = 12345.0


@pytest.mark.full
@pytest.mark.parametrize("differs", every(4, ["none", "the first", "the last", "two", "every seventh"]))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", every(3, [(2100, 1), (300, 5), (300, 10), (70, 64), (70, 65), (5, 1031)]), ids=str)
def test_gradients_are_corrected_where_another_number_came(shape, dtype, differs):
    """To the bits of the backward pass. A program none of whose samples got another number writes nothing."""
    from vae_kernels.backends.triton import grid, kernels

    request, n = request_of(*shape, dtype), shape[0]
    rows, expected = torch.arange(n), torch.tensor(1 / n, dtype=dtype).item()
    some = {"none": rows[:0], "the first": rows[:1], "the last": rows[-1:], "two": rows[[n // 3, n // 3 + 1]]}
    differ = some.get(differs, rows[::7])
    grad = torch.full((n,), expected, dtype=dtype)
    grad[differ] = torch.rand(len(differ), dtype=dtype)
    if differs == "two":
        grad[differ] = torch.tensor([float("nan"), grad[0].nextafter(grad[0] + 1)], dtype=dtype)
    _, *ahead = kernels.elbo(*request, False, expected)
    anew = kernels.elbo_backward(grad, *request)
    marked = [torch.full_like(t, MARK) for t in ahead]
    for grads in (ahead, marked):
        kernels.correct_(grads, grad, expected, *request)
    for i, (corrected, only, truth) in enumerate(zip(ahead, marked, anew, strict=True)):
        assert cases.same(corrected, truth)
        r = (grid.Tiles(*shape) if i < 2 else grid.latent_tiles(n, 5)).r
        touched = torch.isin(rows // r, differ // r)
        assert cases.same(only[touched], truth[touched]) and (only[~touched] == MARK).all()


@pytest.mark.full
@pytest.mark.parametrize("came", [1 / 300, 0.7])
def test_one_number_for_all_samples_is_corrected(came):
    """The stride of such an incoming gradient is 0, and the batch is read as one long row."""
    from vae_kernels.backends.triton import kernels

    request = request_of(300, 10, torch.float32)
    expected = torch.tensor(1 / 300).item()
    _, *ahead = kernels.elbo(*request, False, expected)
    kernels.correct_(ahead, torch.tensor(came).expand(300), expected, *request)
    for corrected, truth in zip(ahead, kernels.elbo_backward(torch.full((300,), came), *request), strict=True):
        assert cases.same(corrected, truth)


@pytest.mark.full
@pytest.mark.parametrize("incoming", INCOMING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_are_corrected(incoming, dtype):
    from vae_kernels.backends.triton import kernels

    ops = {name: getattr(kernels, name) for name in ("pixel", "pixel_backward", "pixel_correct_")}
    wide = dtype == torch.float64
    compare_pixels(ops, pixels.Mixture(components=2, channels=1), incoming, dtype, wide, wide, (3, 2))


def test_what_is_not_corrected():
    from vae_kernels.backends.triton import kernels

    x, (loc, _), *rest = request_of(6, 3, torch.float32)
    grads = [torch.zeros_like(t) for t in (loc, loc[0], *rest[1])]
    with pytest.raises(AssertionError, match="a gradient that is a sum"):
        kernels.correct_(grads, torch.zeros(6), 0.5, x, [loc, loc[0]], *rest)


@pytest.mark.parametrize("unit, shape", [("per_dim", (9, 4)), ("per_group", (9, 4, 3)), ("per_sample", (9,)),
                                         ("per_sample", (9, 4)), ("per_batch_mean", (9,))], ids=str)  # fmt: skip
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_free_bits_of_a_kl_that_is_given(unit, shape, reduction):
    x, (logits,) = cases.draw("bernoulli", (9, 5))
    kl = torch.rand(shape, generator=torch.Generator().manual_seed(3))
    each = {"per_dim": kl.mean(0), "per_sample": kl.flatten(1).sum(1) if kl.dim() > 1 else kl}
    each |= {"per_group": kl.flatten(2).sum(2).mean(0) if kl.dim() > 2 else kl, "per_batch_mean": 2 * kl.mean()}
    nats, results = each[unit].double().median() + 0.01, []
    for backend, to in ((BACKEND, torch.float32), ("torch", torch.float32), ("torch", torch.float64)):
        inputs = [t.detach().to(to).requires_grad_() for t in (logits, kl)]
        loss = vk.fused_elbo(
            inputs[0], x.to(to), kl=inputs[1], free_bits=(nats, unit), reduction=reduction, backend=backend
        )
        incoming = torch.randn(loss.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        results.append([loss, *torch.autograd.grad(loss, inputs, incoming.to(to))])
    for ours, theirs, truth in zip(*results, strict=True):
        cases.check(ours, theirs, truth, torch.float32, unit)
    assert torch.equal(ours == 0, truth == 0)  # the gradient of the KL


UNITS = "per_dim", "per_group", "per_sample", "per_batch_mean"
SUMMED = ((700, 20), "mean"), ((300, 65), "none"), ((41, 7, 100), "sum")


@pytest.mark.full
@pytest.mark.parametrize(
    ("unit", "shape", "reduction"),
    [
        pytest.param(unit, *summed, marks=[pytest.mark.soak] * ((i + k) % 2))  # each takes five seconds
        for i, unit in enumerate(UNITS)
        for k, summed in enumerate(SUMMED)
    ],
)
def test_free_bits_of_many_partial_sums(unit, shape, reduction, monkeypatch):
    """Launches of their own add up, first the strips of a batch, then the losses of the samples. Here they do so for
    fewer sums than elsewhere, since the interpreter is slow."""
    from vae_kernels.backends.triton import objective

    monkeypatch.setattr(objective, "finishers_for", lambda partial_sums, rounds: 4)
    objective.Plan.cache_clear()
    x, params = cases.draw("bernoulli", (shape[0], 1))
    latent = posterior(shape[0], shape[1:], torch.float32)
    kl = gaussian_kl(*(t.double() for t in latent))
    units = {"per_dim": kl.mean(0), "per_group": kl.flatten(2).sum(2).mean(0) if kl.dim() > 2 else kl.mean(0),
             "per_sample": kl.flatten(1).sum(1), "per_batch_mean": 2 * kl.flatten(1).sum(1).mean(0)}[unit]  # fmt: skip
    levels = units.flatten().sort().values
    nats = levels[len(levels) // 2 :][:2].mean().item()
    ours = compare(BACKEND, "bernoulli", x, params, latent, reduction, free_bits=(nats, unit))
    objective.Plan.cache_clear()
    closed = (ours["mu"] == 0).double().mean().item()
    assert closed == 1 if unit == "per_batch_mean" else 0.3 < closed < 0.7


def test_the_free_bits_of_an_empty_batch():
    mu = torch.zeros(0, 4)
    for reduction, unit in itertools.product(("mean", "sum"), ("per_dim", "per_sample")):
        ours, truth = (
            vk.fused_elbo(mu, mu, mu, mu, free_bits=(1.0, unit), reduction=reduction, backend=backend)
            for backend in (BACKEND, "torch")
        )
        assert cases.same(ours, truth)


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
