"""The public function for log p term by term, for losses that fused_elbo does not have."""

import torch

from . import backends
from .core import checks, dtensor, layout
from .typing import Backend, LikelihoodLike, Number, Recon


def log_prob(
    recon: Recon,
    x: torch.Tensor,
    *,
    likelihood: LikelihoodLike,
    obs_logvar: Number | None = None,
    backend: Backend = "auto",
) -> torch.Tensor:
    """log p(x_bi | recon_bi) in nats, term by term: what torch.distributions calls log_prob.

    The terms have the shape of x. nll(recon, x) is minus their sum over all dimensions but dimension 0. The constants
    of the density are in the terms. Values and gradients have kernels of their own. A second derivative, torch.func,
    forward mode and the gradient of x are plain PyTorch.

        importance = log_prob(decoder(z), x, likelihood="gaussian") - log_prob(other, x, likelihood="gaussian")

    The formulas and their sources are those of the likelihood (vae_kernels/formulas). Values outside of the support are
    not checked, because the check would read the whole target: no likelihood gives -inf for these values. Where x is no
    level of "categorical", the term is NaN. vae_kernels.distributions checks the support with validate_args=True.

    Args:
        recon: the parameters of the likelihood, as in fused_elbo.
        x: [B, ...] the target, as in fused_elbo. uint8 is read as x / 255, unless x has counts or levels.
        likelihood: a name in vae_kernels.LIKELIHOODS, or an object of vae_kernels.likelihoods.
        obs_logvar: the log-variance of "gaussian", as in fused_elbo.
        backend: as in fused_elbo.

    Returns:
        The shape of x, float32, or float64 if a parameter is float64. Differentiable in every tensor argument, to any
        order. Where the incoming gradient is 0, the gradient is exactly 0, even beside a NaN.

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected.
    """
    name = checks.likelihood(likelihood)
    params = checks.parameters(recon, x, name, obs_logvar)
    if dtensor.any_of((x, *params)):
        x, params, whole = dtensor.own_terms(x, params)
    else:
        whole = None
    x, params = layout.likelihood(x, params)
    terms = backends.choose(backend, params).log_prob(name, x, params)
    return terms if whole is None else whole(terms)
