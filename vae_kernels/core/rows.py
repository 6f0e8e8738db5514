"""log_total and the weight of a row: their checks, which read shape, dtype and device alone, as in checks.py."""

import torch

from ..formulas import LOG_TOTAL, ROW
from . import checks


def log_total(value, x, likelihood):
    """log_total=, [B] or [B, 1], as [B, 1, ...] with as many dimensions as x."""
    if likelihood not in LOG_TOTAL:
        if likelihood in ROW:
            why = f"{likelihood!r}, which takes the total from x"
        else:
            why = f"{likelihood!r}; expected one of {', '.join(map(repr, LOG_TOTAL))}"
        raise ValueError(f"log_total: has no effect with likelihood={why}")
    checks.tensor("log_total", value)
    checks.on_device_of("x", x, "log_total", value)
    rows = x.shape[0]
    if tuple(value.shape) not in ((rows,), (rows, 1)):
        raise ValueError(
            f"log_total: got shape {tuple(value.shape)}, expected ({rows},) or ({rows}, 1): one number for each sample "
            f"of x, {tuple(x.shape)}"
        )
    return value.reshape(rows, *[1] * (x.dim() - 1))


def observed(x):
    """The logarithm of the sum of each sample of x, [B]: -inf for a sample without counts."""
    return x.flatten(1).sum(1, dtype=torch.float64).log().float()


def total_of(model, x, log_total):
    """log_total, or the observed one of x if it is None and the model has total="observed"."""
    if log_total is None and getattr(model, "total", None) == "observed":
        return observed(x)
    return log_total


def check_weight(weight, likelihood, x):
    """The weight of a likelihood of the row kind, which has been checked against x: one number for each sample."""
    if likelihood in ROW and weight.dim() and not of_samples(weight, x):
        one = ", 1" * (x.dim() - 1)
        raise ValueError(
            f"weight: got shape {tuple(weight.shape)}, expected ({x.shape[0]}{one}) or a 0-d tensor: all elements of a "
            f"sample are one term of {likelihood!r}"
        )


def of_samples(weight, x):
    """Whether a weight, in one of the Layouts against x, has one number for each sample, or one for all."""
    return weight.dim() == 0 or (weight.dim() == x.dim() and weight.shape[1:].numel() == 1)
