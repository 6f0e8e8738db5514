"""Gives Triton's interpreter the errors of NVIDIA's approximate instructions.

The interpreter rounds e^x, 1/sqrt(x) and a quotient to nearest. Compiled float32 code has instructions with larger
errors:

    tl.exp2(x)   ex2.approx.ftz.f32     at most 2 units in the last place
    y / x        div.full.f32           at most 2 units in the last place
    tl.rsqrt(x)  rsqrt.approx.ftz.f32   at most 2^-22.9 of the result, which is less than 2.2 units in the last place

(NVIDIA, Parallel Thread Execution ISA 8.5, section 9.7.3.) The error budget of every test of values is twice PyTorch's
own error (cases.py), on a GPU too. The kernels must keep this budget for every error within these bounds.
"""

import contextlib

import numpy as np

# instruction: (the interpreter's name of it, the worst error in units in the last place, rounded up)
INSTRUCTIONS = {
    "ex2.approx.ftz.f32": ("create_exp2", 2),
    "div.full.f32": ("create_fdiv", 2),
    "rsqrt.approx.ftz.f32": ("create_rsqrt", 3),
}
ERRORS = ("up", "down", "random")


@contextlib.contextmanager
def instructions(error):
    """Gives each approximate instruction of the interpreter the worst error upwards ("up"), the worst error downwards
    ("down"), or a random error within the bound ("random")."""
    from triton.runtime.interpreter import InterpreterBuilder as Builder

    rng = np.random.default_rng(0)
    exact = {name: getattr(Builder, name) for name, _ in INSTRUCTIONS.values()}
    try:
        for name, ulp in INSTRUCTIONS.values():
            setattr(Builder, name, _worse(exact[name], ulp, error, rng))
        yield
    finally:
        for name, function in exact.items():
            setattr(Builder, name, function)


def _worse(function, ulp, error, rng):
    def wrong(*arguments):
        result = function(*arguments)
        data = np.ascontiguousarray(result.data)
        if data.dtype == np.float32:
            by = {"up": ulp, "down": -ulp, "random": rng.integers(-ulp, ulp, data.shape, np.int32, endpoint=True)}[
                error
            ]
            normal = np.isfinite(data) & (np.abs(data) > 2 * np.finfo(np.float32).tiny)
            result.data = np.where(normal, (data.view(np.int32) + np.int32(by)).view(np.float32), data)
        return result

    return wrong
