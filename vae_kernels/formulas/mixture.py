"""The log density of a mixture of diagonal Gaussians, in nats, for one point z:

    log p(z) = logsumexp_k s_k,    s_k = log w_k - 1/2 sum_d ( (z_d - m_kd)^2 e^{-v_kd} + v_kd + log 2 pi )

and, with the responsibilities r_k = exp(s_k - log p(z)),

    d/dz_d = -sum_k r_k (z_d - m_kd) e^{-v_kd}             d/dm_kd = r_k (z_d - m_kd) e^{-v_kd}
    d/dv_kd = 1/2 r_k ( (z_d - m_kd)^2 e^{-v_kd} - 1 )     d/dlog w_k = r_k

(Bishop 2006, Pattern Recognition and Machine Learning, section 9.2.) The differences z_d - m_kd are squared. A matrix
product could compute the expanded square z^2 - 2 z m + m^2, but the expanded square loses its digits where |m| is many
standard deviations. The kernels compute the log-sum-exp online, one tile of components after the other. The plain
PyTorch below computes all components at once.
"""

from typing import TYPE_CHECKING

import torch

from . import gaussian

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else


def mixture(z, loc, logvar, log_weight, *, ahead=True):
    """log p(z) [N] for z [N, D], loc and logvar [K, D], log_weight [K] (normalised); all of one floating dtype.

    Only the kernels use `ahead` (backends/compiled/mixture.py). This function takes memory for N x K x D numbers.
    """
    return torch.logsumexp(log_weight - gaussian.nll(z[:, None], loc, logvar).sum(-1), -1)


def triton_root(logvar):
    """e^{-logvar/4}. csrc/formulas/mixture.h gives the reasons for this function and for the functions below."""
    return maths.exp_saturated(-0.25 * logvar)


def triton_deviations(z, loc, root):
    return (z - loc) * root * root


def triton_constant(log_weight, sum_of_logvar, dims):
    return log_weight - 0.5 * (sum_of_logvar + dims * 1.8378770664093454836)


def triton_score(constant, squares):
    return tl.fma(squares, -0.5, constant)


def triton_join(top, total, other_top, other_total):
    """Join two log-sum-exps. Each has `top`, the largest of its numbers, and `total`, its sum of e^{number - top}."""
    new_top = tl.maximum(top, other_top)
    before, other = (maths.exp_or_zero(top - new_top), maths.exp_or_zero(other_top - new_top))
    return new_top, tl.fma(total, before, other_total * other)


def triton_log_total(total):
    return tl.where(total == 0, float("-inf"), maths.log1p(total - 1.0))


def triton_responsibility(score, top, log_total):
    return maths.exp_or_zero((score - top) - log_total)


def triton_within(u):
    """u, clamped to the range in which u^2 is finite."""
    if u.dtype == tl.float64:
        return tl.minimum(tl.maximum(u, -1.3407807929942596e154), 1.3407807929942596e154)
    else:
        return tl.minimum(tl.maximum(u, -1.8446742e19), 1.8446742e19)
