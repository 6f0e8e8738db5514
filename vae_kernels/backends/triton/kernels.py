"""The ops by Triton kernels. backends/compiled/schemas.py says what each op takes and gives."""

from .log_prob import log_prob
from .mixture_forward import mixture, mixture_backward
from .objective import correct_, elbo, elbo_backward
from .pixel import pixel, pixel_backward, pixel_correct_, pixel_log_prob
from .position import position, position_backward
from .rescale import rescale_
from .sample import sample, sample_backward
from .segments import segments, segments_backward

__all__ = [
    "correct_", "elbo", "elbo_backward", "log_prob", "mixture", "mixture_backward", "pixel", "pixel_backward",
    "pixel_correct_", "pixel_log_prob", "position", "position_backward", "rescale_", "sample", "sample_backward",
    "segments", "segments_backward",
]  # fmt: skip
