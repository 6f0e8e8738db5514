"""Launching a kernel: on CPU tensors through Triton's interpreter, on a GPU through a cache of compiled kernels.

`kernel[grid](...)` takes 13 to 30 us of Python: it looks at every argument anew. What it looks at is a function of
dtypes, of alignment, and of the integers it may specialize for, and those make the key of the cache here.
"""

import torch
import triton

from .tiles import INTERPRETED

_compiled = {}


def launch(kernel, grid, arguments, constants, num_warps=4):
    """Run kernel[grid] with the positional arguments (tensors, numbers, None) and then the constants, in order."""
    if INTERPRETED.value:
        kernel[grid](*arguments, *constants, num_warps=num_warps)
        return
    key = (kernel, num_warps, torch.cuda.current_device(), *constants, *map(_seen_by_the_compiler, arguments))
    compiled = _compiled.get(key)
    if compiled is None:
        _compiled[key] = kernel[grid](*arguments, *constants, num_warps=num_warps)
    else:
        compiled[grid](*arguments, *constants)


def _seen_by_the_compiler(argument):
    """All of an argument that the compiled kernel can depend on."""
    if isinstance(argument, torch.Tensor):
        return argument.dtype, argument.data_ptr() % 16 == 0
    if type(argument) is int:
        return 1 if argument == 1 else (argument % 16 == 0, argument.bit_length() > 31)
    return type(argument)
