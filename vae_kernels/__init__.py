"""The fused ELBO for PyTorch: sampling, likelihood, KL and their gradients in single passes."""

from importlib.metadata import PackageNotFoundError as _NoPackage
from importlib.metadata import version as _version
from typing import TYPE_CHECKING as _TYPE_CHECKING

from . import controls, distributions, likelihoods, models, priors
from .backends import available_backends
from .backends.pool import pool_bytes, set_pool_limit
from .core import later as _later
from .core import moved as _moved
from .core.pairs import FreeBits, Shard
from .core.terms import ElboTerms
from .densities import log_prob, mixture_log_prob
from .estimators import KlParts, LogMarginalLikelihood, iwae, kl_decomposition, log_marginal_likelihood
from .formulas import ALL as _FORMULAS
from .functional import fused_elbo, gaussian_kl, nll, reparameterize, sample_kl
from .models import VAE, FusedELBO, conv_vae, mlp_vae
from .monitor import Monitor
from .sampling import logvar_of

if _TYPE_CHECKING:  # core/later.py imports these names when they are first used
    from .auditing import audit
    from .cli.run import load_run
    from .doctor import diagnose

LIKELIHOODS = tuple(_FORMULAS)
"""The names that `likelihood=` takes."""

try:
    __version__ = _version("vae-kernels")
except _NoPackage:  # run from a source tree that was never installed
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
    "distributions",
    "fused_elbo",
    "gaussian_kl",
    "iwae",
    "kl_decomposition",
    "likelihoods",
    "load_run",
    "log_marginal_likelihood",
    "log_prob",
    "logvar_of",
    "mixture_log_prob",
    "mlp_vae",
    "models",
    "nll",
    "pool_bytes",
    "priors",
    "reparameterize",
    "sample_kl",
    "set_pool_limit",
]

for _name in __all__:  # a pickle and a repr then have the public name, which stays where files move
    if isinstance(_public := globals().get(_name), type):
        _public.__module__ = __name__

_moved.keep_old_paths()

if not _TYPE_CHECKING:  # a type checker that sees this function takes every misspelt name for an attribute
    __getattr__ = _later.attribute


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_later.FOLDERS})
