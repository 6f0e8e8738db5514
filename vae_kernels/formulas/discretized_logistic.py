"""Discretized logistic likelihood of 8-bit values, with location loc and s = logscale, in nats: a mass, not a density.

The targets are x = k / 255, k = 0 ... 255. Each x has a bin that is 1/255 wide. p(x) is the mass of this bin under a
logistic distribution with location loc and scale e^s, both in units of x. The first and the last bin reach to infinity,
so the masses sum to 1:

    p(x | loc, s) = sigmoid(upper) - sigmoid(lower),    upper, lower = (x +- 1/510 - loc) e^-s
    p(0 | loc, s) = sigmoid(upper),    p(1 | loc, s) = 1 - sigmoid(lower)

(Kingma et al. 2016, arXiv:1606.04934; Salimans et al. 2017, PixelCNN++, arXiv:1701.05517, section 2.1.) Code for x in
[-1, 1] has loc' = 2 loc - 1 and s' = s + log 2. The difference of sigmoids is a product:

    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^{b - a})

With c = (x - loc) e^-s, w = e^-s / 255 and h = w / 2, the logarithm is therefore a sum of terms >= 0. No digits cancel
where the bin is far from loc, and no eps is needed to keep the logarithm finite.

    -log p = softplus(-upper) + softplus(lower) - log(1 - e^-w)
           = max(|c| - h, 0) + log(1 + e^-(|c| + h)) + log(1 + e^-||c| - h|) - log(1 - e^-w)

For a narrow bin, w < 1, -log(1 - e^-w) = s + log 255 + log(1 + w r(w)), with the r and the series of
continuous_bernoulli.py. So a small mass is never computed as the difference of two large numbers.

    d/dloc = - e^-s sinh c / (cosh c + cosh h)
    d/ds = (h / sinh h) (1 + cosh c cosh h) / (cosh c + cosh h) - c sinh c / (cosh c + cosh h)

In the first and the last bin, d/dupper = -sigmoid(-upper) and d/dlower = sigmoid(lower).

x is not checked. A value between the levels gets a bin that is 1/255 wide around x; a value within half a bin of 0 or 1
gets the open bin. bfloat16 does not hold all levels, and float16 does not hold them exactly: give x as float32, or as
uint8, which is read as x / 255.
"""

import math
from typing import TYPE_CHECKING

import torch

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


def nll(x, loc, logscale):
    """-log p(x | loc, logscale) in nats, element by element.

    x and loc have one shape, to which logscale broadcasts. All have one floating dtype, which the result has too.
    """
    root = torch.exp(logscale * -0.5)  # e^-s in two steps: for x = loc the value is finite where e^-s is inf
    residual = x - loc
    centre, upper, lower = (t * root * root for t in (residual, residual + 1 / 510, residual - 1 / 510))
    below, above = _softplus(-upper), _softplus(lower)
    width = root * root / 255 + 0 * centre
    narrow = width < 1
    small, large = torch.where(narrow, width, 0), torch.where(narrow, 1, width)
    width_term = torch.where(
        narrow,
        logscale + math.log(255) + torch.log1p(small * series.truncated_mean(small)),
        -torch.log1p(-torch.exp(-large)),
    )
    # Near the middle of a wide logistic the same sum is written with cosh: autograd's derivative by c of the two
    # softplus terms would lose digits there.
    middle = narrow & (centre > -1) & (centre < 1)
    c, h = torch.where(middle, centre, 0), 0.5 * torch.where(middle, width, 0)
    centre_term = torch.where(middle, torch.log(torch.cosh(c) + torch.cosh(h)) - h + math.log(2), below + above)
    return torch.where(x < 1 / 510, below, torch.where(x > 1 - 1 / 510, above, centre_term + width_term))


def _softplus(t):
    """log(1 + e^t), smooth at 0. torch's own softplus is not used, because it has a threshold."""
    positive = t > 0
    return torch.where(positive, t, 0) + torch.log1p(torch.exp(torch.where(positive, -t, t)))


def triton_nll(x, loc, logscale):
    """The value, and its derivatives by loc and logscale. csrc/formulas/discretized_logistic.h explains the steps."""
    root = maths.exp_saturated(logscale * -0.5)
    residual = x - loc
    size = tl.abs(residual)
    beyond = (size - 0.00196078431372549) * root * root
    width = root * root * 0.00392156862745098
    outer = maths.exp_nonpositive((-0.00196078431372549 - size) * root * root)
    inner = maths.exp_nonpositive(-tl.abs(beyond))
    whole = maths.exp_nonpositive(-width)
    inside, narrow = beyond < 0.0, width < 1.0
    more, less = 1.0 + outer, 1.0 + inner
    nearer = tl.where(inside, inner, 1.0)
    inverse = maths.reciprocal(more * less)
    ratio = whole * maths.reciprocal(maths.at_least(1.0 - whole, 0.5))
    rest = tl.where(narrow, width * maths.truncated_mean(maths.at_most(width, 1.0)), ratio)

    slope = nearer * inverse * -maths.expm1_nonpositive(-2.0 * size * root * root)
    spread = tl.fma(nearer * more, more, tl.where(inside, outer, whole) * less * less)
    spread = 0.5 * inverse * (1.0 + rest) * spread

    edge = tl.abs(x - 0.5) > tl.full([], 0.49803921568627451, x.dtype)  # before Triton 3.9 a plain number is float32
    side = tl.where(x < 0.5, 1.0, -1.0)
    towards = side * residual
    inward = towards >= 0.0
    sigmoid = tl.where(inward, outer * less, nearer * more) * inverse

    by_loc = tl.where(edge, side * sigmoid, tl.where(residual < 0.0, slope, -slope)) * root * root
    steep = tl.where(narrow, 0.0, 0.00392156862745098 * spread) - size * slope
    steep = tl.where(edge, (towards + 0.00196078431372549) * sigmoid, steep) * root * root
    closed = narrow & (edge == 0)
    by_scale = tl.where(closed, spread, 0.0) + steep
    joined = tl.fma(outer, inner, outer + inner)
    logs = tl.where(edge, tl.where(inward, outer, inner), tl.fma(joined, rest, joined + rest))
    value = tl.where(edge & inward, 0.0, maths.at_least(beyond, 0.0))
    value += tl.where(closed, logscale + 5.541263545158426, 0.0) + maths.log1p(logs)  # log 255
    return value, by_loc, by_scale


def mean(loc, logscale):
    """E[x] = sum_k P(x >= k/255) / 255, of the shape and dtype of loc. It is loc only if loc is far from both ends."""
    scale = torch.exp(-logscale)
    return sum(torch.sigmoid((loc - (k - 0.5) / 255) * scale) for k in range(1, 256)) / 255
