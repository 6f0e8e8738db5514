"""Launching a kernel: on CPU tensors by Triton's interpreter, on a GPU without what `kernel[grid](...)` does each time.

`kernel[grid](...)` takes 10 to 30 us of Python, since it looks at every argument anew. A Launch fixes what Triton looks
at, except for the alignment of the tensors. So a Launch finds the compiled kernel at once. For AMD, Triton also looks
at whether 32 bits reach all of a tensor's storage. A Launch has fixed shapes and strides, so what is true for its first
call is true for all that its kernel reads and writes.

Kernels take tuples of arguments. Triton treats each member of a tuple as an argument: Triton compiles a kernel anew
where another member is None, for another alignment, and for an integer that becomes 1 or a multiple of 16. The tuples
cost no register and no time of the host. Triton 3.6 to 3.9 have these rules:

- `do_not_specialize` does not reach into a tuple. So an integer that depends on the batch is an argument of its own.
- Triton's cache on disk knows a function inside a tuple by its name alone. So a formula is an argument of its own.
- No argument may be named `params`, `specialization`, `options` or `backend`: these are names inside the function that
  Triton makes of the signature.
- Under Triton 3.6, `len(t)` and `t is None` fail for a tuple t that holds None. `t[i] is None` and `t.name is None`
  work.
- Under Triton 3.6, a member of a constant tuple is a plain number to the compiler. In the shape of a tile and in
  tl.static_range it must be made a constant first: `R: tl.constexpr = TILE.R`.
"""

import math
from typing import Any, NamedTuple

import torch

from ...core.objective import Layout, layout_against
from .tiles import INTERPRETED

# A product and a sum are contracted where the source says tl.fma, and nowhere else: the same bits from every version.
OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}


class Described(NamedTuple):
    """What a launch depends on, of a tensor. The caches of launches have plain tuples, which are made sooner."""

    shape: Any
    strides: Any
    dtype: Any

    def gradient(self):
        """The gradient in the order of the tensor, its samples one after another: as layout.empty_in_order."""
        return self._replace(strides=(math.prod(self.shape[1:]), *self.strides[1:]))

    def against(self, shape):
        """The Layout against a tensor of this shape, and how far rows lie apart: 0 if all samples have one row."""
        layout = layout_against(shape, self.shape)
        return layout, self.strides[0] if layout in (Layout.FULL, Layout.PER_SAMPLE) else 0


def rows_of_x(shape, rows):
    """How many samples x has, if the parameters have several `rows` for each (core/draws.py); None if they have one."""
    own = shape[0]
    if own == rows:
        return None
    if own == 0 or rows % own:
        raise ValueError(f"x has {own} samples beside {rows} of the parameters, expected a divisor of {rows}")
    return own


def described(t):
    return t.shape, t.stride(), t.dtype


def against(t, like):
    """Where a weight lies against `like`, x or mu: its Layout, and how far its rows lie apart, or None."""
    return None if t is None else Described(*described(t)).against(like.shape)


MOST_PROGRAMS = 2**31 - 1  # along x, the only dimension that is used: along y and z a grid ends at 65,535


class Launch:
    """A kernel and its number of programs. `fixed` has by name the arguments that are the same for each call;
    `varying` has the names of the arguments of a call: tensors, floats, None, and tuples of these. Others are None."""

    def __init__(self, kernel, programs, fixed, varying, warps=4):
        names = kernel.arg_names
        assert {*fixed, *varying} <= set(names), {*fixed, *varying} - set(names)
        if programs > MOST_PROGRAMS:
            raise ValueError(
                f"a launch of {kernel.fn.__name__} takes {programs} programs, expected fewer than 2^31: split the batch"
            )
        self.kernel, self.grid = kernel, (programs, 1, 1)
        self.fixed = [fixed.get(name) for name in names]
        self.places = [names.index(name) for name in varying]
        self.options = OPTIONS | {"num_warps": warps}
        self.compiled = {}

    def bound(self, values):
        """All arguments of the kernel for the values of one call; and these values, without tuples."""
        arguments, flat = self.fixed.copy(), []
        for place, value in zip(self.places, values, strict=True):
            arguments[place] = value
            if isinstance(value, tuple):
                flat += value
            else:
                flat.append(value)
        return arguments, flat

    def __call__(self, *values):
        arguments, flat = self.bound(values)
        if INTERPRETED.value:
            self.kernel[self.grid](*arguments)
            return
        for value in flat:
            if isinstance(value, torch.Tensor):
                device = value.get_device()
                break
        else:
            raise TypeError(f"a launch of {self.kernel.fn.__name__} without a tensor")
        if device == torch.cuda.current_device():
            self._run(device, flat, arguments)
        else:
            with torch.cuda.device(device):
                self._run(device, flat, arguments)

    def _run(self, device, flat, arguments):
        key = device, *[(t.dtype, t.data_ptr() % 16) if isinstance(t, torch.Tensor) else t is None for t in flat]
        run = self.compiled.get(key)
        if run is not None:  # the end of Triton's own way: on the current stream, with the hooks of profilers
            run(*arguments)
        elif torch.cuda.is_current_stream_capturing():
            self.compiled[key] = run = self._loaded(arguments)[self.grid]
            run(*arguments)
        else:  # Triton's own way: Triton compiles, or finds the kernel compiled for another grid
            self.compiled[key] = self.kernel[self.grid](*arguments, **self.options)[self.grid]

    def _loaded(self, arguments):
        """The kernel, for a launch that a CUDA graph captures: the kernel must be on the GPU already."""
        compiled = self.kernel.warmup(*arguments, grid=self.grid, **self.options)
        if compiled.module is None:
            raise RuntimeError(
                f"{self.kernel.fn.__name__} has not run on this GPU for these shapes and dtypes, and a CUDA graph is "
                "being captured: to load a kernel now would end the capture. Expected one run of the same step before "
                "the capture, with the same shapes, dtypes and arguments (docs/citizen.md, CUDA graphs)"
            )
        return compiled
