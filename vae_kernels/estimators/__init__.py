"""Estimates that need more than one sample of z, or more than one data point.

importance.py     iwae and log_marginal_likelihood: bounds on log p(x)
decomposition.py  kl_decomposition: the three parts of the KL of a data set
"""

from .decomposition import KlParts, kl_decomposition
from .importance import LogMarginalLikelihood, iwae, log_marginal_likelihood

__all__ = ["KlParts", "LogMarginalLikelihood", "iwae", "kl_decomposition", "log_marginal_likelihood"]
