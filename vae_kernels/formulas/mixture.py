"""The log density of a mixture of diagonal Gaussians, in nats, for one point z:

    log p(z) = logsumexp_k s_k,    s_k = log w_k - 1/2 sum_d ( (z_d - m_kd)^2 e^{-v_kd} + v_kd + log 2 pi )

and, with the responsibilities r_k = exp(s_k - log p(z)),

    d/dz_d = -sum_k r_k (z_d - m_kd) e^{-v_kd}             d/dm_kd = r_k (z_d - m_kd) e^{-v_kd}
    d/dv_kd = 1/2 r_k ( (z_d - m_kd)^2 e^{-v_kd} - 1 )     d/dlog w_k = r_k

(Bishop 2006, Pattern Recognition and Machine Learning, section 9.2.) The squares are taken of differences, and not
expanded to z^2 - 2 z m + m^2, which a matrix product could compute: that cancels where |m| is many standard deviations.
The kernels take the log-sum-exp online, a tile of components at a time; here it is written out.
"""

import math

import torch


def mixture(z, loc, logvar, log_weight, *, ahead=True):
    """log p(z) [N] for z [N, D], loc and logvar [K, D], log_weight [K] (normalised); all of one floating dtype.

    `ahead` is for the kernels (ops/mixture.py). It takes memory for N x K x D numbers. The residual is scaled before it
    is squared, by two steps of e^{-v/4}, for the reason given in gaussian.py.
    """
    root = torch.exp(logvar * -0.25)
    scaled = (z[:, None] - loc) * root * root
    log_normal = -0.5 * (scaled * scaled + logvar + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_weight + log_normal, -1)
