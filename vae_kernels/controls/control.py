"""What all objects of controls/ share: tensors that are written in place, a count of steps, and their state."""

import torch

from .. import checks


class Control:
    """Keeps 0-d tensors by name, among them `value`, and `steps`, how often it has advanced.

    The tensors are never replaced: whoever holds `control.value` (a compiled step, a CUDA graph, a module's buffer on
    the same device) sees it change. Advance it after the backward pass: autograd objects to a weight that changes
    between the passes.
    """

    def __init__(self, device=None, dtype=torch.float32, **tensors):
        self.steps = 0
        self._names = tuple(tensors)
        for name, start in tensors.items():
            setattr(self, name, torch.full((), float(start), device=device, dtype=dtype))

    def state_dict(self):
        """{"steps": int, and a copy of each tensor}; the settings are the constructor's and are not in it."""
        return {"steps": self.steps} | {name: getattr(self, name).clone() for name in self._names}

    def load_state_dict(self, state):
        """Write the state in place. KeyError, before anything is written, if it is not that of this class."""
        expected = {"steps", *self._names}
        if set(state) != expected:
            raise KeyError(f"state_dict: got {sorted(state)}, expected {sorted(expected)}")
        self.steps = state["steps"]
        for name in self._names:
            getattr(self, name).copy_(state[name])


def count(name, value, least=0):
    """An integer >= least."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: got {type(value).__name__}, expected an integer")
    if value < least:
        raise ValueError(f"{name}: got {value}, expected an integer >= {least}")
    return value


def fraction(name, value, most_included=True):
    """A number in [0, 1], or in [0, 1)."""
    checks.number(name, value)
    if not (0 <= value <= 1 if most_included else 0 <= value < 1):
        raise ValueError(f"{name}: got {value}, expected a number in [0, 1{']' if most_included else ')'}")
    return value


def positive(name, value):
    checks.number(name, value)
    if value <= 0:
        raise ValueError(f"{name}: got {value}, expected a number > 0")
    return value
