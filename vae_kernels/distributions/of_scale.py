"""The parameters loc and scale or logscale, which two families have: logscale = log(scale)."""

from typing import Any

import torch

from ..typing import Backend
from .base import FusedDistribution, Value, always_given, parameter, positive, real


class OfScale(FusedDistribution):
    forms = ((("loc",),), (("scale",), ("logscale",)))
    torch_forms = (("loc", "scale"),)
    arg_constraints = {"loc": real, "scale": positive, "logscale": real}

    def __init__(
        self,
        loc: Value,
        scale: Value | None = None,
        validate_args: bool | None = None,
        *,
        logscale: Value | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__({"loc": loc, "scale": scale, "logscale": logscale}, backend, validate_args)

    loc = always_given("loc")

    @parameter
    def scale(given: Any):
        return torch.exp(given.logscale)

    @parameter
    def logscale(given: Any):
        return torch.log(given.scale)
