"""Properties that hold for every shape, stride, storage type, likelihood, reduction and weight. hypothesis draws the
cases.

Here hypothesis draws a few dozen cases of each property; `make soak` draws thousands (HYPOTHESIS_PROFILE=soak).
"""

import math
import os
from itertools import pairwise

import cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known import BACKENDS, compiled
from oracles import ORACLES
from test_bounds import elbo, linear_gaussian, log_p, posterior_of
from test_objective import compare, outcome, posterior
from torch.distributions import MultivariateNormal, kl_divergence

import vae_kernels as vk
from vae_kernels import backends
from vae_kernels.core import noise
from vae_kernels.core.objective import Draw

settings.register_profile("quick", max_examples=40, derandomize=True, database=None, deadline=None)
settings.register_profile("soak", max_examples=2000, database=None, deadline=None, print_blob=True)
settings.register_profile("soak-triton", settings.get_profile("soak"), max_examples=200)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
settings.load_profile(PROFILE)

if PROFILE == "quick":  # Triton's interpreter takes a second for each case
    BACKENDS = [name for name in BACKENDS if name != "triton"]
KERNELS = [name for name in BACKENDS if name != "torch"]
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
seeds = st.integers(0, 2**32 - 1)


@st.composite
def layouts(draw, dims, per_sample=False):
    """How a tensor with this number of dimensions lies in memory: the order of its dimensions, for each whether a gap
    follows its elements, the shift of the first element, and whether one sample is expanded to all. With per_sample,
    each sample is contiguous, except that rows may have gaps."""
    inner = draw(st.permutations(range(1, dims)))
    if per_sample:
        order, apart = [0, *inner], draw(st.booleans())
        return order, [apart and order[1:2] == [d] for d in range(dims)], draw(st.integers(0, 3)), False
    gaps = draw(st.lists(st.booleans(), min_size=dims, max_size=dims))
    return draw(st.permutations(range(dims))), gaps, draw(st.integers(0, 3)), draw(st.integers(0, 7)) == 0


def lie(t, layout):
    """t in this layout. The rest of its memory is poison."""
    order, gaps, shift, repeated = layout
    sizes = [t.shape[d] + gaps[d] for d in order]
    room = t.new_full((shift + math.prod(sizes),), math.nan if t.is_floating_point() else 1)[shift:].view(sizes)
    laid = room[tuple(slice(t.shape[d]) for d in order)].permute(sorted(range(len(order)), key=order.__getitem__))
    laid.copy_(t)
    return laid[:1].expand_as(laid) if repeated and order else laid


@st.composite
def dims(draw, largest, blocks=()):
    """The dimensions after the batch. `blocks` are sizes of one block of a kernel and more."""
    if blocks and draw(st.integers(0, 4)) == 0:
        return (draw(st.sampled_from(blocks)),)
    return tuple(draw(st.lists(st.integers(0, largest), max_size=3)))


@st.composite
def forms(draw, n):
    """The shape of a parameter that broadcasts to n dimensions, as a function of their sizes."""
    kept, left_out = draw(st.lists(st.booleans(), min_size=n, max_size=n)), draw(st.integers(0, n))
    return lambda shape: tuple(m if keep else 1 for m, keep in zip(shape, kept, strict=True))[left_out:]


@st.composite
def objectives(draw, backend, per_sample=False):
    """(the likelihood, the size of the batch, the latent dims, a function that gives (x, params, latent) of some rows).
    With per_sample, each sample has its own parameters and prior."""
    slow = backend == "triton"  # runs in the interpreter
    likelihood = draw(st.sampled_from(cases.INTERPRETED if slow else list(ORACLES)))
    shape = draw(st.integers(0, 6)), *draw(dims(5, () if slow else (127, 1031, 4099, 8209)))
    counts = cases.COUNT_DTYPES if likelihood in cases.COUNTS else []
    dtypes = draw(st.sampled_from([*cases.DTYPES, *counts]))
    form = None if per_sample else draw(st.none() | forms(len(shape)))
    x, params = cases.draw(likelihood, shape, dtypes, form, draw(seeds))
    latents = draw(dims(4, () if slow else (1025, 2300)))
    latent = posterior(shape[0], latents, dtypes[0], draw(st.booleans()), draw(seeds))
    if per_sample:
        latent[2:] = [t.expand(shape[0], *t.shape) for t in latent[2:]]
    tensors = [x, *params, *latent]
    ways = [draw(layouts(t.dim(), per_sample)) for t in tensors]

    def laid(rows=slice(None)):
        x, *others = (lie(t[rows] if per_sample else t, way) for t, way in zip(tensors, ways, strict=True))
        return x, others[: len(params)], others[len(params) :]

    return likelihood, shape[0], latents, laid


@st.composite
def weights(draw, latents):
    """beta and rec_weight: numbers or 0-d tensors; beta may also have one number for each latent."""
    # a smaller number would give denormal gradients: docs/reliability.md
    number = st.just(0.0) | st.floats(2.0**-20, 3, width=32)
    beta = draw(number | number.map(torch.tensor))
    if latents and draw(st.booleans()):
        beta = torch.linspace(0, 2, math.prod(latents)).view(latents)
    return {"beta": beta, "rec_weight": draw(number | number.map(torch.tensor))}


def sizes(likelihood, x, params, latent, reduction, beta, rec_weight):
    """A result may be a small difference of large terms, so an error is also compared with the size of the terms. For a
    value this is the sum of the absolute terms. For a gradient it is the number of elements in the sum, times the
    largest count for a likelihood of counts."""
    parts = [p.double().expand(x.shape).reshape(-1) for p in params]
    terms = vk.nll(tuple(parts), x.reshape(-1), likelihood=likelihood, backend="torch").abs()
    kl = vk.gaussian_kl(*(t.double() for t in latent[:2]), prior=latent[2:] or None, backend="torch").sum()
    largest_beta = max(torch.as_tensor(beta).flatten().tolist(), default=0.0)
    unit = float(rec_weight) * (max(1.0, x.max().item()) if likelihood in cases.COUNTS and x.numel() else 1.0)
    found = {"nll": terms.sum(), "loss": float(rec_weight) * terms.sum() + largest_beta * kl}
    found |= {f"param{i}": unit * x.numel() / max(1, p.numel()) for i, p in enumerate(params)}
    found["logvar"] = largest_beta  # the truth is autograd's gradient, which is a difference: e^ratio - 1
    return found | dict.fromkeys(("prior_mu", "prior_logvar"), largest_beta * len(x))


@pytest.mark.parametrize("backend", KERNELS)
@given(data=st.data())
def test_value_and_gradient(backend, data):
    likelihood, _, latents, laid = data.draw(objectives(backend))
    case = likelihood, *laid(), data.draw(st.sampled_from(["mean", "sum", "none"]))
    chosen = data.draw(weights(latents))
    compare(backend, *case, **chosen, sizes=sizes(*case, **chosen))


@compiled
@given(data=st.data())
def test_a_sample_does_not_depend_on_the_others(data):
    """A sample has the same bits in any batch. So a permuted batch gives a permuted result, and a part of a batch gives
    a part of the result."""
    likelihood, batch, latents, laid = data.draw(objectives("cpu", per_sample=True))
    rows = torch.tensor(data.draw(st.lists(st.integers(0, batch - 1), max_size=8) if batch else st.just([]))).long()
    chosen = data.draw(weights(latents))
    incoming = torch.randn(batch, generator=torch.Generator().manual_seed(1))
    whole, part = (
        outcome("cpu", likelihood, *laid(r), "none", incoming=incoming[r], **chosen) for r in (slice(None), rows)
    )
    for name, value in part.items():
        if name != "kl_per_dim":  # kl_per_dim is a mean over the batch
            assert cases.same(value, whole[name][rows]), name


@pytest.mark.parametrize("backend", KERNELS)
@given(data=st.data())
def test_noise_is_that_of_the_place(backend, data):
    """The noise of an element depends on its place only: not on the layout of mu and logvar, not on the number of
    threads, and not on the parts into which the batch is cut."""
    shape = data.draw(st.integers(0, 6)), *data.draw(dims(5, (1025, 9001) if backend == "cpu" else ()))
    n = data.draw(st.none() | st.integers(1, 3))
    rng = torch.tensor(data.draw(st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 2)))
    module, before = backends.choose(backend, ()), torch.get_num_threads()
    zeros = [lie(torch.zeros(shape), data.draw(layouts(len(shape)))) for _ in range(2)]
    expected = noise.normals(rng, shape if n is None else (n, *shape))
    try:
        torch.set_num_threads(data.draw(st.sampled_from([1, 2, 5])))
        whole = vk.sampling._sample(*zeros, None, n, False, None, None, backend, rng)[0]
        ends = sorted({0, shape[0], *data.draw(st.lists(st.integers(0, shape[0]), max_size=3))})
        parts = [
            module.sample_kl(Draw(part, part, (), noise.of_shard(rng, a, shape[0]), n, False))[0]
            for a, part in ((a, torch.zeros(b - a, *shape[1:])) for a, b in pairwise(ends))
        ]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(whole, expected)
    assert not parts or torch.equal(torch.cat(parts, 0 if n is None else 1), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@given(
    pairs=st.lists(st.tuples(*[st.floats(width=32, allow_nan=False, allow_infinity=False)] * 2), min_size=1),
    near=st.lists(st.tuples(*[st.floats(-(2.0**-10), 2.0**-10, width=32)] * 2), min_size=1),
)
def test_the_kl_is_never_negative(backend, pairs, near):
    """The KL of any finite posterior to N(0, I) is never negative. Near the prior the KL is a difference of nearly
    equal numbers, and it must not be negative there either."""
    mu, logvar = torch.tensor(pairs + near).unbind(1)
    assert (vk.gaussian_kl(mu, logvar, backend=backend) >= 0).all()
    other = torch.tensor(near)
    mu, logvar = other.unbind(1)
    moved = (mu + other[0, 0], logvar + other[0, 1])
    assert (vk.gaussian_kl(*moved, prior=(mu, logvar), backend=backend) >= 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@given(data=st.data())
def test_a_posterior_at_its_prior_has_no_kl(backend, data):
    """If the posterior is the prior, the KL and its gradients are 0. So more dimensions of this kind change the KL only
    by the order of the sum."""
    dtype = data.draw(st.sampled_from(FLOATS))
    mu, logvar = posterior(data.draw(st.integers(1, 5)), (data.draw(st.integers(0, 40)),), dtype, seed=data.draw(seeds))
    prior = [t.clone().requires_grad_() for t in (mu, logvar)]
    kl = vk.gaussian_kl(mu, logvar, prior=prior, backend=backend)
    assert not kl.any() and not any(g.any() for g in torch.autograd.grad(kl.sum(), prior))
    zeros = torch.zeros(len(mu), data.draw(st.integers(1, 40)), dtype=dtype)
    alone, wider = (
        vk.gaussian_kl(torch.cat([mu, z], 1), torch.cat([logvar, z], 1), backend=backend) for z in (zeros[:, :0], zeros)
    )
    # a sum of n terms >= 0 has n - 1 roundings in any order; each is at most half an eps relative to the sum
    assert ((wider - alone).abs() <= mu.shape[1] * torch.finfo(kl.dtype).eps * alone).all()


@pytest.mark.parametrize("backend", BACKENDS)
@given(data=st.data())
def test_dimensions_of_size_1_change_nothing(backend, data):
    likelihood, _, _, laid = data.draw(objectives(backend, per_sample=True))
    x, params, latent = laid()
    flat = outcome(backend, likelihood, x, params, latent, "none")
    at = data.draw(st.integers(1, x.dim()))
    params, latent = [p.unsqueeze(at) for p in params], [t.unsqueeze(t.dim()) for t in latent]
    wider = outcome(backend, likelihood, x.unsqueeze(at), params, latent, "none")
    for name, value in flat.items():
        if value is not None:
            assert cases.same(wider[name].reshape(value.shape), value), name


@pytest.mark.parametrize("backend", BACKENDS)
@given(seed=seeds, q=st.sampled_from(["near", "far", "exact"]), move=st.floats(-2, 2), stretch=st.floats(-3, 3))
def test_the_elbo_is_below_the_evidence_by_the_kl_to_the_posterior(backend, seed, q, move, stretch):
    """log p(x) - ELBO = KL(q || p(z|x)) >= 0 in a linear-Gaussian model, whose log p(x) and posterior have a closed
    form."""
    decoder, x, mu, logvar = linear_gaussian(q, seed)
    mu, logvar = mu + move, logvar + stretch
    ours, evidence = elbo(decoder, x, mu, logvar, backend=backend), log_p(decoder, x)
    gap = kl_divergence(MultivariateNormal(mu, torch.diag_embed(logvar.exp())), posterior_of(decoder, x))
    size = 1 + evidence.abs() + gap
    assert (ours <= evidence + 1e-12 * size).all()
    assert ((evidence - ours - gap).abs() <= 1e-12 * size).all()
