"""Schedules: a weight (beta, rec_weight, a capacity, the nats of free bits) as a function of the step."""

import math
import warnings

import torch

from ..core import checks
from ..core.control import Control
from ..core.ranges import count, held


class Schedule(Control):
    """A weight that is a function of the step. `value` is a 0-d tensor on `device`. Call `step()` to go to the next
    step.

    For your own schedule, write a subclass with a method `curve(step)`. The value depends only on the step, so a
    resumed run continues exactly. The value is written in place, without a wait for the device. The state is the step
    count: state_dict() is {"steps": an int64 tensor}.

    delay: the number of steps at curve(0) before the curve begins.
    """

    def __init__(
        self,
        *,
        delay: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.delay = count("delay", delay)
        super().__init__(device, dtype, value=self.at(0))

    def curve(self, step: int) -> float:
        """The value `step` steps after the delay, a Python number. step >= 0."""
        raise NotImplementedError

    def at(self, step: int) -> float:
        """The value at a step, a Python number. Steps are counted from 0, and the steps of the delay are included."""
        return self.curve(max(0, count("step", step) - self.delay))

    def step(self) -> None:
        """Go to the next step. Call it after the backward pass, and between the replays of a CUDA graph."""
        if self.value.is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "step: called while a CUDA graph is captured, and each replay would write this one value; "
                "expected a call between two replays, which read the new value"
            )
        self._begin()
        self.steps += 1
        self._derive()
        self._end()

    def _derive(self):
        with torch.no_grad():
            self.value.fill_(self.at(self.steps))

    def _take(self, key, value):
        warnings.warn(
            f"{key}: the checkpoint has a tensor and not the step of a {type(self).__name__}, which stays at step "
            f'{self.steps}; set it by its load_state_dict({{"steps": n}})',
            stacklevel=2,
        )
        return True

    def __float__(self):
        return float(self.at(self.steps))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings()}steps={self.steps}, at={self.at(self.steps):g})"


class _Ramp(Schedule):
    """From start to end in `steps` steps, then constant at end. A subclass gives the form of the ramp."""

    SHOWN: tuple[str, ...] = ("length", "start", "end", "delay")

    def __init__(
        self,
        steps: int,
        start: float = 0.0,
        end: float = 1.0,
        *,
        delay: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        held("start", start, dtype)
        held("end", end, dtype)
        self.length, self.start, self.end = count("steps", steps, 1), start, end
        super().__init__(delay=delay, device=device, dtype=dtype)

    def rise(self, step: int) -> float:
        """The part of the way from start to end that is done at a step, in [0, 1]."""
        raise NotImplementedError

    def curve(self, step: int) -> float:
        # in this form a rise of 0 gives exactly start, and a rise of 1 exactly end
        rise = self.rise(step)
        return (1 - rise) * self.start + rise * self.end


class Constant(Schedule):
    """The same value at every step."""

    SHOWN = ("level",)

    def __init__(
        self,
        level: float = 1.0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        held("level", level, dtype)
        self.level = level
        super().__init__(device=device, dtype=dtype)

    def curve(self, step: int) -> float:
        return self.level


class LinearWarmup(_Ramp):
    """start + (end - start) min(1, step / steps): linear, then constant. During a delay the value is start.

    KL annealing: Bowman et al. 2016, arXiv:1511.06349, section 3.1; linear warm-up: Soenderby et al. 2016,
    arXiv:1602.02282.
    """

    def rise(self, step: int) -> float:
        return min(1.0, step / self.length)


class Cosine(_Ramp):
    """start + (end - start) (1 - cos(pi min(1, step / steps))) / 2: the slope is 0 at both ends.

    Equation 5 of Loshchilov & Hutter 2017, arXiv:1608.03983, has this half-cosine. The paper lowers a step size with
    it.
    """

    def rise(self, step: int) -> float:
        return (1 - math.cos(math.pi * min(1.0, step / self.length))) / 2


class Cyclical(_Ramp):
    """`cycles` ramps in `steps` steps. Each ramp is linear for `ratio` of its length, and then constant at end. After
    the last ramp the value stays at end.

        tau = mod(t - 1, ceil(T / M)) / (T / M);   beta = min(1, tau / R)       t from 1: our step is t - 1

    Fu et al. 2019, arXiv:1903.10145, equations 6 and 7, with T = steps, M = cycles, R = ratio. The defaults of M and R
    are the paper's. steps >= cycles, 0 < ratio <= 1.
    """

    SHOWN = ("length", "cycles", "ratio", "start", "end", "delay")

    def __init__(
        self,
        steps: int,
        cycles: int = 4,
        ratio: float = 0.5,
        start: float = 0.0,
        end: float = 1.0,
        *,
        delay: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.cycles, self.ratio = count("cycles", cycles, 1), ratio
        checks.number("ratio", ratio)
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio: got {ratio}, expected a number in (0, 1]")
        count("steps", steps, cycles)
        super().__init__(steps, start, end, delay=delay, device=device, dtype=dtype)

    def rise(self, step: int) -> float:
        if step >= self.length:
            return 1.0
        tau = step % math.ceil(self.length / self.cycles) / (self.length / self.cycles)
        return min(1.0, tau / self.ratio)
