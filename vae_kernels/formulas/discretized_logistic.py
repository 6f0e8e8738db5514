"""Discretized logistic likelihood of L levels, with location loc and s = logscale, in nats: a mass, not a density.

The targets are x = k / (L - 1), k = 0 ... L - 1; `levels` is L, and 256 for 8 bits. Each x has a bin of the width
d = 1/(L - 1). p(x) is the mass of this bin under a logistic distribution with location loc and scale e^s, both in units
of x. The first and the last bin reach to infinity, so the masses sum to 1:

    p(x | loc, s) = sigmoid(upper) - sigmoid(lower),    upper, lower = (x +- d/2 - loc) e^-s
    p(0 | loc, s) = sigmoid(upper),    p(1 | loc, s) = 1 - sigmoid(lower)

(Kingma et al. 2016, arXiv:1606.04934; Salimans et al. 2017, PixelCNN++, arXiv:1701.05517, section 2.1.) Code for x in
[-1, 1] has loc' = 2 loc - 1 and s' = s + log 2. The difference of sigmoids is a product:

    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^{b - a})

With c = (x - loc) e^-s, w = d e^-s and h = w / 2, the logarithm is therefore a sum of terms >= 0. No digits cancel
where the bin is far from loc, and no eps is needed to keep the logarithm finite.

    -log p = softplus(-upper) + softplus(lower) - log(1 - e^-w)
           = max(|c| - h, 0) + log(1 + e^-(|c| + h)) + log(1 + e^-||c| - h|) - log(1 - e^-w)

For a narrow bin, w < 1, -log(1 - e^-w) = s - log d + log(1 + w r(w)), with the r and the series of
continuous_bernoulli.py. So a small mass is never computed as the difference of two large numbers.

    d/dloc = - e^-s sinh c / (cosh c + cosh h)
    d/ds = (h / sinh h) (1 + cosh c cosh h) / (cosh c + cosh h) - c sinh c / (cosh c + cosh h)

In the first and the last bin, d/dupper = -sigmoid(-upper) and d/dlower = sigmoid(lower).

x is not checked. A value between the levels gets a bin of the width d around x; a value within half a bin of 0 or 1
gets the open bin. bfloat16 does not hold all levels, and float16 does not hold them exactly: give x as float32, or as
uint8, whose values are the levels k = 0 ... L - 1.
"""

import math
from typing import TYPE_CHECKING

import torch

from ..core.ranges import count
from . import series

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

KIND = "element"
PARAMETERS = ("loc", "logscale")
DEFAULTS = {}
SUPPORT = (0.0, 1.0)


OPTIONS = {"levels": 256}


def checked(levels):
    """The options as a dict. ValueError or TypeError for options that are none."""
    count("levels", levels, 2)
    return {"levels": levels}


def numbers(levels=256):
    """The options as the kernels read them: a further parameter, 0-d, which may be left out for 256 levels."""
    return () if levels == 256 else (float(levels),)


def nll(x, loc, logscale, levels=256):
    """-log p(x | loc, logscale) in nats, element by element.

    x and loc have one shape, to which logscale broadcasts. All have one floating dtype, which the result has too.
    """
    width = 1 / (levels - 1)
    return of_bin(x - loc, logscale, width, x < width / 2, x > 1 - width / 2)


def of_bin(residual, logscale, width, first, last):
    """-log of the mass of a bin, from residual = x - loc, the width of a bin, and whether the bin is the first or the
    last one."""
    root = torch.exp(logscale * -0.5)  # e^-s in two steps: for x = loc the value is finite where e^-s is inf
    centre, upper, lower = (t * root * root for t in (residual, residual + width / 2, residual - width / 2))
    below, above = _softplus(-upper), _softplus(lower)
    wide = root * root * width + 0 * centre
    narrow = wide < 1
    small, large = torch.where(narrow, wide, 0), torch.where(narrow, 1, wide)
    width_term = torch.where(
        narrow,
        logscale - math.log(width) + torch.log1p(small * series.truncated_mean(small)),
        -torch.log1p(-torch.exp(-large)),
    )
    # Near the middle of a wide logistic the same sum is written with cosh: autograd's derivative by c of the two
    # softplus terms would lose digits there.
    middle = narrow & (centre > -1) & (centre < 1)
    c, h = torch.where(middle, centre, 0), 0.5 * torch.where(middle, wide, 0)
    centre_term = torch.where(middle, torch.log(torch.cosh(c) + torch.cosh(h)) - h + math.log(2), below + above)
    return torch.where(first, below, torch.where(last, above, centre_term + width_term))


def _softplus(t):
    """log(1 + e^t), smooth at 0. torch's own softplus is not used, because it has a threshold."""
    positive = t > 0
    return torch.where(positive, t, 0) + torch.log1p(torch.exp(torch.where(positive, -t, t)))


def triton_nll(x, loc, logscale, levels):
    """The value, and its derivatives by loc and logscale; less than 2 levels stand for 256."""
    steps = tl.where(levels >= 2.0, levels - 1.0, 255.0)
    half = 0.5 * maths.reciprocal(steps)
    edge = tl.abs(x - 0.5) > 0.5 - half
    side = tl.where(x < 0.5, 1.0, -1.0)
    linear, logs, by_loc, by_scale = triton_bin(x - loc, logscale, half, maths.log1p(steps - 1.0), edge, side)
    return linear + maths.log1p(logs), by_loc, by_scale, 0.0 * levels


def triton_bin(residual, logscale, half, log_count, edge, side):
    """The value of a bin as linear + log(1 + logs), and its derivatives by loc and logscale. edge: whether the bin is
    the first one, with side 1, or the last one, with side -1. csrc/formulas/logistic_bin.h explains the steps."""
    root = maths.exp_saturated(logscale * -0.5)
    size = tl.abs(residual)
    beyond = (size - half) * root * root
    wide = root * root * (2.0 * half)
    outer = maths.exp_nonpositive((-half - size) * root * root)
    inner = maths.exp_nonpositive(-tl.abs(beyond))
    whole = maths.exp_nonpositive(-wide)
    inside, narrow = beyond < 0.0, wide < 1.0
    more, less = 1.0 + outer, 1.0 + inner
    nearer = tl.where(inside, inner, 1.0)
    inverse = maths.reciprocal(more * less)
    ratio = whole * maths.reciprocal(maths.at_least(1.0 - whole, 0.5))
    rest = tl.where(narrow, wide * maths.truncated_mean(maths.at_most(wide, 1.0)), ratio)

    slope = nearer * inverse * -maths.expm1_nonpositive(-2.0 * size * root * root)
    spread = tl.fma(nearer * more, more, tl.where(inside, outer, whole) * less * less)
    spread = 0.5 * inverse * (1.0 + rest) * spread

    towards = side * residual
    inward = towards >= 0.0
    sigmoid = tl.where(inward, outer * less, nearer * more) * inverse

    by_loc = tl.where(edge, side * sigmoid, tl.where(residual < 0.0, slope, -slope)) * root * root
    steep = tl.where(narrow, 0.0, 2.0 * half * spread) - size * slope
    steep = tl.where(edge, (towards + half) * sigmoid, steep) * root * root
    closed = narrow & (edge == 0)
    by_scale = tl.where(closed, spread, 0.0) + steep
    joined = tl.fma(outer, inner, outer + inner)
    logs = tl.where(edge, tl.where(inward, outer, inner), tl.fma(joined, rest, joined + rest))
    linear = tl.where(edge & inward, 0.0, maths.at_least(beyond, 0.0))
    return linear + tl.where(closed, logscale + log_count, 0.0), logs, by_loc, by_scale


def mean(loc, logscale, levels=256):
    """E[x] = sum_k P(x >= k d) d, of the shape and dtype of loc. It is loc only if loc is far from both ends."""
    scale, steps = torch.exp(-logscale), levels - 1
    return sum(torch.sigmoid((loc - (k - 0.5) / steps) * scale) for k in range(1, levels)) / steps
