"""The Triton backend: kernels for NVIDIA GPUs, and on CPU tensors in Triton's interpreter (TRITON_INTERPRET=1).

    maths.py noise.py tiles.py     functions of a tile
    *_kernel.py                    the kernels; the formula, from vae_kernels/formulas, is an argument
    plan.py kernels.py levels.py mixture.py   from tensors to launches: the ops of vae_kernels/ops
    launch.py                      a launch

Importing it imports triton, and compiles nothing.
"""

from functools import partial

from .. import compiled as ops
from . import kernels
from .tiles import INTERPRETED as _INTERPRETED

INTERPRETED = _INTERPRETED.value
ops.attach_triton(kernels, "CPU" if INTERPRETED else "CUDA")
elbo = partial(ops.elbo, kernels="triton")
mixture = partial(ops.mixture, kernels="triton")
sample_kl = partial(ops.sample_kl, kernels="triton")
