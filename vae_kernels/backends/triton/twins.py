"""The Triton twins of the formulas, compiled by Triton: kernels take these functions as arguments."""

import torch
import triton
import triton.language as tl

from ...formulas import ALL, ELEMENT, ROW, SEGMENTS, kl, mixture, reparameterize
from . import counts, maths

for _module in (*ALL.values(), *SEGMENTS.values(), kl, mixture, reparameterize):
    _module.tl, _module.maths, _module.tile_counts = tl, maths, counts
    for _name in [name for name in vars(_module) if name.startswith("triton_")]:  # one twin may call another
        setattr(_module, _name, triton.jit(getattr(_module, _name)))
NLL = {name: formula.triton_nll for name, formula in ELEMENT.items()}
NLL |= {name: formula.ELEMENT.triton_nll for name, formula in ROW.items()}  # of an element
KL = kl.triton_gaussian_kl
SAMPLE = reparameterize.triton_reparameterize
DTYPES = {torch.float32: tl.float32, torch.float64: tl.float64}
