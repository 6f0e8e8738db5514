"""The checks of x and of the networks, where a model takes them."""

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


def network(name, module):
    """encoder or decoder: a module, or another callable."""
    if isinstance(module, type):
        raise TypeError(f"{name}: got the class {module.__name__}, expected a module, {module.__name__}(...)")
    if not callable(module):
        raise TypeError(f"{name}: got {type(module).__name__}, expected a torch.nn.Module")
    if isinstance(module, torch.nn.Module) and getattr(module.forward, "__func__", None) is torch.nn.Module.forward:
        raise TypeError(f"{name}: got {type(module).__name__}, expected a module with a forward")


@contextmanager
def named(name):
    """An error about `x` becomes an error about the argument that the user has given."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if not str(error).startswith("x: "):
            raise
        raise type(error)(name + str(error)[1:]) from error
