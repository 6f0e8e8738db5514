"""The check of x where a model takes x, before a network sees x."""

from contextlib import contextmanager

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


@contextmanager
def named(name):
    """An error about `x` becomes an error about the argument that the user has given."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if not str(error).startswith("x: "):
            raise
        raise type(error)(name + str(error)[1:]) from error
