"""The mixture of discretized logistics: its formula against a definition with 100 digits and as a distribution of
pixels, and its kernels in every type and layout."""

import itertools
import math

import fits
import layouts
import pixels
import pytest
import torch
from known import BACKENDS, compiled
from oracles import PIXELS as ORACLES
from pixels import Mixture
from torch.autograd import gradcheck, gradgradcheck

import vae_kernels as vk
from vae_kernels.core import layout
from vae_kernels.formulas import discretized_logistic_mixture as formula

close = torch.testing.assert_close
NAN = float("nan")
RGB, GREY = Mixture(components=3), Mixture(components=3, channels=1)
KERNELS = [name for name in BACKENDS if name != "torch"]


def few(cases, some):
    """(backend, case) pairs: all cases for the compiled kernels, and some for Triton's interpreter, which is slow."""
    return [(b, c) for b in KERNELS for i, c in enumerate(cases) if b != "triton" or i in some]


def options(likelihood):
    return vk.likelihoods.options_of(likelihood)


# ---------------------------------------------------------------- the formula


@pytest.mark.parametrize("name", pixels.OPTIONS)
def test_the_formula_is_the_definition(name):
    likelihood = pixels.OPTIONS[name]
    packed, x = pixels.draw(likelihood, 4, (6,), torch.float64, torch.float64)
    if likelihood.min_logscale is not None:
        k = likelihood.components
        scales = packed[:, k:].unflatten(1, (likelihood.channels, -1, k))[:, :, 1]
        scales.clamp_(min=likelihood.min_logscale)
    flat = lambda t: t.movedim(1, -1).flatten(0, -2).numpy()  # noqa: E731
    expected = ORACLES[likelihood.name](flat(x), flat(packed), likelihood.levels, likelihood.x_range)
    ours = formula.nll(x, packed, *options(likelihood)).flatten()
    close(ours, torch.from_numpy(expected), rtol=1e-12, atol=1e-12)
    close(-pixels.truth(packed, x, likelihood).flatten(), torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("levels", [2, 8, 256])
@pytest.mark.parametrize("x_range", [(0.0, 1.0), (-1.0, 1.0)], ids=str)
def test_the_probabilities_of_each_channel_sum_to_1(backend, levels, x_range):
    """The sum runs over all levels of a channel, with any levels of the channels before it. The mass of a channel is
    the quotient of two joint masses, and the joint mass of the first channels is that of all, summed over the rest."""
    likelihood = Mixture(components=2, levels=levels, x_range=x_range)
    g = torch.Generator().manual_seed(levels)
    packed = torch.randn(1, 20, 1, generator=g, dtype=torch.float64)
    low, high = x_range
    values = low + (high - low) * torch.arange(levels, dtype=torch.float64) / (levels - 1)
    fixed = values[torch.tensor([0, levels - 1])]
    last = torch.stack([*torch.broadcast_tensors(fixed[0], fixed[1], values)])[None]
    joint = vk.log_prob(packed.expand(1, 20, levels), last, likelihood=likelihood, backend=backend).exp()
    first_two = Mixture(components=2, levels=levels, x_range=(low, high))
    # The third channel has a mass of 1. So the joint mass is the mass of the first two channels.
    certain = packed.clone()
    certain[:, 2 + 12 : 2 + 14], certain[:, 2 + 14 : 2 + 16] = 1e6, -5.0
    top = torch.stack([*torch.broadcast_tensors(fixed[0], fixed[1], values[-1:])])[None]
    close(joint.sum(), vk.log_prob(certain, top, likelihood=first_two, backend=backend).exp().sum())
    certain[:, 2 + 6 : 2 + 8], certain[:, 2 + 8 : 2 + 10] = 1e6, -5.0
    every = torch.stack([*torch.broadcast_tensors(values, values[-1], values[-1])])[None]
    masses = vk.log_prob(certain.expand(1, 20, levels), every, likelihood=first_two, backend=backend).exp()
    close(masses.sum(), torch.ones((), dtype=torch.float64))


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("levels", "channels"), [(2, 3), (5, 3), (256, 1), (32, 1)])
def test_all_probabilities_of_a_pixel_sum_to_1(backend, levels, channels):
    likelihood = Mixture(components=3, levels=levels, channels=channels)
    size = formula.sizes(*options(likelihood))[1]
    packed = torch.randn(1, size, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.cartesian_prod(*[torch.arange(levels, dtype=torch.uint8)] * channels).view(-1, channels).T[None]
    log_p = vk.log_prob(packed.expand(1, size, x.shape[2]), x, likelihood=likelihood, backend=backend)
    close(log_p.exp().sum(), torch.ones((), dtype=torch.float64), rtol=1e-12, atol=0)


def test_one_component_of_one_channel_is_the_discretized_logistic():
    likelihood = Mixture(components=1, channels=1)
    packed, x = pixels.draw(likelihood, 4, (3, 5), torch.float64, torch.float64)
    expected = vk.nll((packed[:, 1:2], packed[:, 2:]), x, likelihood="discretized_logistic", backend="torch")
    close(vk.nll(packed, x, likelihood=likelihood, backend="torch"), expected)


def published(packed, x, components):
    """The loss of the published codes for x in [-1, 1], written from the formulas of PixelCNN++ (arXiv:1701.05517)."""
    logits, rest = packed[:, :components], packed[:, components:].unflatten(1, (3, 3 * components))
    loc, logscale, r = rest.unflatten(2, (3, components)).unbind(2)
    inverse, t = torch.exp(-logscale.clamp(min=-7.0)), torch.tanh(r)
    red, green, _ = x.unsqueeze(2).unbind(1)
    loc = torch.stack([loc[:, 0], loc[:, 1] + t[:, 0] * red, loc[:, 2] + t[:, 1] * red + t[:, 2] * green], 1)
    centred = x.unsqueeze(2) - loc
    upper, lower = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255)
    delta = torch.sigmoid(upper) - torch.sigmoid(lower)
    log_p = torch.where(x.unsqueeze(2) < -0.999, torch.nn.functional.logsigmoid(upper), delta.log())
    log_p = torch.where(x.unsqueeze(2) > 0.999, -torch.nn.functional.softplus(lower), log_p)
    each = log_p.sum(1) + torch.log_softmax(logits, 1)
    return -torch.logsumexp(each, 1).flatten(1).sum(1), delta


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_decoder_of_the_published_codes_moves_over(backend):
    likelihood = Mixture(components=10, x_range=(-1, 1), min_logscale=-7.0)
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (3, 3, 8, 8), generator=g) / 127.5 - 1
    packed = 0.3 * torch.randn(3, 100, 8, 8, generator=g)
    expected, delta = published(packed.double(), x.double(), 10)
    assert delta.min() > 1e-5  # below that the codes take another formula, which is not exact
    close(vk.nll(packed, x, likelihood=likelihood, backend=backend), expected.float())


def test_a_small_scale_stops_at_min_logscale_and_has_no_gradient():
    likelihood = Mixture(components=2, channels=1, min_logscale=-4.0)
    packed = torch.zeros(1, 6, 3, dtype=torch.float64)
    packed[:, 4], packed[:, 5] = -9.0, -3.0
    packed.requires_grad_()
    x = torch.tensor([[[0.0, 0.1, 1.0]]], dtype=torch.float64)
    at_least = packed.detach().clone()
    at_least[:, 4] = -4.0
    for backend in ("torch", *(b for b in KERNELS if b == "cpu")):
        nll = vk.nll(packed, x, likelihood=likelihood, backend=backend)
        close(nll, vk.nll(at_least, x, likelihood=likelihood, backend="torch"))
        (grad,) = torch.autograd.grad(nll, packed)
        assert not grad[:, 4].any() and grad[:, 5].all()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_mean_is_that_of_the_masses(channels):
    """E[x] by a sum over all levels. With locations far from the ends, the mean of every channel is exact."""
    likelihood = Mixture(components=2, levels=8, channels=channels)
    g = torch.Generator().manual_seed(0)
    packed = torch.randn(1, formula.sizes(*options(likelihood))[1], 1, generator=g, dtype=torch.float64)
    packed[:, 2:] *= 0.1
    packed[:, 2:] += 0.2
    scales = packed[:, 2:].unflatten(1, (channels, -1, 2))[:, :, 1]
    scales -= 4.5
    values = torch.arange(8, dtype=torch.float64) / 7
    x = torch.cartesian_prod(*[values] * channels).view(-1, channels).T[None]
    mass = vk.log_prob(packed.expand(-1, -1, x.shape[2]), x, likelihood=likelihood, backend="torch").exp()
    mean = formula.mean(packed, *options(likelihood))[0, :, 0]
    expected = (mass * x).sum((0, 2))
    close(mean[0], expected[0])
    close(mean, expected, rtol=0, atol=0.01 if channels == 3 else 1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_have_the_masses(channels):
    likelihood = Mixture(components=2, levels=3, channels=channels, x_range=(-1, 1))
    g = torch.Generator().manual_seed(0)
    packed = torch.randn(1, formula.sizes(*options(likelihood))[1], 1, generator=g, dtype=torch.float64)
    n = 200_000
    drawn = formula.sample(packed.expand(-1, -1, n), *options(likelihood), generator=g)
    values = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    assert torch.isin(drawn, values).all()
    x = torch.cartesian_prod(*[values] * channels).view(-1, channels).T[None]
    mass = vk.log_prob(packed.expand(-1, -1, x.shape[2]), x, likelihood=likelihood, backend="torch").exp().flatten()
    code = ((drawn[0] + 1) * torch.tensor([3 ** (channels - 1 - c) for c in range(channels)]).view(-1, 1)).sum(0)
    share = torch.bincount(code.long(), minlength=3**channels) / n
    assert ((share - mass).abs() <= 5 * (mass / n).sqrt() + 1 / n).all()


def test_sampling_is_repeatable():
    packed, _ = pixels.draw(RGB)
    one, other = (formula.sample(packed, *options(RGB), generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, other) and one.shape == (4, 3, 3, 5)


# ---------------------------------------------------------------- the kernels


@pytest.mark.parametrize(
    ("backend", "case"), few([*itertools.product(pixels.OPTIONS, pixels.POSITIONS)], some=(10, 22, 26)), ids=str
)
def test_shapes(backend, case):
    name, positions = case
    pixels.compare(backend, *pixels.draw(pixels.OPTIONS[name], 4, positions), pixels.OPTIONS[name])


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("of_x", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("inner", [False, True])
def test_dtypes(backend, dtype, of_x, inner):
    packed, x = pixels.draw(RGB, 3, (130,), dtype, of_x)
    packed = packed.movedim(1, -1).contiguous().movedim(-1, 1) if inner else packed
    pixels.compare(backend, packed, x, RGB)


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("name", layouts.LAYOUTS)
@pytest.mark.parametrize("of", ["packed", "x", "both"])
@pytest.mark.parametrize("likelihood", [RGB, GREY], ids=["rgb", "grey"])
def test_layouts(backend, name, of, likelihood):
    packed, x = pixels.draw(likelihood, 4, (6, 7))
    if of != "x":
        packed = layouts.LAYOUTS[name](packed)
    if of != "packed":
        x = layouts.LAYOUTS[name](x)
    pixels.compare(backend, packed, x, likelihood)


COPIED = ("in the middle", "batch last", "every second")


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_dense_samples_are_not_copied(name):
    packed, x = (layouts.LAYOUTS[name](t) for t in pixels.draw(RGB, 4, (6, 7)))
    of_x, (of_packed,) = layout.likelihood(x, (packed,))
    assert (of_packed is packed) == (name not in COPIED)
    assert of_x is x or name in COPIED
    assert torch.equal(of_packed, packed) and torch.equal(of_x, x)


@compiled
@pytest.mark.parametrize("likelihood", [RGB, GREY, pixels.OPTIONS["published"]], ids=["rgb", "grey", "published"])
def test_float64_is_the_formula_to_12_digits(likelihood):
    packed, x = pixels.draw(likelihood, 4, (70,), torch.float64, torch.float64)
    ours = pixels.outcome(lambda *a: vk.nll(*a, likelihood=likelihood, backend="cpu"), packed, x)
    theirs = pixels.outcome(lambda *a: pixels.nll_of(*a, likelihood), packed, x)
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, rtol=1e-12, atol=1e-12 * b.abs().max().item())


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0, 30, 4), (0, 30), (3, 30, 0)], ids=str)
def test_nothing_gives_nothing(backend, shape):
    packed = torch.zeros(shape, requires_grad=True)
    x = torch.zeros(shape[0], 3, *shape[2:])
    nll = vk.nll(packed, x, likelihood=RGB, backend=backend)
    assert torch.equal(nll, torch.zeros(shape[0]))
    nll.sum().backward()
    assert packed.grad.shape == shape
    terms = vk.log_prob(packed, x, likelihood=RGB, backend=backend)
    assert terms.shape == (shape[0], 1, *shape[2:])
    (grad,) = torch.autograd.grad(terms, packed, torch.ones_like(terms))
    assert grad.shape == shape


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("inner", [False, True])
def test_log_prob(backend, inner):
    packed, x = pixels.draw(RGB, 4, (3, 50), torch.float64, torch.float64)
    packed = layouts.LAYOUTS["innermost"](packed) if inner else packed
    incoming = torch.randn(4, 1, 3, 50, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    incoming[1, 0, 2] = 0
    results = []
    for f in (lambda t: vk.log_prob(t, x, likelihood=RGB, backend=backend), lambda t: pixels.truth(t, x, RGB)):
        t = packed.detach().requires_grad_()
        terms = f(t)
        results.append((terms, *torch.autograd.grad((terms * incoming).sum(), t)))
    for a, b in zip(*results, strict=True):
        close(a, b)
    assert not results[0][1][1, :, 2].any()


WEIGHTS = {
    "pixel": (4, 1, 3, 5),
    "row": (1, 3, 5),
    "column": (5,),
    "one": (1, 1, 3, 5),
    "sample": (4, 1, 1, 1),
    "number": (),
}


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inner", [False, True])
def test_a_weight_of_0_hides_a_nan(backend, form, dtype, inner):
    g = torch.Generator().manual_seed(5)
    packed, x = pixels.draw(RGB, 4, (3, 5))
    weight = (torch.rand(WEIGHTS[form], generator=g) > 0.4).to(dtype) * (1 if dtype == torch.bool else 0.5)
    weight = weight.to(dtype)
    keep = (weight != 0).expand(4, 1, 3, 5)
    terms = torch.where(keep, weight.double() * -pixels.truth(packed, x, RGB), 0)
    holes = [torch.where(keep, t, NAN) for t in (packed, x)]
    if inner:
        holes = [layouts.LAYOUTS["innermost"](t) for t in holes]
    holes[0].requires_grad_()
    nll = vk.nll(*holes, likelihood=RGB, weight=weight, backend=backend)
    close(nll, terms.flatten(1).sum(1).float(), rtol=1e-5, atol=1e-5)
    nll.sum().backward()
    clean = packed.double().requires_grad_()
    torch.where(keep, weight.double() * -pixels.truth(clean, x, RGB), 0).sum().backward()
    close(holes[0].grad, clean.grad.float(), rtol=1e-3, atol=1e-4)
    assert torch.equal(holes[0].grad[~keep.expand_as(packed)], torch.zeros(int((~keep).sum()) * packed.shape[1]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("likelihood", [RGB, GREY], ids=["rgb", "grey"])
@pytest.mark.parametrize("form", [None, (5, 1), (1,), ()], ids=str)
def test_samples_of_one_pixel(backend, likelihood, form):
    """[B, P] beside x [B, C], and a weight of the terms, [B, 1]."""
    g = torch.Generator().manual_seed(2)
    packed, x = pixels.draw(likelihood, 5, (), torch.float64, torch.float64)
    weight = None if form is None else torch.rand(form, generator=g)
    if form == (5, 1):
        weight[2] = 0
        packed[2, 1] = NAN
    inputs = [t for t in (packed.requires_grad_(), weight) if t is not None]
    for t in inputs:
        t.requires_grad_()
    ours = vk.nll(packed, x, likelihood=likelihood, weight=weight, backend=backend)
    rest = torch.where(packed.isnan(), 0.0, packed)
    theirs = -pixels.truth(rest, x, likelihood) * (1 if weight is None else weight.double())
    close(ours, theirs.squeeze(1))
    incoming = torch.randn(5, generator=g, dtype=torch.float64)
    pairs = zip(*(torch.autograd.grad(t, inputs, incoming) for t in (ours, theirs.squeeze(1))), strict=True)
    for i, (a, b) in enumerate(pairs):
        if i == 1 and form == (5, 1):  # the weight of a NaN has none
            a, b = a[[0, 1, 3, 4]], b[[0, 1, 3, 4]]
        close(a, b)


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("of", ["x", "packed"])
def test_a_nan_stays_in_its_own_sample(backend, of):
    packed, x = pixels.draw(RGB, 4, (7,))
    clean = vk.nll(packed, x, likelihood=RGB, backend=backend)
    (x if of == "x" else packed)[2, 1, 3] = NAN
    packed.requires_grad_()
    nll = vk.nll(packed, x, likelihood=RGB, backend=backend)
    assert nll[2].isnan() and torch.equal(nll[[0, 1, 3]], clean[[0, 1, 3]])
    nll.sum().backward()
    assert packed.grad[2, :, 3].isnan().any() and packed.grad[[0, 1, 3]].isfinite().all()


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
def test_extremes_are_finite(backend):
    """Scales from e^-80 to e^80, locations and coefficients far out, logits of 1e4 and a logit of -inf."""
    values = [0.0, 1e4, -1e4, 80.0, -80.0, 0.5, 1e-30]
    g = torch.Generator().manual_seed(0)
    packed = torch.tensor(values)[torch.randint(0, len(values), (64, 30, 16), generator=g)]
    scales = packed[:, 3:].unflatten(1, (3, 3, 3))[:, :, 1]
    scales.clamp_(-30, 80)
    packed[5, 0] = -math.inf
    x = torch.randint(0, 256, (64, 3, 16), generator=g, dtype=torch.uint8)
    expected = pixels.nll_of(packed, x, RGB)
    packed.requires_grad_()
    nll = vk.nll(packed, x, likelihood=RGB, backend=backend)
    close(nll, expected.float(), rtol=1e-5, atol=1e-4)
    nll.sum().backward()
    assert packed.grad.isfinite().all()


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("likelihood", [RGB, GREY], ids=["rgb", "grey"])
def test_a_component_without_a_probability_has_no_gradient(backend, likelihood):
    """Component 1 is a step, far from x: e^-logscale is infinite in float32 from -89 on, and the probability is 0. The
    values and the gradients of the others are those of a mixture without component 1."""
    packed, x = pixels.draw(likelihood, 2, (3,))
    logscale = torch.tensor([-80.0, -95.0, -200.0])
    numbers = packed.unflatten(1, (-1, 3))  # of each kind of number those of the three components
    kinds = 3 if likelihood.channels == 3 else 2
    for c in range(likelihood.channels):
        numbers[:, 1 + kinds * c, 1], numbers[:, 2 + kinds * c, 1] = -2.5, logscale
    fewer = Mixture(components=2, channels=likelihood.channels)
    rest = numbers[:, :, [0, 2]].flatten(1, 2).double().requires_grad_()
    shares = torch.log_softmax(packed[:, :3].double(), 1)
    expected = pixels.nll_of(rest, x, fewer) - shares[:, [0, 2]].logsumexp(1).sum(1)
    packed.requires_grad_()
    nll = vk.nll(packed, x, likelihood=likelihood, backend=backend)
    close(nll, expected.float(), rtol=1e-5, atol=1e-5)
    ours = torch.autograd.grad(nll.sum(), packed)[0].unflatten(1, (-1, 3))
    (theirs,) = torch.autograd.grad(expected.sum(), rest)
    close(ours[:, 1:, [0, 2]].flatten(1, 2), theirs[:, 2:].float(), rtol=1e-3, atol=1e-4)
    assert not ours[:, 1:, 1].any()
    close(ours[:, 0, 1], torch.softmax(packed[:, :3], 1)[:, 1], rtol=1e-4, atol=1e-6)


@compiled
def test_any_number_of_threads_gives_the_same_bits():
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for inner in (False, True):
                packed, x = pixels.draw(RGB, 3, (1030,))
                packed = packed.movedim(1, -1).contiguous().movedim(-1, 1) if inner else packed
                results.append(pixels.outcome(lambda *a: vk.nll(*a, likelihood=RGB, backend="cpu"), packed, x))
    finally:
        torch.set_num_threads(before)
    for (nll, grad), (first, first_grad) in zip(results[2:], results[:2] * 2, strict=True):
        assert torch.equal(nll, first) and torch.equal(grad, first_grad)


# ---------------------------------------------------------------- the objective


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("latent", ["posterior", "kl"])
def test_the_objective(backend, reduction, latent):
    """The terms and all gradients of the objective are those of the sum of nll and KL, written by hand, also when the
    incoming gradient is not the expected one."""
    g = torch.Generator().manual_seed(1)
    packed, x = pixels.draw(RGB, 3, (5,), torch.float64, torch.float64)
    mu, logvar = torch.randn(2, 3, 4, generator=g, dtype=torch.float64).unbind()
    beta, rec_weight = torch.rand(2, generator=g, dtype=torch.float64).unbind()
    inputs = [t.detach().clone().requires_grad_() for t in (packed, rec_weight, beta, mu, logvar)]
    packed, rec_weight, beta, mu, logvar = inputs
    kl = vk.formulas.kl.gaussian_kl(mu, logvar).sum(1)
    loss = rec_weight * pixels.nll_of(packed, x, RGB) + beta * kl
    given = {"kl": kl} if latent == "kl" else {"mu": mu, "logvar": logvar}
    settings = {"beta": beta, "rec_weight": rec_weight, "reduction": reduction, "backend": backend}
    expected = loss if reduction == "none" else getattr(loss, reduction)()
    for _ in range(3):  # the second time the backend expects what came the first time
        terms = vk.fused_elbo(packed, x, **given, likelihood=RGB, **settings, return_terms=True)
        close(terms.loss, expected)
        close(terms.nll, pixels.nll_of(packed, x, RGB).detach())
        close(terms.kl, kl.detach())
        incoming = torch.randn(expected.shape, generator=g, dtype=torch.float64)
        for scale in (torch.ones_like(incoming), incoming):
            grads = (torch.autograd.grad(t, inputs, scale, True) for t in (terms.loss, expected))
            for a, b in zip(*grads, strict=True):
                close(a, b)


@compiled
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_forward_pass_has_computed_the_gradient(reduction, monkeypatch):
    """From the second step on the backward pass of a loss computes nothing: the incoming gradient is the expected
    one."""
    calls = []
    kernels = vk.backends.compiled.KERNELS["compiled"]
    original = kernels["pixel_backward"]
    monkeypatch.setitem(kernels, "pixel_backward", lambda *a: calls.append(a) or original(*a))
    packed, x = pixels.draw(RGB, 6, (9,))
    packed.requires_grad_()
    grads = []
    for _ in range(3):
        calls.clear()
        nll = vk.nll(packed, x, likelihood=RGB, backend="cpu", reduction=reduction)
        grads += torch.autograd.grad(nll, packed)
    assert not calls
    assert torch.equal(grads[0], grads[1]) and torch.equal(grads[1], grads[2])


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("likelihood", [Mixture(components=2), Mixture(components=2, channels=1)], ids=["rgb", "grey"])
def test_to_second_order(backend, likelihood):
    packed, x = pixels.draw(likelihood, 2, (2,), torch.float64, torch.float64, seed=3)
    packed.requires_grad_()
    f = lambda t: vk.nll(t, x, likelihood=likelihood, backend=backend)  # noqa: E731
    assert gradcheck(f, packed) and gradgradcheck(f, packed)


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_of_x_and_of_a_weight(backend):
    packed, x = pixels.draw(RGB, 2, (3,), torch.float64, torch.float64)
    x = x * 0.9 + 0.05
    weight = torch.rand(2, 1, 3, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (packed, x, weight)]
    ours = vk.nll(packed, x, likelihood=RGB, weight=weight, backend=backend)
    theirs = -(weight * pixels.truth(packed, x, RGB)).flatten(1).sum(1)
    for a, b in zip(*(torch.autograd.grad(t.sum(), inputs) for t in (ours, theirs)), strict=True):
        close(a, b)


def test_torch_func():
    packed, x = pixels.draw(RGB, 3, (5,), torch.float64, torch.float64)
    f = lambda packed, x: vk.nll(packed, x, likelihood=RGB)  # noqa: E731
    each = torch.func.vmap(torch.func.grad(lambda packed, x: f(packed[None], x[None])[0]))(packed, x)
    expected = packed.clone().requires_grad_()
    pixels.nll_of(expected, x, RGB).sum().backward()
    close(each, expected.grad)


@pytest.mark.full
@compiled
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_compiled_whole_for_any_batch(inner, weighted):
    torch._dynamo.reset()

    def step(packed, x, mu, logvar, weight):
        return vk.fused_elbo(packed, x, mu, logvar, likelihood=RGB, beta=0.5, weight=weight)

    compiled_step = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (4, 3, 6):
        packed, x = pixels.draw(RGB, batch, (5, 2), seed=batch)
        packed = layouts.LAYOUTS["innermost"](packed) if inner else packed
        mu, logvar = torch.randn(2, batch, 3).unbind()
        weight = torch.rand(batch, 1, 5, 2) if weighted else None
        inputs = [t.detach().requires_grad_() for t in (packed, mu, logvar)]
        ours, theirs = (f(inputs[0], x, *inputs[1:], weight) for f in (compiled_step, step))
        close(ours, theirs)
        for a, b in zip(*(torch.autograd.grad(t, inputs) for t in (ours, theirs)), strict=True):
            close(a, b)


@pytest.mark.full
@compiled
@pytest.mark.parametrize(("dtype", "again"), [(torch.float32, False), (torch.float64, False), (torch.bfloat16, True)])
def test_a_compiler_sees_the_gradient_in_the_forward_pass(dtype, again):
    """So the backward graph has a product, and no kernel. A gradient of 16 bits would be rounded twice."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    torch._dynamo.reset()
    graphs = []

    def keep(graph, _):
        graphs.append(str(graph.graph))
        return make_boxed_func(graph)

    packed, x = pixels.draw(RGB, 3, (5,), dtype)
    packed.requires_grad_()
    f = lambda packed: vk.nll(packed, x, likelihood=RGB, reduction="mean", backend="cpu")  # noqa: E731
    traced = torch.compile(f, fullgraph=True, backend=aot_autograd(fw_compiler=keep, bw_compiler=keep))
    ours, theirs = (torch.autograd.grad(3 * g(packed), packed)[0] for g in (traced, f))
    close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert len(graphs) == 2 and "vae_kernels.pixel.default" in graphs[0]
    assert ("pixel_backward" in graphs[1]) == again


@compiled
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(inner, dtype):
    packed, x = pixels.draw(RGB, 3, (5, 2), dtype)
    packed = layouts.LAYOUTS["innermost"](packed) if inner else packed
    x, (packed,) = layout.likelihood(x, (packed,))
    numbers = [float(n) for n in formula.numbers(*options(RGB))]
    ops = torch.ops.vae_kernels
    weight = layout.term_weight(torch.rand(3, 1, 5, 2), layout.terms_like(x, (packed,)))
    check = torch.library.opcheck
    for of_weight in (None, weight):
        check(ops.pixel.default, (RGB.name, x, packed, of_weight, numbers, True, 0.5))
        check(ops.pixel_backward.default, (torch.rand(3), RGB.name, x, packed, of_weight, numbers))
    check(ops.pixel_log_prob.default, (RGB.name, x, packed, numbers))


def test_a_vae_of_pixels_trains_and_reconstructs():
    torch.manual_seed(0)
    likelihood = Mixture(components=2)
    x = torch.randint(0, 4, (8, 3, 3, 3)).mul(85).to(torch.uint8)
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 20 * 9), torch.nn.Unflatten(1, (20, 3, 3)))
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(27, 4))
    model = vk.VAE(encoder, decoder, likelihood=likelihood, latent_shape=2)
    losses = fits.losses_of(model, x, 30, lr=0.05)
    assert losses[-1] < losses[0] - 10
    for means in (model.reconstruct(x), model.sample(5)):
        assert means.shape[1:] == x.shape[1:] and means.min() >= 0 and means.max() <= 1
    with pytest.raises(
        ValueError, match=r"likelihood: 'discretized_logistic_mixture' needs a decoder .*expected VAE\("
    ):
        vk.mlp_vae((3, 3, 3), 2, likelihood=likelihood)
