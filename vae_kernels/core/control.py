"""What all objects of controls/ share: a count of steps, 0-d tensors that are written in place, and how a control is
moved, copied and saved. This file is in core/ because the public functions take a control in place of a number.
"""

from __future__ import annotations

import copy
import math
import weakref
from typing import Any

import torch
from torch import nn

_ALIVE: weakref.WeakSet[Control] = weakref.WeakSet()  # every control of this process


class Control(nn.Module):
    """A number that changes while a model trains: `value` is a 0-d tensor, `steps` says how often it has advanced.

    Give the control itself, `VAE(..., beta=warmup)`: a module keeps the control, moves it and saves it. A function
    takes the value that the control has at the call. To log this value, write float(control).

    The tensors are never replaced. So a compiled step, a CUDA graph and every other holder of `control.value` sees each
    change. `.to(...)`, `.cuda()` and `.double()` change the tensor object in place too. `.half()` and `.bfloat16()`
    leave a control in float32. Advance a control after the backward pass: autograd refuses a weight that changes
    between the passes.

    A copy by copy.deepcopy, which an average of the weights (EMA) makes, follows its original: the copy has the value
    of the original at every step. If you advance the copy itself, the copy no longer follows its original, and
    continues from the state at which it was copied. A control that is unpickled follows no other control.

    The tensors are no buffers of the module, for three reasons. At each forward pass DDP writes the first rank's
    buffers into the buffers of the other ranks, even if the backward pass of an earlier forward has not run yet.
    AveragedModel(use_buffers=True) averages buffers. FSDP's mixed precision converts buffers to 16 bits.
    """

    SAVED: tuple[str, ...] = ()
    """The tensors that state_dict() has besides the steps. The other tensors are computed from the steps."""

    SHOWN: tuple[str, ...] = ()
    """The settings that repr() shows: names of attributes that are numbers."""

    steps: int
    value: torch.Tensor
    _starts: dict[str, float]
    _copies: weakref.WeakSet[Control]
    _own: Any

    def __new__(cls, *args, **kwargs):
        # Every control is made here, a copy and an unpickled control too. A subclass may set attributes and child
        # modules before it calls super().__init__(), so nn.Module must be ready before that.
        self = super().__new__(cls)
        nn.Module.__init__(self)
        self._copies, self._own = weakref.WeakSet(), None
        _ALIVE.add(self)
        return self

    @torch.inference_mode(False)  # a tensor that is made in inference mode cannot be written outside of it
    def __init__(
        self, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32, **tensors: float
    ) -> None:
        self.steps = 0
        self._starts = {name: float(start) for name, start in tensors.items()}
        for name, start in self._starts.items():
            setattr(self, name, torch.full((), start, device=device, dtype=dtype))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings()}steps={self.steps})"

    def _settings(self):
        return "".join([f"{name}={getattr(self, name):g}, " for name in self.SHOWN])

    # --- the value as a number

    def __float__(self) -> float:
        return self.value.item()

    def item(self) -> float:
        """The value at this step as a Python number. For a schedule this reads no tensor."""
        return float(self)

    def __format__(self, form: str) -> str:
        return format(float(self), form) if form else str(self)

    # --- advancing

    def _begin(self):
        """To be called before each advance: a copy that follows its original stops following, and takes its own state
        again."""
        if self._own is not None:
            original, steps, tensors = self._own
            original._copies.discard(self)
            self._own = None
            self._write(steps, tensors)

    def _end(self):
        """To be called after each advance: the copies follow."""
        for other in self._copies:
            other._write(self.steps, self._saved())
            other._end()

    def _write(self, steps, tensors):
        """Set the state in place."""
        self.steps = steps
        with torch.no_grad():
            for name, tensor in tensors.items():
                getattr(self, name).copy_(tensor)
        self._derive()

    def _derive(self):
        """Write the tensors that are computed from the state; a subclass says how."""

    def _saved(self):
        return {name: getattr(self, name) for name in self.SAVED}

    # --- moving

    @torch.inference_mode(False)
    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        for name, start in self._starts.items():
            held = getattr(self, name)
            moved = fn(held)
            dtype = torch.float64 if moved.dtype == torch.float64 else torch.float32
            if moved is held and dtype == held.dtype:
                continue
            new = torch.full((), start, dtype=dtype, device=moved.device)
            if not held.is_meta:  # from `held`, not from `moved`: half() rounds the value, to_empty() loses the value
                new.copy_(held)
            try:
                held.data = new  # keeps the tensor object, because others may hold it
            except RuntimeError:  # the types are incompatible, such as a CPU tensor and a meta tensor
                setattr(self, name, new)
        self._derive()
        return self

    # --- copying

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name not in ("_copies", "_own")}

    def __setstate__(self, state):
        names = state.pop("_names", None)  # version 0.1 pickled _names, and had no _starts
        super().__setstate__(state if names is None else state | {"_starts": dict.fromkeys(names, math.nan)})

    @torch.inference_mode(False)
    def __deepcopy__(self, memo):
        twin = memo[id(self)] = type(self).__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        self._copies.add(twin)
        # The copy holds its original. So a chain of copies does not break if nobody else holds a copy in the middle.
        twin._own = self, self.steps, {name: tensor.clone() for name, tensor in twin._saved().items()}
        return twin

    # --- saving

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        """Add the steps, an int64 tensor, and a copy of each tensor of SAVED. The settings are not saved: they are
        arguments of the constructor."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "steps"] = torch.tensor(self.steps, device="cpu")
        for name, tensor in self._saved().items():
            destination[prefix + name] = tensor.clone()

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ):
        """Write the state in place. If a part is missing or wrong, write nothing."""
        names = ("steps", *self._starts)
        found = {name: state_dict[prefix + name] for name in names if prefix + name in state_dict}
        others = {key: value for key, value in state_dict.items() if key.removeprefix(prefix) not in names}
        super()._load_from_state_dict(others, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        missing = [name for name in self._needed() if name not in found]
        wrong = [self._wrong(prefix + name, name, value) for name, value in found.items()]
        missing_keys += [prefix + name for name in missing]
        error_msgs += [text for text in wrong if text]
        if missing or any(wrong):
            return
        steps = int(found.pop("steps"))
        tensors = self._complete(steps, found)
        for name in self._starts:
            if getattr(self, name).is_meta:  # load_state_dict(assign=True) makes a real model of a meta model
                device = tensors[name].device if name in tensors else "cpu"
                setattr(self, name, torch.full_like(getattr(self, name), math.nan, device=device))
        self._write(steps, tensors)
        if self._own is not None:
            self._own = self._own[0], steps, {name: tensor.clone() for name, tensor in self._saved().items()}
        self._end()

    def _take(self, key, value):
        """Take the bare value: a checkpoint of 0.1 has no more of a module's control. False if `value` is not 0-d."""
        if value.dim():
            return False
        self._write(self.steps, {"value": value})
        return True

    def _needed(self):
        """The names that a state must have."""
        return ("steps", *self.SAVED)

    def _complete(self, steps, found):
        """The tensors of SAVED, from the tensors `found` in a state of `steps` steps."""
        return {name: found[name] for name in self.SAVED}

    def _wrong(self, key, name, value):
        """The error text for a part of a state, or None if the part is right."""
        if name == "steps":
            number = value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                return f"{key}: got {value!r}, expected an integer >= 0"
        elif not isinstance(value, torch.Tensor) or value.dim():
            got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            return f"{key}: got {got}, expected a 0-d tensor"
        return None


def current(setting):
    """The value of a setting now: a control gives its value, any other setting is returned unchanged."""
    return setting.value if isinstance(setting, Control) else setting


def refuse_bare_value(name, setting):
    """TypeError if `setting` is the value of a control: a module would keep the value without the control.

    The memory is compared, so `value.detach()` and a view are refused too.
    """
    if not isinstance(setting, torch.Tensor) or isinstance(setting, nn.Parameter):
        return
    for control in _ALIVE:
        if any(_same_memory(getattr(control, part), setting) for part in control._starts):
            kind = type(control).__name__
            raise TypeError(
                f"{name}: got the value of a {kind}, a tensor that would be cut off from its {kind} when the module is "
                f"moved or copied; expected the {kind} itself: {name}=warmup, not {name}=warmup.value"
            )


def _same_memory(a, b):
    if a is b:
        return True
    plain = type(a) is type(b) is torch.Tensor and a.device == b.device and not a.is_meta
    return plain and b.layout is torch.strided and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
