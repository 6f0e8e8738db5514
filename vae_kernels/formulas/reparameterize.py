"""The reparameterization: a sample z of N(mu, e^lv), as a function of eps ~ N(0, 1):

    z = mu + e^{lv/2} eps        dz/dmu = 1        dz/dlv = 1/2 e^{lv/2} eps

(Kingma & Welling 2014, arXiv:1312.6114, section 2.4.)
"""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else


def reparameterize(mu, logvar, eps):
    """z = mu + exp(logvar / 2) * eps, element by element.

    mu and logvar have one shape and floating dtype; z has this dtype. eps is float32 and has this shape, or this shape
    with leading sample dims; z has the shape of eps.
    """
    return mu + torch.exp(logvar * 0.5) * eps.to(mu.dtype)


def triton_reparameterize(mu, logvar, eps):
    """The sample, and its derivative by logvar. The derivative by mu is 1."""
    noise = maths.exp(0.5 * logvar) * eps.to(mu.dtype)
    return mu + noise, 0.5 * noise
