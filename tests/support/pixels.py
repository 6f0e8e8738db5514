"""The cases of the mixture of discretized logistics, for all backends with kernels for it: the inputs and the truth.

The truth is written here a second time, with other algebra than the formula has: each mass is a difference of two
logarithms of a sigmoid, in float64. Where a bin is far from its location, the difference is taken on the side on which
both are small. The error budget is twice the error of the plain-torch formula with that type.
"""

import math

import torch
import torch.nn.functional as F
from cases import check

import vae_kernels as vk

Mixture = vk.likelihoods.DiscretizedLogisticMixture
POSITIONS = [(), (1,), (3, 5), (2, 7, 3), (701,)]  # after the batch and the channels; 701: more than a block has
OPTIONS = {
    "default": Mixture(),
    "one component": Mixture(components=1),
    "published": Mixture(components=3, x_range=(-1, 1), min_logscale=-7.0),
    "5 bits": Mixture(components=3, levels=32),
    "grey": Mixture(components=5, channels=1),
    "two levels": Mixture(components=2, channels=1, levels=2, x_range=(0, 10)),
}


def unit(likelihood):
    low, high = likelihood.x_range
    return low, high - low, high


def draw(likelihood, batch=4, positions=(3, 5), dtype=torch.float32, of_x=torch.float32, seed=0):
    """(packed, x). Every fourth pixel of x is at an end of the range. Sample 1 has large logits, sample 2 has scales
    far below a bin, and sample 3 has locations far from x."""
    g = torch.Generator().manual_seed(seed)
    low, span, _ = unit(likelihood)
    steps, k, c = likelihood.levels - 1, likelihood.components, likelihood.channels
    level = torch.randint(0, likelihood.levels, (batch, c, *positions), generator=g)
    ends = torch.randint(0, 8, (batch, 1, *positions), generator=g)
    level = torch.where(ends == 0, 0, torch.where(ends == 1, steps, level))
    random = lambda *size: torch.randn(size, generator=g)  # noqa: E731
    logits = 2 * random(batch, k, *positions)
    loc = low + span * (level / steps).unsqueeze(2) + 0.1 * span * random(batch, c, k, *positions)
    logscale = math.log(span) - 3 + random(batch, c, k, *positions)
    parts = [loc, logscale] + ([random(batch, c, k, *positions)] if c == 3 else [])
    if batch > 3:
        logits[1] = 1000 * logits[1] + 10_000
        logscale[2] -= 5
        loc[3] += 3 * span
    packed = torch.cat([logits, torch.stack(parts, 2).flatten(1, 3)], 1)
    x = level.to(torch.uint8) if of_x == torch.uint8 else (low + span * (level.double() / steps)).to(of_x)
    return packed.to(dtype), x


def truth(packed, x, likelihood):
    """log p of each pixel, [B, 1, ...], in float64. The result is differentiable."""
    low, span, high = unit(likelihood)
    steps, k, c = likelihood.levels - 1, likelihood.components, likelihood.channels
    packed, half = packed.double(), 0.5 * span / steps
    x = low + span * (x.double() / steps) if x.dtype == torch.uint8 else x.double()
    logits, numbers = packed[:, :k], packed[:, k:].unflatten(1, (c, -1, k))
    joint = logits - logits.logsumexp(1, keepdim=True)
    for channel in range(c):
        loc, logscale = numbers[:, channel, 0], numbers[:, channel, 1]
        if likelihood.min_logscale is not None:
            logscale = torch.where(logscale < likelihood.min_logscale, likelihood.min_logscale, logscale)
        coefficients = {1: [(0, 0)], 2: [(1, 0), (2, 1)]}.get(channel, [])  # (slot of the coefficient, channel)
        for slot, before in coefficients:
            loc = loc + torch.tanh(numbers[:, slot, 2]) * x[:, before].unsqueeze(1)
        joint = joint + _log_mass(x[:, channel].unsqueeze(1), loc, logscale, half, low, high)
    return joint.logsumexp(1, keepdim=True)


def _log_mass(x, loc, logscale, half, low, high):
    upper, lower = (x - loc + half) / logscale.exp(), (x - loc - half) / logscale.exp()
    gap = (2 * half / logscale.exp()).expand_as(upper)
    inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-gap))
    return torch.where(x < low + half, F.logsigmoid(upper), torch.where(x > high - half, F.logsigmoid(-lower), inside))


def nll_of(packed, x, likelihood):
    return -truth(packed, x, likelihood).flatten(1).sum(1)


def outcome(f, packed, x):
    """(the nll, the gradient divided by the incoming gradient). The incoming gradient is random, so the division makes
    errors relative to it."""
    packed = packed.detach().requires_grad_()
    nll = f(packed, x)
    incoming = torch.randn(nll.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    (grad,) = torch.autograd.grad(nll, packed, incoming.to(nll.dtype))
    assert grad.dtype == packed.dtype and grad.shape == packed.shape
    return nll, grad.double() / incoming.to(nll.dtype).double().view(-1, *[1] * (packed.dim() - 1))


def compare(backend, packed, x, likelihood):
    """Compares values and gradients of a backend, with the numbers in their storage type. The true gradient stays in
    float64: if it were rounded to 16 bits, PyTorch's own error would be 0."""
    settings = [{"likelihood": likelihood, "backend": b} for b in (backend, "torch")]
    ours, theirs = (outcome(lambda *a, s=s: vk.nll(*a, **s), packed, x) for s in settings)
    exact = x if x.dtype == torch.uint8 else x.to(torch.float64 if packed.dtype == torch.float64 else torch.float32)
    value, grad = outcome(lambda *a: nll_of(*a, likelihood), packed.double(), exact)
    assert ours[0].dtype == (torch.float64 if packed.dtype == torch.float64 else torch.float32)
    check(ours[0], theirs[0], value, packed.dtype, "nll", size=1.0)
    scale = (grad.abs() + units(packed, likelihood)) * (1 + magnified(packed, exact, likelihood))
    check(1 + ours[1] / scale, 1 + theirs[1] / scale, 1 + grad / scale, packed.dtype, "gradient")


def magnified(packed, x, likelihood):
    """By how much the scales of a pixel magnify a rounding of x or of a location: a rounding changes (x - loc) / scale,
    and with it the probabilities of the components. [B, 1, ...]"""
    k, c, (low, high) = likelihood.components, likelihood.channels, likelihood.x_range
    numbers = packed.detach().double()[:, k:].unflatten(1, (c, -1, k))
    at = (high - low) * x.double() / (likelihood.levels - 1) + low if x.dtype == torch.uint8 else x.double()
    sizes = numbers[:, :, 0].abs() + at.abs().sum(1, keepdim=True).unsqueeze(2)
    logscale = numbers[:, :, 1].clamp(min=-math.inf if likelihood.min_logscale is None else likelihood.min_logscale)
    return (sizes * torch.exp(-logscale)).amax(2).sum(1, keepdim=True)


def units(packed, likelihood):
    """The size that each gradient may have: 1 by a logit or a log-scale, and 1 / scale by what moves a location. A
    smaller gradient is a difference of numbers of this size, whose digits float64 has lost too."""
    k, c = likelihood.components, likelihood.channels
    packed = packed.detach().double()
    numbers = packed[:, k:].unflatten(1, (c, -1, k))
    logscale = numbers[:, :, 1]
    if likelihood.min_logscale is not None:
        logscale = logscale.clamp(min=likelihood.min_logscale)
    of_loc = torch.exp(-logscale)
    parts = [of_loc, torch.ones_like(of_loc)]
    if c == 3:  # the coefficients in the places of the channels 0, 1, 2 move the locations of 1, 2, 2
        parts.append(of_loc[:, [1, 2, 2]])
    return torch.cat([torch.ones_like(packed[:, :k]), torch.stack(parts, 2).flatten(1, 3)], 1)
