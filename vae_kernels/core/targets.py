"""The check of x where a model takes x, before a network sees x."""

import torch

from . import checks

_HINTS = {
    "tuple": "; of a DataLoader's batch (x, y), give x",
    "list": "; of a DataLoader's batch [x, y], give x",
    "ndarray": ", torch.from_numpy(...)",
}


def check(name, x):
    """x as a model takes it: a dense tensor of floats, integers or bool, with a batch."""
    if not isinstance(x, torch.Tensor):
        kind = type(x).__name__
        raise TypeError(f"{name}: got {kind}, expected a tensor{_HINTS.get(kind, '')}")
    checks.tensor(name, x, checks.TARGETS)
    if x.dim() == 0:
        raise ValueError(f"{name}: got a 0-d tensor, expected the batch as dimension 0")
