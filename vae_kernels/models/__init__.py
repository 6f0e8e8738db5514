"""Models and losses as modules.

vae.py         VAE: an encoder, a decoder, and the loss
networks.py    mlp_vae and conv_vae: a VAE with networks of common sizes
fused_elbo.py  FusedELBO: the loss alone
settings.py    how VAE and FusedELBO keep the settings of fused_elbo
"""

from .fused_elbo import FusedELBO
from .networks import conv_vae, mlp_vae
from .vae import VAE

__all__ = ["VAE", "FusedELBO", "conv_vae", "mlp_vae"]
