"""A warning for targets that the likelihood cannot explain, such as images in [-1, 1] beside "bernoulli".

To read x takes a sixth of the time of a small loss. So not every call reads x: the calls 1, 2, 4, 8, ... of each
likelihood do. Data that is scaled wrongly is wrong in the first batch. To count a call takes 0.2 us.
"""

import math
import sys
import warnings

import torch

from ..likelihoods import with_options
from ..typing import LikelihoodLike
from . import support
from .objective import Objective

SLACK = 1e-3
"""What x may lie outside an interval: the rounding of 16 bits, and of a resized image."""

_INSIDE = f"{__name__.partition('.')[0]}.", "torch."
_calls: dict[str, int] = {}  # how often each likelihood has been computed
_warned: set[str] = set()


def look(request: Objective) -> None:
    """Warn, once for each likelihood, if x of this request is outside the support. An element of weight 0 is missing
    and may be anything. Nothing is read while a compiler or a transform traces, or on a GPU, which would be waited for.
    """
    if torch.compiler.is_compiling():
        return
    name = request.settings.likelihood
    calls = _calls[name] = _calls.get(name, 0) + 1
    if not calls & (calls - 1) and name and name not in _warned:
        found = _found(with_options(name, request.settings.options), request.x, request.weight)
        if found is not None:
            _warned.add(name)
            text = f"x: {found}, for which likelihood={name!r} has no probability"
            warnings.warn(text, stacklevel=_levels_to_the_user())


@torch.no_grad()
def _found(likelihood: LikelihoodLike, x, weight):
    """What is wrong with x, in words; or None. Of levels, K is not known here, and the kernels give a NaN."""
    low, high = support.limits(likelihood)
    # A likelihood without options takes values between the levels: the values of a resized picture, for example.
    steps = None if isinstance(likelihood, str) else support.steps_of(likelihood)
    scaled = steps is not None and support.scaled(likelihood, x.dtype)
    read_by_kernel = x.dtype in (torch.uint8, torch.bool) and not scaled
    if low == -math.inf or support.of(likelihood) == "levels" or read_by_kernel:
        return None
    if not x.numel() or not _readable(x, weight):
        return None
    x = support.read(x, likelihood, torch.float64)
    if weight is not None:
        x = x[(weight != 0).expand_as(x)]
    least, most = (t.item() for t in x.aminmax()) if x.numel() else (low, low)
    counts, expected = support.whole(likelihood), support.expected(likelihood)
    slack = 0.0 if counts else SLACK
    if least < low - slack or most > high + slack:
        return f"got values from {least:g} to {most:g}, expected {expected}"
    if steps is not None and (off := x[support.off_levels(x, likelihood)]).numel():
        return f"got values such as {off[0]:g} that are none of the {steps + 1} levels"
    fractions = x[(x != x.floor()) & x.isfinite()]
    return f"got fractions such as {fractions[0]:g}, expected {expected}" if counts and len(fractions) else None


def _levels_to_the_user():
    """The stacklevel of warnings.warn that names the line outside of this package, and outside of torch, which calls a
    module."""
    frame, levels = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_INSIDE):
        frame, levels = frame.f_back, levels + 1
    return levels


def _readable(*tensors):
    """Whether these are plain tensors with values, on the CPU, outside of every transform and tracer."""
    if (
        torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
    ):
        return False
    return all(t is None or (type(t) in (torch.Tensor, torch.nn.Parameter) and t.is_cpu) for t in tensors)
