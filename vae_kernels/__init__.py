"""The fused ELBO for PyTorch: sampling, likelihood, KL and their gradients in single passes."""

from importlib.metadata import PackageNotFoundError, version

from . import controls, likelihoods, priors
from .audit import audit
from .backends import available_backends
from .bounds import LogMarginalLikelihood, iwae, log_marginal_likelihood
from .decomposition import KlParts, kl_decomposition
from .diagnose import diagnose
from .formulas import ALL as _FORMULAS
from .functional import fused_elbo, gaussian_kl, nll, reparameterize, sample_kl
from .mixture import mixture_log_prob
from .module import FusedELBO
from .monitor import Monitor
from .networks import conv_vae, mlp_vae
from .pairs import FreeBits, Shard
from .pool import pool_bytes, set_pool_limit
from .terms import ElboTerms
from .vae import VAE

LIKELIHOODS = tuple(_FORMULAS)
"""The names that `likelihood=` takes."""

try:
    __version__ = version("vae-kernels")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "LIKELIHOODS",
    "VAE",
    "ElboTerms",
    "FreeBits",
    "FusedELBO",
    "KlParts",
    "LogMarginalLikelihood",
    "Monitor",
    "Shard",
    "audit",
    "available_backends",
    "controls",
    "conv_vae",
    "diagnose",
    "fused_elbo",
    "gaussian_kl",
    "iwae",
    "kl_decomposition",
    "likelihoods",
    "log_marginal_likelihood",
    "mixture_log_prob",
    "mlp_vae",
    "nll",
    "pool_bytes",
    "priors",
    "reparameterize",
    "sample_kl",
    "set_pool_limit",
]
