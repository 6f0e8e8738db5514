"""The optimal sigma: the variance of the Gaussian likelihood that fits best, in closed form.

    sigma*^2 = argmax_s2 log N(x; loc, s2 I) = mean (x - loc)^2

Rybkin et al. 2021 (sigma-VAE), arXiv:2006.13202, call this model the "optimal sigma-VAE". The variance sets the balance
of reconstruction and KL, so there is no beta to search for. A reconstruction without any error has sigma* = 0 and a
log-variance of -inf. This value has the maximum likelihood, so we clamp nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import torch

from ..core import checks
from ..core.control import Control
from ..core.ranges import fraction, held
from ..core.ranks import batch_mean
from ..typing import VarianceOver

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

OVER: tuple[VarianceOver, ...] = get_args(VarianceOver)


def optimal_logvar(loc: torch.Tensor, x: torch.Tensor, *, over: VarianceOver = "batch") -> torch.Tensor:
    """log mean (x - loc)^2, for `fused_elbo(loc, x, ..., likelihood="gaussian", obs_logvar=optimal_logvar(loc, x))`.

    The result is detached. At the optimum the derivative of the likelihood by sigma is 0. So loc gets the same gradient
    with and without detach(), if the likelihood is summed over the elements of the mean.

    loc, x: [B, ...] of one shape. x may be uint8, which is read as x / 255.
    over:   the elements of the mean. "batch": one log-variance for all elements, 0-d. "sample": one for each sample,
            [B, 1, ...]. "element": one for each element of a sample, the mean over the batch, [...].
    Returns float32, or float64 if loc is float64.
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
    """optimal_logvar over the last batches. `value`, 0-d, is the logarithm of a running mean of the mean square error.

        m_t = momentum m_{t-1} + (1 - momentum) mean (x - loc)^2;    value = log( m_t / (1 - momentum^t) )

    The division corrects the bias of m_0 = 0 (as in Adam: Kingma & Ba 2015, arXiv:1412.6980, section 3). Give the
    object as `obs_logvar=`: the next training step and the evaluation use its value. So an evaluation does not fit
    sigma to the data that it judges.

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
        held("logvar", logvar, dtype)
        self.momentum = momentum
        super().__init__(device, dtype, value=logvar, average=0.0, share=0.0)

    @torch.no_grad()
    def update(self, loc: torch.Tensor, x: torch.Tensor, *, group: ProcessGroup | None = None) -> None:
        """Add one batch. Call update after the backward pass. It writes in place, and does not wait for the device.

        loc, x: as in optimal_logvar.
        group:  None, or the process group of data parallelism, torch.distributed.group.WORLD. All ranks of the group
                must make the call. The mean is then over the elements of all ranks, and all ranks have the same value.
                Without a group each rank has its own value.
        """
        squares = _squares(loc, x)
        checks.on_device_of("value", self.value, "loc", loc)
        self._begin()
        self.average.lerp_(batch_mean("x", squares.flatten(), group).to(self.average.dtype), 1 - self.momentum)
        # 1 - momentum^t comes from the same recurrence on the device, because a captured CUDA graph cannot count steps
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
    checks.tensor("x", x, checks.TARGETS)
    if checks.tensor("loc", loc).shape != x.shape or loc.dim() == 0:
        raise ValueError(f"loc: got shape {tuple(loc.shape)}, expected [B, ...], that of x, {tuple(x.shape)}")
    checks.on_device_of("x", x, "loc", loc)
    dtype = torch.float64 if loc.dtype == torch.float64 else torch.float32
    x = x.to(dtype) / 255 if x.dtype == torch.uint8 else x.to(dtype)
    return (x - loc.detach().to(dtype)).square()
