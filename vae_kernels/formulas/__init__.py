"""The formulas: maths in plain PyTorch, one file each, right in float64 and differentiable to any order.

A likelihood is a module with ``PARAMETERS`` (names, in order), ``DEFAULTS`` (values of parameters that may be left
out), ``SUPPORT`` (closed interval of valid targets, None for the whole line, or "counts" for 0, 1, 2, ..., which are
also read from integers as they are), ``nll(x, *parameters)`` and ``mean(*parameters)``, element by element. It may have
``OPTIONS`` and ``CLASS``: those of its class in vae_kernels/likelihoods.py.

One in LEVELS is a distribution over levels 0..K-1 (SUPPORT "levels", integers as they are): its one parameter has a
dimension more than x, [B, K, ...]. Its kernels are ops of their own, vae_kernels/backends/compiled/levels.py.
"""

from importlib import import_module
from typing import get_args

from ..typing import ElementName, LevelsName

LIKELIHOODS = {name: import_module(f"{__name__}.{name}") for name in get_args(ElementName)}
LEVELS = {name: import_module(f"{__name__}.{name}") for name in get_args(LevelsName)}
ALL = LIKELIHOODS | LEVELS
