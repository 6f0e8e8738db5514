"""What the loss costs in the user's own training step, and what the equal call of this package gains there.

The step is run in turns with the user's loss and with the equal call. The two losses are also timed alone, forward and
backward, on the tensors of a step. The largest gain that any loss could bring follows from Amdahl's law (Amdahl 1967,
doi:10.1145/1465482.1465560): a step that takes s, of which the loss takes l, is at most s / (s - l) times faster.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

COMPARED = 100  # steps in which both losses are computed
SECONDS = 6.0  # of the timing, at least


@dataclass(frozen=True)
class StepTimes:
    """A training step with the user's loss, and with the equal call of this package. Times are medians in microseconds.

    step_us      a step with the user's loss
    swapped_us   a step with the equal call
    loss_us      the user's loss alone in such a step: forward, and backward to recon, mu and logvar
    equal_us     the equal call alone, likewise
    told         whether the two steps differ by more than noise: the ranges from the 20th to the 80th percentile of
                 their times do not overlap
    compared     in how many steps both losses were computed
    difference   the largest relative difference of the two losses in these steps
    disturbed    the share of the timed runs that other programs disturbed; 0 if such runs could be left out
    where        the device and the number of threads
    """

    step_us: float
    swapped_us: float
    loss_us: float
    equal_us: float
    told: bool
    compared: int
    difference: float
    disturbed: float
    where: str

    @property
    def share(self) -> float:
        """The share of the user's loss in the step, between 0 and 1."""
        return min(self.loss_us / self.step_us, 1.0)

    @property
    def ceiling(self) -> float:
        """How many times faster the step would be with a loss that takes no time; inf if the loss takes all."""
        return 1 / (1 - self.share) if self.share < 1 else float("inf")

    @property
    def gain(self) -> float:
        """How many times faster the step is with the equal call, as measured. Below 1, the step is slower."""
        return self.step_us / self.swapped_us

    def rows(self) -> list[tuple[str, str]]:
        """(what, its value) for a report."""
        from ..timing.table import duration, factor  # the timing tool is imported only where something is timed

        measured = f"{duration(self.swapped_us)}: {self.gain:.2f}x"
        measured += "" if self.told else ", which is within the noise"
        faster = factor(self.loss_us / self.equal_us)
        found = [
            ("a step with your loss", duration(self.step_us)),
            ("of it your loss", f"{duration(self.loss_us)}, {self.share:.0%} of the step"),
            (
                "the equal call in its place",
                f"{duration(self.equal_us)}, {faster} faster",
            ),
            ("the most that any loss can gain", f"{self.ceiling:.2f}x, by Amdahl's law"),
            ("a step with the equal call", measured),
            (f"the two losses in {self.compared} steps", f"differ by at most {self.difference:.1g}, relative"),
            ("measured on", self.where),
        ]
        if self.disturbed:
            found.append(("disturbed", f"other programs disturbed {self.disturbed:.0%} of the runs: measure again"))
        return found


def measured(step: Callable[[Callable[..., Any]], Any], loss_fn: Callable[..., Any], equal: Callable[..., Any]):
    """StepTimes of step(loss_fn) and step(equal). The model of the step trains on meanwhile."""
    from ..timing.clock import CPU, Gpu, interleave, summaries

    calls, (arguments, keywords), difference = _compare(step, loss_fn, equal)
    device = next(t.device for t in tree_flatten((arguments, keywords))[0] if isinstance(t, torch.Tensor))
    clock = Gpu() if device.type == "cuda" else CPU
    losses = {"yours": loss_fn, "equal": equal}
    runs: dict[Any, Any] = {("step", name): (lambda i: (), lambda f=f: step(f)) for name, f in losses.items()}
    for name, f in losses.items():
        runs["loss", name] = (lambda i: (), _alone(f, arguments, keywords))
    times = summaries(interleave(runs, clock, SECONDS))
    whole, swapped = times["step", "yours"], times["step", "equal"]
    each = calls / COMPARED  # how often a step calls its loss
    threads = torch.get_num_threads()
    return StepTimes(
        step_us=whole["median_us"],
        swapped_us=swapped["median_us"],
        loss_us=each * times["loss", "yours"]["median_us"],
        equal_us=each * times["loss", "equal"]["median_us"],
        told=swapped["p80_us"] < whole["p20_us"] or whole["p80_us"] < swapped["p20_us"],
        compared=COMPARED,
        difference=difference,
        disturbed=max(found["disturbed"] for found in times.values()),
        where=torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"a CPU, {threads} thread{'s' * (threads > 1)}",
    )


def check(step: Any) -> None:
    """TypeError if this is no function of a loss."""
    if not callable(step):
        raise TypeError(f"step: got {type(step).__name__}, expected a function step(loss) that trains for one step")
    try:
        inspect.signature(step).bind(None)
    except TypeError:
        raise TypeError(
            f"step: got a function of {inspect.signature(step)}, expected one of the loss: def step(loss), which calls "
            "loss(recon, x, mu, logvar) in place of yours"
        ) from None
    except ValueError:  # a callable without a signature
        pass


def _compare(step, loss_fn, equal):
    """(how often the steps called the loss, the arguments of the last call, the largest relative difference of the two
    losses)"""
    last: Any = None
    differences = []

    def both(*arguments, **keywords):
        nonlocal last
        last = arguments, keywords
        value = loss_fn(*arguments, **keywords)
        with torch.no_grad():
            mine, other = value.detach().double(), equal(*arguments, **keywords).double()
            differences.append((mine - other).abs().sum() / mine.abs().sum())
        return value

    for _ in range(COMPARED):
        step(both)
    if last is None:
        raise ValueError("step: never called the loss that it was given, expected a call of loss(recon, x, mu, logvar)")
    return len(differences), last, torch.stack(differences).max().item()  # NaN, if one is NaN


def _alone(loss_fn, arguments, keywords):
    """A function that computes the loss of these tensors and its gradients."""

    def fresh(t):
        return t.detach().requires_grad_(t.requires_grad) if isinstance(t, torch.Tensor) else t

    arguments, keywords = tree_map(fresh, (arguments, keywords))
    leaves = [t for t in tree_flatten((arguments, keywords))[0] if isinstance(t, torch.Tensor) and t.requires_grad]

    def run():
        loss = loss_fn(*arguments, **keywords)
        torch.autograd.grad(loss if loss.dim() == 0 else loss.sum(), leaves, allow_unused=True)

    return run
