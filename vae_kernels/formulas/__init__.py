"""The formulas: maths in plain PyTorch, one file for each formula, right in float64, differentiable to any order.

A likelihood is a module with these names:

    PARAMETERS            the names of the parameters, in order
    DEFAULTS              the values of the parameters that may be left out
    SUPPORT               the valid targets: a closed interval, None for the whole line, or "counts" for 0, 1, 2, ...
                          Integer targets of a count likelihood are not scaled.
    nll(x, *parameters)   -log p(x), element by element
    mean(*parameters)     E[x], element by element
    OPTIONS, CLASS        optional: the options and the name of its class in vae_kernels/likelihoods.py

There are two kinds. An element formula (ELEMENT) turns one element of x into one term. A position formula (POSITION)
turns the K logits of a position into one term: its one parameter [B, K, ...] has one dimension more than x, and its
SUPPORT is "levels", the integers 0..K-1, which are not scaled. The position kind has ops of its own:
vae_kernels/backends/compiled/position.py.
"""

from importlib import import_module
from typing import get_args

from ..typing import ElementName, PositionName

ELEMENT = {name: import_module(f"{__name__}.{name}") for name in get_args(ElementName)}
POSITION = {name: import_module(f"{__name__}.{name}") for name in get_args(PositionName)}
ALL = ELEMENT | POSITION
LIKELIHOODS, LEVELS = ELEMENT, POSITION  # the names of version 0.1
