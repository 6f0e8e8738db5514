"""A smooth bound: the whole line becomes the interval (low, high), and no gradient is lost.

    bounded(t) = middle + width / pi * atan( pi (t - middle) / width ),    middle = (low + high) / 2, width = high - low

    d/dt = 1 / (1 + (pi (t - middle) / width)^2)

Near the middle bounded(t) is t. The derivative is 1 there, and falls with 1 / t^2 only. So the derivative is positive
in float32 wherever |t - middle| / width < 5e18. Bounds made of tanh, sigmoid or softplus have derivatives that fall
with e^-t: in float32 these become 0 for t near 100, and a clamp has the derivative 0 everywhere outside.
"""

import math

import torch


def bounded(t, low, high):
    """t of any floating dtype, computed in float32 or float64. The result has the shape and dtype of t. Rounding may
    put the result on a bound."""
    wide = t if t.dtype == torch.float64 else t.float()
    middle, scale = (low + high) / 2, (high - low) / math.pi
    return (middle + scale * torch.atan((wide - middle) / scale)).to(t.dtype)
