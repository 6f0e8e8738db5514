"""The formulas: maths in plain PyTorch, one file for each formula, right in float64, differentiable to any order.

A likelihood is a module with these names:

    PARAMETERS            the names of the parameters, in order
    DEFAULTS              the values of the parameters that may be left out
    SUPPORT               the valid targets: a closed interval, None for the whole line, or "counts" for 0, 1, 2, ...
                          Integer targets of a count likelihood are not scaled.
    nll(x, *parameters)   -log p(x), element by element
    mean(*parameters)     E[x], element by element
    OPTIONS, CLASS        optional: the options and the name of its class in vae_kernels/likelihoods.py

A likelihood in LEVELS is a distribution over the levels 0..K-1. Its SUPPORT is "levels": integer targets are not
scaled. Its one parameter [B, K, ...] has one dimension more than x. It has ops of its own:
vae_kernels/backends/compiled/levels.py.
"""

from importlib import import_module
from typing import get_args

from ..typing import ElementName, LevelsName

LIKELIHOODS = {name: import_module(f"{__name__}.{name}") for name in get_args(ElementName)}
LEVELS = {name: import_module(f"{__name__}.{name}") for name in get_args(LevelsName)}
ALL = LIKELIHOODS | LEVELS
