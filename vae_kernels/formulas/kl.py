"""KL divergence between diagonal Gaussians, in nats, for one latent dimension:

    KL( N(mu, e^lv) || N(m, e^v) ) = 1/2 ( ((mu - m) e^{-v/2})^2 + expm1(t) - t ),        t = lv - v

    d/dmu = -d/dm = (mu - m) e^-v        d/dlv = 1/2 expm1(t)        d/dv = -1/2 ( (mu - m)^2 e^-v + expm1(t) )

(Kingma & Welling 2014, arXiv:1312.6114, appendix B, here for any diagonal prior.) e^t - 1 - t is computed as
expm1(t) - t: the error is then a rounding of t, not of 1. So the KL of a posterior close to its prior is right, and is
never negative. The residual is scaled before it is squared, in two steps of e^{-v/4}, for the reason in gaussian.py.
"""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else


def gaussian_kl(mu, logvar, prior_mu=None, prior_logvar=None):
    """KL of N(mu, e^logvar) to N(prior_mu, e^prior_logvar) in nats, element by element.

    mu and logvar have one shape, to which the two tensors of the prior broadcast. A prior of None is N(0, 1). All have
    one floating dtype.
    """
    if prior_mu is None or prior_logvar is None:
        return 0.5 * (mu * mu + (torch.expm1(logvar) - logvar))
    root = torch.exp(prior_logvar * -0.25)
    scaled = (mu - prior_mu) * root * root
    ratio = logvar - prior_logvar
    return 0.5 * (scaled * scaled + (torch.expm1(ratio) - ratio))


def lean_gaussian_kl(mu, logvar):
    """Twice the KL to N(0, 1), element by element, and twice its derivative by logvar. The derivative by mu is mu."""
    excess = torch.expm1(logvar)
    return (excess - logvar).addcmul_(mu, mu), excess


def triton_gaussian_kl(mu, logvar, prior_mu, prior_logvar):
    """The value, and its derivatives by all four arguments. A prior of None is N(0, 1)."""
    if prior_mu is None:
        value, minus_x = maths.expm1_pair(logvar)
        return 0.5 * tl.fma(mu, mu, minus_x), mu, 0.5 * value, -mu, -0.5 * tl.fma(mu, mu, value)
    else:
        root = maths.exp_saturated(prior_logvar * -0.25)
        scaled = (mu - prior_mu) * root * root
        half = 0.5 * scaled
        value, minus_x = maths.expm1_pair(logvar - prior_logvar)
        by_mu, by_logvar = scaled * root * root, 0.5 * value
        return tl.fma(half, scaled, 0.5 * minus_x), by_mu, by_logvar, -by_mu, -tl.fma(half, scaled, by_logvar)
