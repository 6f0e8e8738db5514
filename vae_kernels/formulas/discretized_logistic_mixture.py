"""Mixture of K discretized logistics for the pixels of an image with L levels, in nats: one joint mass for each pixel.

A pixel x has C channels, and the decoder gives 3 K numbers for a pixel with C = 1, and 10 K numbers with C = 3. The
packing is the one of PixelCNN++, VDVAE and NVAE, along dimension 1:

    a_k                           K logits of the mixture
    for each channel c:  m_ck     K locations
                         s_ck     K logarithms of scales
                         r_ck     K coefficients, only where C = 3

The components are logistics, discretized as in discretized_logistic.py, and the location of a channel depends on the
channels before it. With t_ck = tanh r_ck:

    p(x) = sum_k softmax(a)_k  prod_c p(x_c | l_ck, s_ck)
    l_0k = m_0k,    l_1k = m_1k + t_0k x_0,    l_2k = m_2k + t_1k x_0 + t_2k x_1

    -log p(x) = log sum_k e^{a_k} - log sum_k e^{a_k + sum_c log p(x_c | l_ck, s_ck)}

(Salimans et al. 2017, PixelCNN++, arXiv:1701.05517, sections 2.1 and 2.2; Child 2021, VDVAE, arXiv:2011.10650; Vahdat
and Kautz 2020, NVAE, arXiv:2007.03898.) Let q_k be the softmax of a_k + sum_c log p(x_c | l_ck, s_ck): the probability
of component k when x is known. The derivatives of the sum over the channels are those of discretized_logistic.py:

    d/da_k = softmax(a)_k - q_k,    d/dm_ck = q_k d_ck  with  d_ck = -d log p(x_c | l_ck, s_ck) / dl_ck
    d/dr_0k = q_k d_1k x_0 (1 - t_0k^2),    d/dr_1k = q_k d_2k x_0 (1 - t_1k^2),    d/dr_2k = q_k d_2k x_1 (1 - t_2k^2)

Options: components is K, channels is C, and levels is L. The values of x lie in x_range = (low, high): level k is
low + k (high - low) / (L - 1), and locations and scales have the same unit. uint8 holds the level k itself.
min_logscale is None, or the least logarithm of a scale: a smaller s counts as min_logscale and gets no gradient.

The published codes use x_range=(-1, 1) and min_logscale=-7.0; with both options, a decoder that was trained there gives
its values here. They differ in one point: where a mass is below 1e-5, the codes take the density in the middle of the
bin times its width; here the mass is exact.

x is not checked: see discretized_logistic.py.
"""

import math
from typing import TYPE_CHECKING, Any

import torch

from ..core.ranges import count, number
from . import discretized_logistic

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

KIND = "pixel"
PARAMETERS = ("packed",)
DEFAULTS = {}
SUPPORT = (0.0, 1.0)  # of the default x_range
OPTIONS = {"components": 10, "levels": 256, "channels": 3, "x_range": (0.0, 1.0), "min_logscale": None}
WIDTHS = {1: 3, 3: 10}  # {channels of x: numbers for each component}


def checked(components, levels, channels, x_range, min_logscale):
    """The options as a dict. ValueError or TypeError for options that are none."""
    count("components", components, 1)
    count("levels", levels, 2)
    count("channels", channels, 1)
    if channels not in WIDTHS:
        raise ValueError(f"channels: got {channels}, expected 1 or 3")
    if not isinstance(x_range, (tuple, list)) or len(x_range) != 2:
        raise TypeError(f"x_range: got {x_range!r}, expected a pair of numbers (low, high)")
    for name, value in zip(("x_range[0]", "x_range[1]"), x_range, strict=True):
        number(name, value)
    low, high = map(float, x_range)
    if not low < high:
        raise ValueError(f"x_range: got {x_range!r}, expected (low, high) with low < high")
    if min_logscale is not None:
        number("min_logscale", min_logscale)
        min_logscale = float(min_logscale)
    names = {"components": components, "levels": levels, "channels": channels}
    return names | {"x_range": (low, high), "min_logscale": min_logscale}


def numbers(components=10, levels=256, channels=3, x_range=(0.0, 1.0), min_logscale=None):
    """The options as the kernels read them."""
    return float(levels), *x_range, -math.inf if min_logscale is None else min_logscale


def support(components=10, levels=256, channels=3, x_range=(0.0, 1.0), min_logscale=None):
    """The closed interval of x."""
    return x_range


def sizes(components=10, levels=256, channels=3, x_range=(0.0, 1.0), min_logscale=None):
    """(channels of x, numbers that the decoder gives for each pixel)."""
    return channels, WIDTHS[channels] * components


def nll(x, packed, components=10, levels=256, channels=3, x_range=(0.0, 1.0), min_logscale=None):
    """-log p of each pixel in nats, [B, 1, ...]; x [B, C, ...], floating or uint8; packed [B, 3 K or 10 K, ...]."""
    (low, high), dtype = x_range, packed.dtype
    logits, loc, logscale, tanhs = unpacked(packed, channels, min_logscale)
    x = values(x, dtype, levels, x_range).unsqueeze(2)
    if channels == 3:
        loc = torch.stack([loc[:, 0], *_conditional(loc, tanhs, x)], 1)
    width = (high - low) / (levels - 1)
    first, last = x < low + width / 2, x > high - width / 2
    each = discretized_logistic.of_bin(x - loc, logscale, width, first, last)  # [B, C, K, ...]
    return -torch.logsumexp(torch.log_softmax(logits, 1) - each.sum(1), 1, keepdim=True)


def values(x, dtype, levels, x_range):
    """x as numbers in x_range."""
    low, high = x_range
    return x.to(dtype) / (levels - 1) * (high - low) + low if x.dtype == torch.uint8 else x.to(dtype)


def unpacked(packed, channels, min_logscale) -> Any:
    """(a [B, K, ...], m [B, C, K, ...], s [B, C, K, ...], t [B, C, K, ...] or None) of the decoder's output."""
    width = WIDTHS[channels]
    components = packed.shape[1] // width
    rest = packed[:, components:].unflatten(1, (channels, (width - 1) // channels, components))
    loc, logscale = rest[:, :, 0], rest[:, :, 1]
    logscale = logscale if min_logscale is None else logscale.clamp(min=min_logscale)
    return packed[:, :components], loc, logscale, torch.tanh(rest[:, :, 2]) if channels == 3 else None


def _conditional(loc, tanhs, x):
    """The locations of the channels 1 and 2, given the channels before them."""
    return loc[:, 1] + tanhs[:, 0] * x[:, 0], loc[:, 2] + tanhs[:, 1] * x[:, 0] + tanhs[:, 2] * x[:, 1]


def triton_channel(x, loc, logscale, width, ends, least):
    """Of one channel under a component: the value as linear + log(1 + logs), and the derivatives by loc and logscale.
    width: half of a bin, and log(1 / bin). ends: x is in the first bin below the first of them, and in the last bin
    above the second. least: the least logscale, or None."""
    scale, below = logscale, logscale != logscale
    if least is not None:
        below = logscale < least
        scale = tl.where(below, least, logscale)
    first, last = x < ends[0], x > ends[1]
    side = tl.where(first, 1.0, -1.0)
    bin = discretized_logistic.triton_bin(x - loc, scale, width[0], width[1], first | last, side)
    by_scale = bin[3]
    if least is not None:
        by_scale = tl.where(below, 0.0, by_scale)
    return bin[0], bin[1], bin[2], by_scale


def triton_tanh(r):
    """tanh r and 1 - tanh^2 r."""
    r2 = -2.0 * tl.abs(r)
    e = maths.exp_nonpositive_to_an_ulp(r2)
    inverse = maths.reciprocal(1.0 + e)
    size = -maths.expm1_nonpositive(r2) * inverse
    return tl.where(r < 0.0, -size, size), 4.0 * e * inverse * inverse


def triton_grey(x, p, width, ends, least):
    """-log p of a pixel of one channel under a component with the numbers p, and the derivatives by p."""
    linear, logs, by_loc, by_scale = triton_channel(x[0], p[0], p[1], width, ends, least)
    return linear + maths.log1p(logs), (by_loc, by_scale)


def triton_rgb(x, p, width, ends, least):
    """The same of a pixel of three channels. csrc/formulas/discretized_logistic_mixture.h has the order of p."""
    t0, slope0 = triton_tanh(p[2])
    t1, slope1 = triton_tanh(p[5])
    t2, slope2 = triton_tanh(p[8])
    red = triton_channel(x[0], p[0], p[1], width, ends, least)
    green = triton_channel(x[1], tl.fma(t0, x[0], p[3]), p[4], width, ends, least)
    blue = triton_channel(x[2], tl.fma(t2, x[1], tl.fma(t1, x[0], p[6])), p[7], width, ends, least)
    logs = tl.fma(red[1], green[1], red[1] + green[1])
    logs = tl.fma(logs, blue[1], logs + blue[1])
    value = red[0] + green[0] + blue[0] + maths.log1p(logs)
    by_0, by_1, by_2 = green[2] * x[0] * slope0, blue[2] * x[0] * slope1, blue[2] * x[1] * slope2
    return value, (red[2], red[3], by_0, green[2], green[3], by_1, blue[2], blue[3], by_2)


def mean(packed, components=10, levels=256, channels=3, x_range=(0.0, 1.0), min_logscale=None):
    """E[x], [B, C, ...]: of each component the mean of channel 0, then of each further channel the mean given the means
    of the channels before it. Up to the ends of x_range, where a location has no straight effect on the mean, this is
    E[x]; of channel 0 it is E[x] everywhere."""
    logits, loc, logscale, tanhs = unpacked(packed, channels, min_logscale)
    low, high = x_range
    shares, means = torch.softmax(logits, 1), []
    for c in range(channels):
        at = loc[:, c]
        for source, to, i in _CONDITIONS:
            at = at + tanhs[:, i] * means[source] if to == c else at
        unit, scale = (at - low) / (high - low), logscale[:, c] - math.log(high - low)
        means.append(low + (high - low) * discretized_logistic.mean(unit, scale, levels))
    return (torch.stack(means, 1) * shares.unsqueeze(1)).sum(2)


_CONDITIONS = ((0, 1, 0), (0, 2, 1), (1, 2, 2))  # (channel, the later channel, the index of the coefficient)


def sample(packed, components=10, levels=256, channels=3, x_range=(0.0, 1.0), min_logscale=None, *, generator=None):
    """A draw of x, [B, C, ...], in x_range: of the component, then of one channel after another, as levels."""
    logits, loc, logscale, tanhs = unpacked(packed, channels, min_logscale)
    low, high = x_range
    uniform = torch.rand(logits.shape, dtype=logits.dtype, device=logits.device, generator=generator)
    chosen = (logits - torch.log(-torch.log(uniform))).argmax(1, keepdim=True)  # Gumbel's way to draw a component
    of_one = lambda t: t.gather(1, chosen).squeeze(1)  # noqa: E731
    drawn = []
    for c in range(channels):
        at = of_one(loc[:, c])
        for source, to, i in _CONDITIONS:
            at = at + of_one(tanhs[:, i]) * drawn[source] if to == c else at
        uniform = torch.rand(at.shape, dtype=at.dtype, device=at.device, generator=generator)
        level = ((at + of_one(logscale[:, c]).exp() * torch.logit(uniform) - low) / (high - low) * (levels - 1)).round()
        drawn.append(low + (high - low) * (level.clamp(0, levels - 1) / (levels - 1)))
    return torch.stack(drawn, 1)
