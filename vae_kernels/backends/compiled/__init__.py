"""The ops. The only folder that knows torch.library; a backend (core/objective.py).

schemas.py      what each op takes and gives, and who computes it
autograd.py     how the ops with autograd are called, in eager mode and while compiling
fakes.py        shapes, dtypes and strides of the results, without the work
objective.py    elbo, with autograd
expected.py     the incoming gradient of a loss per sample: what is expected, and what came
sample.py       sample_kl, with autograd
position.py     position, with autograd
pixel.py        pixel, with autograd
segments.py     a table of columns, with autograd
log_prob.py     log_prob, with autograd
mixture.py      mixture, with autograd
decomposition.py    decomposition, with autograd
"""

from . import fakes  # noqa: F401
from .decomposition import decomposition
from .log_prob import log_prob
from .mixture import mixture
from .objective import elbo
from .sample import sample_kl
from .schemas import KERNELS, attach_triton

__all__ = ["KERNELS", "attach_triton", "decomposition", "elbo", "log_prob", "mixture", "sample_kl"]
