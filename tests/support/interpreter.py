"""Corrects two faults in the interpreter of older Tritons, for the tests only. The package itself does not change
Triton.

tl.fma, before Triton 3.9: the interpreter rounds the product and then the sum. But the noise has the same bits on every
backend only if tl.fma rounds once. Compiled code is right with every Triton.

range(n) with a number n of the kernel, in Triton 3.6: the interpreter gives Python an array of one element, which numpy
since 2.4 does not take as a number.
"""

import numpy as np
from fused import fma


def mend():
    """Corrects the faults of the installed Triton. The function imports Triton, so TRITON_INTERPRET must be set
    before."""
    import triton
    from triton.runtime import interpreter

    if not fuses(interpreter):
        interpreter.InterpreterBuilder.create_fma = lambda self, x, y, z: interpreter.TensorHandle(
            fma(x.data, y.data, z.data), z.dtype.scalar
        )
    if triton.__version__.startswith("3.6."):
        patch = interpreter._patch_lang_tensor

        def patch_and_correct(tensor, scope):
            patch(tensor, scope)
            tensor.__index__ = lambda self: self.handle.data.item()  # the scope removes this method again

        interpreter._patch_lang_tensor = patch_and_correct


def fuses(interpreter):
    """Whether the interpreter rounds once: the square of 1 + 2^-12 keeps its 2^-24, which a rounded product loses."""
    one, less = (
        interpreter.TensorHandle(np.array([v], np.float32), interpreter.tl.float32) for v in (1 + 2**-12, -1 - 2**-11)
    )
    return interpreter.interpreter_builder.create_fma(one, one, less).data[0] != 0
