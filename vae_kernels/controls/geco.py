"""GECO: the weight of the reconstruction is the Lagrange multiplier of a constraint on the reconstruction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..core import checks
from ..core.control import Control
from ..core.ranges import fraction, held, positive
from ..core.ranks import batch_mean

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Geco(Control):
    """Minimise the KL subject to a mean negative log-likelihood of at most `target` nats per sample:

        C_t      = mean_b nll_b - target
        C_ma_t   = momentum C_ma_{t-1} + (1 - momentum) C_t          (C_ma_0 = C_0)
        lambda_t = lambda_{t-1} exp(speed C_ma_t)                     minimised: KL + lambda C

    Rezende & Viola 2018, arXiv:1810.00597, algorithm 1. The target has no gradient. So the objective is
    `fused_elbo(..., rec_weight=geco, return_terms=True)`. After the backward pass, call `geco.update(terms.nll)`.
    lambda grows while the constraint is violated, and falls while the constraint is met. lambda has no bound: it grows
    for ever if the model cannot reach the target.

    target:   nats per sample. With D elements and unit variance, a mean square error of s is D (s + log(2 pi)) / 2
              nats.
    speed:    in 1 / nats: a violation of 1 / speed nats multiplies lambda by e at each step.
    momentum: in [0, 1).
    weight:   lambda at the start, > 0.

    state_dict() has "steps", "value" (lambda) and "violation" (C_ma).
    """

    SAVED = ("value", "violation")
    SHOWN = ("target", "speed", "momentum")
    violation: torch.Tensor

    def __init__(
        self,
        target: float,
        *,
        speed: float,
        momentum: float = 0.99,
        weight: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        held("target", target, dtype)
        positive("speed", speed)
        positive("weight", weight)
        held("weight", weight, dtype)
        fraction("momentum", momentum, most_included=False)
        self.target, self.speed, self.momentum = target, speed, momentum
        super().__init__(device, dtype, value=weight, violation=0.0)

    @torch.no_grad()
    def update(self, nll: torch.Tensor, *, group: ProcessGroup | None = None) -> None:
        """Do one step. Call update after the backward pass. It writes in place, and does not wait for the device.

        nll:   [B] or its mean, in nats, unweighted: `terms.nll`.
        group: None, or the process group of data parallelism, torch.distributed.group.WORLD. All ranks of the group
               must make the call. C_t is then computed from the samples of all ranks, or from the mean of their means,
               and all ranks have the same lambda. Without a group each rank has its own lambda.
        """
        checks.tensor("nll", nll)
        checks.on_device_of("value", self.value, "nll", nll)
        if not self.steps and self.value.is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "update: the first one is captured in a CUDA graph, and each replay would begin the average anew; "
                "expected a step before the capture, as CUDA graphs are warmed up"
            )
        self._begin()
        violation = (batch_mean("nll", nll.flatten(), group) - self.target).to(self.value.dtype)
        if self.steps:
            self.violation.lerp_(violation, 1 - self.momentum)
        else:
            self.violation.copy_(violation)
        self.value.mul_(torch.exp(self.speed * self.violation))
        self.steps += 1
        self._end()
