"""The public functions for log densities: log p(x) term by term, and log p(z) of a mixture of Gaussians."""

import functools
import math

import torch

from . import backends
from .backends.compute import computed
from .backends.reference import compute_dtype
from .core import checks, dtensor, layout, levels, parameters, rows, segments
from .core.objective import objective
from .formulas import ROW, SEGMENTS, shares
from .likelihoods import options_of
from .typing import Backend, LikelihoodLike, Number, Recon


def log_prob(
    recon: Recon,
    x: torch.Tensor,
    *,
    likelihood: LikelihoodLike,
    obs_logvar: Number | None = None,
    log_total: torch.Tensor | None = None,
    backend: Backend = "auto",
) -> torch.Tensor:
    """log p(x_bi | recon_bi) in nats, term by term, like log_prob of torch.distributions.

    The terms have the shape of x, with three exceptions: "multinomial" has one term for each sample, [B]; a table has
    one for each cell, [B, columns]; "discretized_logistic_mixture" has one for each pixel, [B, 1, ...]. nll(recon, x)
    is minus the sum of the terms over all dimensions but dimension 0. The terms contain the constants of the density.
    Values and gradients have kernels of their own. Plain PyTorch computes second derivatives, torch.func, forward mode
    and the gradient of x.

        importance = log_prob(decoder(z), x, likelihood="gaussian") - log_prob(other, x, likelihood="gaussian")

    The formulas and their sources are those of the likelihood (vae_kernels/formulas). Values outside of the support
    give no error, because the check would read the whole target. No likelihood gives -inf for such values. If x is not
    a level of "categorical", the term is NaN. vae_kernels.distributions checks the support with validate_args=True.

    Args:
        recon: the parameters of the likelihood, as in fused_elbo.
        x: [B, ...] the target, as in fused_elbo. uint8 is read as x / 255, unless x has counts or levels.
        likelihood: a name in vae_kernels.LIKELIHOODS, or an object of vae_kernels.likelihoods.
        obs_logvar: the log-variance of "gaussian", as in fused_elbo.
        log_total: the logarithm of the total of each sample, as in fused_elbo. The soft-max is here an operation of
            PyTorch.
        backend: as in fused_elbo.

    Returns:
        The shape of the terms, float32, or float64 if a parameter is float64. Differentiable in every tensor argument,
        to any order. Where the incoming gradient is 0, the gradient is exactly 0, even beside a NaN.

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected.
    """
    name = checks.likelihood(likelihood)
    if name in SEGMENTS:
        x, params = segments.laid_out(recon, x, likelihood, obs_logvar, log_total)
        return _log_prob(name, options_of(likelihood), params[1:], backend, x, params[0])
    params = parameters.checked(recon, x, likelihood, obs_logvar)
    x, options = levels.read(x, params, likelihood), options_of(likelihood)
    if log_total is not None:
        log_total = rows.log_total(log_total, x, name)
        dtype = compute_dtype(*params)
        log_mean = shares.log_mean(params[0].to(dtype), log_total.to(dtype))
        each = functools.partial(_log_prob, name, options, params[1:], backend)
        return shares.without_absent(each, x, log_mean)
    if name in ROW:
        x, params = layout.likelihood(x, params)
        return -computed(objective(x, params, name, (), reduction="none"), backend)
    return _log_prob(name, options, params[1:], backend, x, params[0])


def _log_prob(name, options, others, backend, x, first):
    """The terms by the backend; first and others are the parameters."""
    params = (first, *others)
    if dtensor.any_of((x, *params)):
        like = segments.terms(x, *options) if name in SEGMENTS else layout.terms_like(x, params)
        x, params, whole = dtensor.own_terms(x, params, like.shape)
    else:
        whole = None
    if name not in SEGMENTS:  # a table is laid out
        x, params = layout.likelihood(x, params)
    terms = backends.choose(backend, params).log_prob(name, x, params, options)
    return terms if whole is None else whole(terms)


def mixture_log_prob(
    z: torch.Tensor,
    loc: torch.Tensor,
    logvar: torch.Tensor,
    logits: torch.Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> torch.Tensor:
    """log p(z) in nats of a mixture of K diagonal Gaussians at N points, without a tensor of N x K or N x K x D
    numbers:

        log p(z) = logsumexp_k [ log w_k + log N(z; loc_k, diag exp(logvar_k)) ],      w = softmax(logits)

    (Bishop 2006, Pattern Recognition and Machine Learning, equation 9.7). A mixture prior, a VampPrior (Tomczak &
    Welling 2018, arXiv:1705.07120) and the aggregate posterior of a batch have this density.

    The result is right far from all components and with tiny variances. A matrix product of the expanded square is
    wrong there.

    Args:
        z: [..., D] the points: float32, float64, bfloat16 or float16.
        loc: [K, D] the means.
        logvar: the log-variances, [K, D] or a shape that broadcasts to [K, D]: [D], [K, 1] or 0-d.
        logits: [K] the log weights; None for equal weights. This function normalises the log weights.
        backend: as in fused_elbo.

    Returns:
        [...], float32, or float64 if an argument is float64. The result is differentiable in every tensor, to any
        order. Second derivatives and torch.func use the plain-torch formula, which takes memory for N x K x D numbers.

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected.
    """
    tensors = [z, loc, logvar] if logits is None else [z, loc, logvar, logits]
    _check(*tensors)
    dtype = compute_dtype(*tensors)
    points = z.reshape(-1, z.shape[-1])
    components = len(loc)
    if logits is None:
        log_weight = torch.full((components,), -math.log(components), dtype=dtype, device=loc.device)
    else:
        log_weight = logits.to(dtype).log_softmax(0)
    points, loc, logvar = (t.to(dtype).contiguous() for t in (points, loc, logvar.expand_as(loc)))
    # `ahead`: whether the forward pass computes the gradients too. With more sample dims than one, as in an
    # importance-weighted bound, each sample gets an incoming gradient of its own, and these gradients would be useless.
    module = backends.choose(backend, tensors)
    log_p = module.mixture(points, loc, logvar, log_weight.contiguous(), ahead=z.dim() <= 2)
    return log_p.reshape(z.shape[:-1])


def _check(z, loc, logvar, logits=None):
    for name, t in (("z", z), ("loc", loc), ("logvar", logvar), ("logits", loc if logits is None else logits)):
        checks.tensor(name, t)
        checks.on_device_of("z", z, name, t)
    if z.dim() == 0:
        raise ValueError("z: got a 0-d tensor, expected [..., D]")
    if loc.dim() != 2 or loc.numel() == 0 or loc.shape[1] != z.shape[-1]:
        raise ValueError(f"loc: got shape {tuple(loc.shape)}, expected [K, {z.shape[-1]}], with K and D at least 1")
    checks.broadcasts("logvar", logvar.shape, "loc", loc.shape)
    if logits is not None and logits.shape != loc.shape[:1]:
        raise ValueError(f"logits: got shape {tuple(logits.shape)}, expected [{len(loc)}], one a component")
