"""uint8 beside a likelihood whose levels are not those of 8 bits."""

import torch

from ..formulas import ELEMENT
from ..likelihoods import name_of


def read(x, params, likelihood):
    """x as the kernels read it. The kernels read uint8 as x / 255: other levels than 256 become x / (levels - 1) here,
    in the type that the likelihood is computed in."""
    levels = number_of(likelihood)
    if x.dtype != torch.uint8 or levels == 256 or name_of(likelihood) not in ELEMENT:
        return x
    dtype = torch.float64 if any(p.dtype == torch.float64 for p in params) else torch.float32
    return x.to(dtype) / (levels - 1)


def number_of(likelihood):
    """The number of levels that uint8 is read with: the option `levels`, or 256."""
    return 256 if isinstance(likelihood, str) else getattr(likelihood, "levels", 256)
