"""Models and losses as modules.

vae.py         VAE: an encoder, a decoder, and the loss
inputs.py      what goes into the networks of a VAE, and what comes out of its encoder
networks.py    mlp_vae and conv_vae: a VAE with networks of common sizes
top_down.py    TopDownVAE: a hierarchy of latents for images
layers.py      the modules of these networks: counts, a condition
fused_elbo.py  FusedELBO: the loss alone
settings.py    how VAE and FusedELBO keep the settings of fused_elbo
arguments.py   the checks of their settings, at construction
"""

from .fused_elbo import FusedELBO
from .networks import conv_vae, mlp_vae
from .top_down import TopDownVAE
from .vae import VAE

__all__ = ["VAE", "FusedELBO", "TopDownVAE", "conv_vae", "mlp_vae"]
