"""The optimal sigma: the variance of the Gaussian likelihood that fits best, in closed form.

    sigma*^2 = argmax_s2 log N(x; loc, s2 I) = mean (x - loc)^2

Rybkin et al. 2021 (sigma-VAE), arXiv:2006.13202, the "optimal sigma-VAE". It sets the balance of
reconstruction and KL, in place of a beta that is searched for. A reconstruction without any error has sigma* = 0, whose
logarithm is -inf: that is the maximum likelihood, and nothing is clamped.
"""

import math
from typing import get_args

import torch

from ..core import checks
from ..core.control import Control
from ..core.ranges import fraction
from ..typing import VarianceOver

OVER: tuple[VarianceOver, ...] = get_args(VarianceOver)


def optimal_logvar(loc: torch.Tensor, x: torch.Tensor, *, over: VarianceOver = "batch") -> torch.Tensor:
    """log mean (x - loc)^2, for `fused_elbo(loc, x, ..., likelihood="gaussian", obs_logvar=optimal_logvar(loc, x))`.

    Detached: at the optimum the derivative of the likelihood by sigma is 0, so the gradient of loc is the same either
    way where the mean is taken over the same elements.

    loc, x: [B, ...] of one shape; x also uint8, read as x / 255.
    over:   "batch": one for all, 0-d; "sample": one for each, [B, 1, ...]; "element": one for each element of the
            event, over the batch, [...].
    Returns float32, or float64 if loc is.
    """
    checks.choice("over", over, OVER)
    squares = _squares(loc, x)
    if over == "batch":
        return squares.mean().log()
    if over == "element":
        return squares.mean(0).log()
    dims = tuple(range(1, squares.dim()))
    return (squares.mean(dims, keepdim=True) if dims else squares).log()


class RunningLogvar(Control):
    """optimal_logvar over the last batches: a running mean of the mean square, and its logarithm in `value`, 0-d.

        m_t = momentum m_{t-1} + (1 - momentum) mean (x - loc)^2;    value = log( m_t / (1 - momentum^t) )

    The division makes up for m_0 = 0 (as Adam does: Kingma & Ba 2015, arXiv:1412.6980, section 3). Hand over the object
    as `obs_logvar=`: the value serves the next step, and evaluation, where a sigma must not see what it is judged on.

    logvar: the value before the first update.
    state_dict() has "steps", "value", "average" (m_t) and "share" (1 - momentum^t).
    """

    SAVED = ("value", "average", "share")
    SHOWN = ("momentum",)
    average: torch.Tensor
    share: torch.Tensor

    def __init__(
        self,
        momentum: float = 0.99,
        *,
        logvar: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        fraction("momentum", momentum, most_included=False)
        checks.number("logvar", logvar)
        self.momentum = momentum
        super().__init__(device, dtype, value=logvar, average=0.0, share=0.0)

    @torch.no_grad()
    def update(self, loc: torch.Tensor, x: torch.Tensor) -> None:
        """One batch, as in optimal_logvar. In place, without a sync; after the backward pass."""
        squares = _squares(loc, x)
        checks.on_device_of("value", self.value, "loc", loc)
        self._begin()
        self.average.lerp_(squares.mean().to(self.average.dtype), 1 - self.momentum)
        # 1 - momentum^t by the same recurrence, on the device: a captured CUDA graph does not count steps
        self.share.lerp_(torch.ones_like(self.share), 1 - self.momentum)
        self.value.copy_(torch.log(self.average / self.share))
        self.steps += 1
        self._end()

    def _take(self, key, value):
        if value.dim():
            return False
        self._write(self.steps, {"value": value, "average": value.exp(), "share": torch.ones_like(value)})
        return True

    def __setstate__(self, state):
        super().__setstate__(state)
        if "share" not in self.__dict__:  # pickled by 0.1
            self.share = torch.full_like(self.value, 1 - self.momentum**self.steps)
            self._starts["share"] = math.nan

    def _needed(self):
        return ("steps", "value", "average")

    def _complete(self, steps, found):
        """A state of 0.1 has no share."""
        return {"share": torch.tensor(1 - self.momentum**steps, device="cpu")} | found


def _squares(loc, x):
    checks.parameters(loc, x, "gaussian", None)
    dtype = torch.float64 if loc.dtype == torch.float64 else torch.float32
    x = x.to(dtype) / 255 if x.dtype == torch.uint8 else x.to(dtype)
    return (x - loc.detach().to(dtype)).square()
