"""The formulas: maths in plain PyTorch, one file for each formula, right in float64, differentiable to any order.

A likelihood is a module with the names of the protocol `Formula`. Backends, checks and layouts read these names and
never the name of a likelihood.
"""

from importlib import import_module
from typing import Any, Literal, Protocol, cast, get_args

import torch

from ..typing import LikelihoodName
from . import mixed

Kind = Literal["element", "position", "row", "pixel", "segments"]
"""How a formula makes terms of its parameters. A term is -log p of one part of x.

    "element"   One term for each element, of the shape of x. Each parameter has the shape of x or broadcasts to x; the
                first parameter has the shape of x.
    "position"  K numbers become one term. The one parameter is logits [B, K, ...] beside x [B, ...], and the terms have
                the shape of x. Its ops: backends/compiled/position.py.
    "row"       All elements of a sample become one term, [B], by a soft-max over the elements. The one parameter is
                logits of the shape of x. An element formula with log_total is computed as a row too (shares.py).
    "pixel"     All channels of a pixel become one term: x is [B, C, ...], and the terms are [B, 1, ...]. The one
                parameter is [B, P, ...], P numbers for each pixel. Its ops: backends/compiled/pixel.py.
    "segments"  x is a table, and each column becomes one term, [B, columns], by a formula of its own. The columns are
                an option of the likelihood: these likelihoods have no name that stands alone. SEGMENTS has them, and
                ALL does not. Its ops: backends/compiled/segments.py.
"""


class Formula(Protocol):
    """What a file of this folder defines, if it is a likelihood.

    KIND             how the formula makes terms of its parameters
    PARAMETERS       the names of the parameters, in order
    DEFAULTS         the values of the parameters that may be left out
    SUPPORT          the valid targets: a closed interval; None for the whole line; "counts" for 0, 1, 2, ...; "levels"
                     for 0..K-1. Integer targets are scaled for an interval only.
    OPTIONS, CLASS   optional: the options and the name of its class in vae_kernels/likelihoods.py
    checked, numbers  beside OPTIONS: checked(**options) gives the options as a dict, or an error, and numbers(*options)
                     gives them as the kernels read them. `nll` and `mean` take the options behind the parameters.
    support          optional, beside OPTIONS: support(*options) is the SUPPORT with these options
    sizes            of the pixel kind: sizes(*options) is (C, P)
    LOG_TOTAL        optional: True if log_total= makes the first parameter logits of shares (shares.py)
    SUM_ALIKE        optional, beside LOG_TOTAL: True if the sum n of a row has this likelihood of log_total, and the
                     row given n is multinomial
    ELEMENT          of the row kind: the module of the formula of one element
    lean_nll         optional, of the element kind: lean_nll(x, *parameters, into=, new=) is (value, factor, constant)
                     of the elements of a matrix, with few operations and without autograd: -log p is factor * value +
                     constant. `into` has for each given parameter a tensor of the shape of x for the derivative, or
                     None where no derivative is wanted; new() gives such a tensor without values. A parameter may
                     broadcast to x.
                     The function is right in float32, and in float64 unless SUPPORT is "counts" (backends/lean).
                     It has no torch.where, which takes as long as ten additions on a CPU
    lean_sum         optional, beside lean_nll: lean_sum(x, *parameters) is the sum of -log p over all elements, from
                     one operation of PyTorch that autograd knows
    """

    KIND: Kind
    PARAMETERS: tuple[str, ...]
    DEFAULTS: dict[str, float]
    SUPPORT: Any

    def nll(self, x: torch.Tensor, *parameters: Any) -> torch.Tensor:
        """-log p(x): the terms, in nats."""
        ...

    def mean(self, *parameters: Any) -> torch.Tensor:
        """E[x], of the shape of x."""
        ...


ALL = {name: cast(Formula, import_module(f"{__name__}.{name}")) for name in get_args(LikelihoodName)}
ELEMENT = {name: formula for name, formula in ALL.items() if formula.KIND == "element"}
POSITION = {name: formula for name, formula in ALL.items() if formula.KIND == "position"}
ROW = {name: formula for name, formula in ALL.items() if formula.KIND == "row"}
PIXEL: dict[str, Any] = {name: formula for name, formula in ALL.items() if formula.KIND == "pixel"}
LOG_TOTAL = {name: formula for name, formula in ALL.items() if getattr(formula, "LOG_TOTAL", False)}
SEGMENTS = {"mixed": mixed}
LIKELIHOODS, LEVELS = ELEMENT, POSITION  # the names of version 0.1


def of_kernels(formula: Formula) -> int:
    """How many parameters the kernels of an element formula take: its own, and its options."""
    return len(formula.PARAMETERS) + len(getattr(formula, "OPTIONS", ()))


def is_row(likelihood: str, log_total: torch.Tensor | None) -> bool:
    """Whether a request has a soft-max over the elements of a sample."""
    return log_total is not None or likelihood in ROW
