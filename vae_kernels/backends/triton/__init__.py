"""The Triton backend: kernels for GPUs of NVIDIA and AMD, and on CPU tensors in Triton's interpreter
(TRITON_INTERPRET=1). docs/gpus.md says for which GPUs the tests compile the kernels.

    kernels.py       the list of the ops
    objective_kernel.py  the objective in one launch, made of likelihood.py, latent.py and finish.py
    objective.py     the ops of the objective, and what each of their launches needs
    free_bits.py     what follows that launch where the KL has a floor
    row.py           what is before and behind that launch where the logits have a soft-max over a sample
    log_prob.py sample.py position.py pixel.py segments.py mixture_*.py rescale.py
                                                     the kernels of the other ops, each with its launcher below it
    twins.py constants.py                            the formulas and the constants as the kernels see them
    maths.py counts.py noise.py tiles.py             functions of a tile
    partial_sums.py tickets.py grid.py launch.py     what programs leave, which program is the last to end, how programs
                                                     share a matrix, and a launch

Importing this folder imports triton, and compiles nothing.
"""

from functools import partial

from .. import compiled as ops
from . import kernels
from .tiles import INTERPRETED as _INTERPRETED

INTERPRETED = _INTERPRETED.value
ops.attach_triton(kernels, "CPU" if INTERPRETED else "CUDA")
decomposition = partial(ops.decomposition, kernels="triton")
elbo = partial(ops.elbo, kernels="triton")
log_prob = partial(ops.log_prob, kernels="triton")
mixture = partial(ops.mixture, kernels="triton")
sample_kl = partial(ops.sample_kl, kernels="triton")
