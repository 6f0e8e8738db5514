"""What computes the requests of core/objective.py.

choice.py      what can compute here, and what backend="auto" takes
reference.py   "torch": the formulas in plain PyTorch
lean/          "lean": the same results in plain PyTorch with fewer operations, for devices without kernels
compiled/      "cpu" and "cuda": the ops of the compiled library, and their autograd
triton/        "triton": the Triton kernels
self_test.py   the proof that "auto" asks of a GPU's kernels
pool.py        the memory that the compiled library keeps
"""

from .choice import available_backends, choose, takes_noise_of_device

__all__ = ["available_backends", "choose", "takes_noise_of_device"]
