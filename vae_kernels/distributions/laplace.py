"""The Laplace distribution (formulas/laplace.py). logscale = log(scale)."""

from torch.distributions import Laplace as TorchLaplace

from .base import real
from .of_scale import OfScale


class Laplace(OfScale):
    """Laplace(loc, scale) or Laplace(loc, logscale=...): formulas/laplace.py."""

    likelihood = "laplace"
    torch_class = TorchLaplace
    support = real
    has_rsample = True
