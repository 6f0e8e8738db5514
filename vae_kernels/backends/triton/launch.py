"""Launching a kernel: on CPU tensors by Triton's interpreter, on a GPU without what `kernel[grid](...)` does each time.

That takes 10 to 30 us of Python: it looks at every argument anew. What it looks at is fixed in a Launch, but for the
alignment of the tensors, so that the compiled kernel is found at once.
"""

import torch

from .tiles import INTERPRETED

# A product and a sum are contracted where the source says tl.fma, and nowhere else: the same bits from every version.
OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}


MOST_PROGRAMS = 2**31 - 1  # along x, the one dimension that is used: along y and z a grid ends at 65,535


class Launch:
    """A kernel by as many programs, with some arguments fixed (by name; the rest is None), and others, `given` by name,
    at each call: tensors, floats, and None."""

    def __init__(self, kernel, programs, fixed, given, warps=4):
        names = kernel.arg_names
        assert {*fixed, *given} <= set(names), {*fixed, *given} - set(names)
        if programs > MOST_PROGRAMS:
            raise ValueError(
                f"a launch of {kernel.fn.__name__} takes {programs} programs, expected fewer than 2^31: split the batch"
            )
        self.kernel, self.grid = kernel, (programs, 1, 1)
        self.arguments = [fixed.get(name) for name in names]
        self.places = [names.index(name) for name in given]
        self.options = OPTIONS | {"num_warps": warps}
        self.compiled = {}

    def __call__(self, *given):
        arguments = self.arguments.copy()
        for place, value in zip(self.places, given, strict=True):
            arguments[place] = value
        if INTERPRETED.value:
            self.kernel[self.grid](*arguments)
            return
        device = next(t for t in given if isinstance(t, torch.Tensor)).get_device()
        if device == torch.cuda.current_device():
            self._run(device, given, arguments)
        else:
            with torch.cuda.device(device):
                self._run(device, given, arguments)

    def _run(self, device, given, arguments):
        key = device, *[(t.dtype, t.data_ptr() % 16) if isinstance(t, torch.Tensor) else t is None for t in given]
        compiled = self.compiled.get(key)
        if compiled is None and torch.cuda.is_current_stream_capturing():
            compiled = self.compiled[key] = self._loaded(arguments)
        if compiled is None:  # Triton's own way: it compiles, or finds it compiled for another grid
            self.compiled[key] = self.kernel[self.grid](*arguments, **self.options)
        else:  # as that ends: on the current stream, with the profilers' hooks
            compiled[self.grid](*arguments)

    def _loaded(self, arguments):
        """The kernel, for a launch that a CUDA graph captures: it must be on the GPU already."""
        compiled = self.kernel.warmup(*arguments, grid=self.grid, **self.options)
        if compiled.module is None:
            raise RuntimeError(
                f"{self.kernel.fn.__name__} has not run on this GPU for these shapes and dtypes, and a CUDA graph is "
                "being captured: to load a kernel now would end the capture. Expected one run of the same step before "
                "the capture, with the same shapes, dtypes and arguments (docs/citizen.md, CUDA graphs)"
            )
        return compiled
