"""The cases that every compiled backend must pass: shapes, storage types, layouts, forms of parameters.

The values of a case come from the oracles in float64. They are rounded to the storage types and put into memory in the
layout of the case. The truth is the result of the plain-torch formulas, in float64, for the rounded values.
"""

import numpy as np
import torch
from oracles import ORACLES

from vae_kernels.formulas import LIKELIHOODS

# One sample and none, one element and none, odd and prime sizes, more elements than a block (1024) and a task (16384)
# have.
SHAPES = [(1, 1), (1, 7), (5, 1), (4,), (0, 5), (3, 0), (8, 64), (2, 3, 5, 7), (70, 31), (3, 1031), (2, 16411)]

# (the storage type of the parameters, the storage type of x)
DTYPES = [
    (torch.float32, torch.float32),
    (torch.float64, torch.float64),
    (torch.bfloat16, torch.bfloat16),
    (torch.float16, torch.float16),
    (torch.bfloat16, torch.float32),
    (torch.float32, torch.float64),
    (torch.float32, torch.uint8),
    (torch.bfloat16, torch.uint8),
    (torch.float64, torch.uint8),
]

# further types for the likelihoods of counts, which read uint8 as a count
COUNTS = [name for name, formula in LIKELIHOODS.items() if formula.SUPPORT == "counts"]
COUNT_DTYPES = [(torch.float32, torch.int16), (torch.bfloat16, torch.int32), (torch.float64, torch.int32)]

# Triton's interpreter is slow, so only two likelihoods run all cases there: one with one parameter and one with two. A
# kernel knows no more of a likelihood than this number. test_triton_kernels.py has a few cases for the other
# likelihoods.
INTERPRETED = ("bernoulli", "gaussian")


def pairs(backends, few=INTERPRETED):
    """The (backend, likelihood) pairs of the tests."""
    return [(b, name) for b in backends if b != "torch" for name in ORACLES if b != "triton" or name in few]


# the shape of a weight, as a function of the shape of x [B, C, H, W] or of mu
WEIGHTS = {
    "number": lambda s: (),
    "row": lambda s: s[1:],
    "last": lambda s: s[-1:],
    "one_batch": lambda s: (1, *s[1:]),
    "sample": lambda s: (s[0], *[1] * (len(s) - 1)),
    "pixel": lambda s: (s[0], 1, *s[2:]),
    "element": lambda s: s,
}
WEIGHT_DTYPES = [torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64]


def weight(shape, dtype, seed=3):
    """A weight that is 0 for a third of the terms. Its first number is 0, and the weights of the last sample are 0."""
    g = torch.Generator().manual_seed(seed)
    w = torch.rand(shape, generator=g) * 2 * (torch.rand(shape, generator=g) > 1 / 3)
    if w.numel() > 1:
        w.view(-1)[0] = 0
        w[-1] = 0 if w.dim() > 1 or len(w) > 2 else w[-1]
    return w > 0 if dtype == torch.bool else w.to(dtype)


def poisoned(t, keep, seed=4):
    """t with NaN, inf and -inf where `keep` is False (keep broadcasts to t). An integer becomes -100, or 200 in
    uint8."""
    g = torch.Generator().manual_seed(seed)
    what = torch.randint(0, 3, t.shape, generator=g)
    if t.dtype == torch.bool:
        return t
    if t.is_floating_point():
        poison = torch.tensor([float("nan"), float("inf"), float("-inf")], dtype=t.dtype)[what]
    else:
        poison = torch.full_like(t, 200 if t.dtype == torch.uint8 else -100)
    return torch.where(keep, t, poison)


# each function takes a contiguous tensor [B, C, H, W] and gives an equal tensor with another layout in memory
LAYOUTS = {
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "batch_last": lambda t: t.movedim(0, 3).contiguous().movedim(3, 0),
    "rows_apart": lambda t: torch.cat([t, t], 1)[:, : t.shape[1]],
    "every_second": lambda t: torch.stack([t, t], -1)[..., 0],
    "shifted": lambda t: torch.cat([t.flatten()[:1], t.flatten()])[1:].view(t.shape),  # not aligned to a vector
}

# the shape of every parameter but the first, as a function of the shape of x [B, C, H, W]
FORMS = {
    "number": lambda s: (),
    "column": lambda s: s[1:],
    "channel": lambda s: (s[1], 1, 1),
    "one_batch": lambda s: (1, *s[1:]),
    "sample": lambda s: (s[0], 1, 1, 1),
    "element": lambda s: s,
}


def draw(likelihood, shape, dtypes=DTYPES[0], form=None, seed=0):
    """(x, params) of this shape and these storage types. `form`, a name in FORMS or a function of the shape, gives the
    shape of every parameter but the first."""
    rng = np.random.default_rng(seed)
    x, params = ORACLES[likelihood]["sample_params"](rng, shape)
    if form is not None:
        others = ORACLES[likelihood]["sample_params"](rng, FORMS.get(form, form)(shape))[1][1:]
        params = (params[0], *others)
    of_x = torch.from_numpy(np.ascontiguousarray(x))
    levels = dtypes[1] == torch.uint8 and LIKELIHOODS[likelihood].SUPPORT != "counts"
    of_x = (of_x.clamp(0, 1) * 255).round().to(torch.uint8) if levels else of_x.to(dtypes[1])
    return of_x, tuple(torch.from_numpy(np.array(p)).to(dtypes[0]) for p in params)


def check(ours, theirs, truth, dtype, what, likelihood=None, size=0.0):
    """The error must be at most twice the error of PyTorch's own operations with this type, plus a few roundings.

    An error is divided by a scale: the value plus the typical value plus `size`. So an extreme row does not hide the
    errors of the others. `size` is the size of the terms where the value is a small difference of large terms. The
    typical value is the median of the values that are not 0, because a mask makes many values 0.
    """
    assert ours.shape == truth.shape, f"{what}: shape {tuple(ours.shape)}, expected {tuple(truth.shape)}"
    if truth.numel() == 0:
        return
    ours, theirs, truth = (t.detach().double() for t in (ours, theirs, truth))
    if truth.isnan().all():  # for example the mean over an empty batch
        assert ours.isnan().all(), what
        return
    # a number that overflows in this type is inf in PyTorch, and 0 times it is NaN; there our result may be so too
    lost = ~theirs.isfinite() & truth.isfinite()
    theirs, ours = torch.where(lost, truth, theirs), torch.where(lost & ~ours.isfinite(), truth, ours)
    typical = truth[truth != 0].abs().median() if truth.any() else 0.0
    scale = truth.abs() + typical + size
    scale = torch.where(scale == 0, 1, scale)
    # The loops flush what is below the smallest normal number: so may each of 2^14 terms of a sum.
    flushed = 2**14 * torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).tiny
    error = (((ours - truth).abs() - flushed).clamp(min=0) / scale).max()
    budget = ((theirs - truth).abs() / scale).max()
    # In float64 the truth itself has a few roundings for each element, and PyTorch's error against it is 0. A formula
    # of counts has two deviances and three times Stirling's formula: tens of roundings, of terms that are larger than
    # their sum. The mixture computes this twice, and its shares depend on the difference. The discretized logistic has
    # differences of exponentials at both ends of an interval. By chance, PyTorch's own error is small on one machine
    # and not on another.
    long = likelihood in (*COUNTS, "discretized_logistic")
    roundings = 64 if likelihood in COUNTS else 16
    few = 16 if likelihood == "negative_binomial_mixture" else 8 if long else 4
    tiny = (
        roundings * torch.finfo(torch.float64).eps if dtype == torch.float64 else few * torch.finfo(torch.float32).eps
    )
    assert error <= 2 * budget + tiny, f"{what}: error {error:.2e}, PyTorch's own {budget:.2e}"


def same(a, b):
    """Whether a and b have equal bits. A NaN equals every NaN."""
    a, b, nan_a, nan_b = a.detach(), b.detach(), a.isnan(), b.isnan()
    if a.shape != b.shape or a.dtype != b.dtype or not torch.equal(nan_a, nan_b):
        return False
    a, b = a.masked_fill(nan_a, 0), b.masked_fill(nan_b, 0)
    return torch.equal(a, b) and torch.equal(a.signbit(), b.signbit())
