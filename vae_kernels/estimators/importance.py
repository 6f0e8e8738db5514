"""Bounds and estimates of log p(x) by importance sampling from the posterior q(z|x). In nats."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, get_args, overload

import torch
from typing_extensions import Unpack

from .. import conditions, functional
from ..core import checks, layout, missing, rows, targets
from ..core.calls import call
from ..core.control import current
from ..core.modes import evaluating
from ..core.objective import REDUCTIONS
from ..core.terms import ElboTerms
from ..priors import Prior, log_posterior, log_prior
from ..typing import (
    Backend,
    Condition,
    IwaeEstimator,
    IwaeSettings,
    LikelihoodLike,
    Model,
    ModelPrior,
    Number,
    Recon,
    Reduction,
)

ESTIMATORS: tuple[IwaeEstimator, ...] = get_args(IwaeEstimator)
"""The names that `estimator=` of iwae takes."""


# fmt: off
@overload
def iwae(
    decoder: Callable[..., Recon], x: torch.Tensor, mu: torch.Tensor | None = None,
    logvar: torch.Tensor | None = None, *, return_terms: Literal[False] = False, **settings: Unpack[IwaeSettings],
) -> torch.Tensor: ...
@overload
def iwae(
    decoder: Callable[..., Recon], x: torch.Tensor, mu: torch.Tensor | None = None,
    logvar: torch.Tensor | None = None, *, return_terms: Literal[True], **settings: Unpack[IwaeSettings],
) -> ElboTerms: ...
@overload
def iwae(
    decoder: Callable[..., Recon], x: torch.Tensor, mu: torch.Tensor | None = None,
    logvar: torch.Tensor | None = None, *, return_terms: bool, **settings: Unpack[IwaeSettings],
) -> torch.Tensor | ElboTerms: ...
# fmt: on


def iwae(
    decoder: Callable[..., Recon],
    x: torch.Tensor,
    mu: torch.Tensor | None = None,
    logvar: torch.Tensor | None = None,
    *,
    moments: torch.Tensor | None = None,
    n_samples: int,
    estimator: IwaeEstimator = "standard",
    condition: Condition = None,
    prior: ModelPrior = None,
    likelihood: LikelihoodLike = "bernoulli",
    obs_logvar: Number | None = None,
    log_total: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    beta: Number = 1.0,
    reduction: Reduction = "mean",
    return_terms: bool = False,
    generator: torch.Generator | None = None,
    backend: Backend = "auto",
) -> torch.Tensor | ElboTerms:
    """The importance-weighted bound as a loss, in nats (Burda et al. 2016, arXiv:1509.00519):

        loss_b = -log 1/K sum_k w_bk,    w_bk = p(x_b|z_bk) (p(z_bk) / q(z_bk|x_b))^beta,    z_bk ~ q(z|x_b)

    K = 1 is a Monte Carlo estimate of -ELBO. The expectation of the loss falls with K, down to -log p(x). With a mask
    as weight, the expectation of the loss is an upper bound of -log p(x_observed). With another weight, or with another
    beta than 1, the loss is not a bound of -log p(x).

        loss = vk.iwae(decoder, x, mu, logvar, n_samples=8, estimator="dreg")

    Args:
        decoder: function or module, z [K B, L, ...] -> recon [K B, ...] as fused_elbo takes it. It is called once. With
            a condition it is called as decoder(z, condition).
        x, mu, logvar, moments: as in fused_elbo.
        n_samples: K.
        estimator: the estimator of the gradient by mu and logvar. The loss, and the gradients by the decoder and the
            prior, are the same for each estimator. "standard" is the gradient of the loss. Its signal-to-noise ratio
            falls with K (Rainforth et al. 2018, arXiv:1802.04537). "stl" leaves out the score of log q(z|x). The
            expectation of the score is 0 only at K = 1, so "stl" has a bias at larger K (Roeder et al. 2017,
            arXiv:1703.09194). "dreg", the doubly reparameterized gradient, has no bias, and becomes better with K
            (Tucker et al. 2019, arXiv:1810.04152). "stl" and "dreg" are 0 where q(z|x) is the true posterior.
        condition: None, or a tensor, or a pytree of tensors, with the batch of x as dimension 0. The decoder gets K
            copies, [K B, ...]. With vae.decoder of a conditional VAE, mu and logvar come from
            vae.encode(x, condition=condition).
        prior: None for N(0, I), a pair (mu, logvar) that broadcasts to mu, or a module of vae_kernels.priors. A
            ConditionalGaussian gets the condition.
        beta: a float, a 0-d tensor or a control, such as a warm-up.
        likelihood, obs_logvar, log_total, weight, reduction, generator, backend: as in fused_elbo and sample_kl.
        return_terms: whether to return ElboTerms in place of the loss. nll and kl are the means over the K samples of
            -log p(x|z) and log q(z|x) - log p(z). kl_per_dim is None. log_weights [K, B] is log w_kb without a
            gradient. effective_samples [B] is (sum_k w_kb)^2 / sum_k w_kb^2: near 1, a single draw has nearly all of
            the weight.

    Returns:
        The loss, 0-d, or [B] with reduction="none".

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected.
    """
    checks.choice("reduction", reduction, REDUCTIONS)
    checks.choice("estimator", estimator, ESTIMATORS)
    checks.flag("return_terms", return_terms)
    targets.network("decoder", decoder)
    if n_samples is None:
        raise ValueError("n_samples: got None, expected an integer >= 1")
    if moments is not None:
        mu, logvar = layout.halves(checks.moments(moments, mu=mu, logvar=logvar))
    posterior = checks.latent(mu, logvar, None, None, checks.tensor("x", x, checks.TARGETS))
    beta = current(beta)
    checks.weight("beta", beta, x)
    conditions.check(condition, x, "x")

    def decode(z):
        copies = conditions.copies(condition, n_samples)
        return call("decoder", decoder, {"z": z} if copies is None else {"z": z, "condition": copies})

    prior = _checked_prior(conditions.prior_of(prior, condition), *posterior)
    settings = prior, likelihood, obs_logvar, log_total, weight, generator, backend
    z, nll, log_ratio = _log_terms(decode, x, posterior, n_samples, settings, score=estimator == "standard")
    log_w = layout.weight(beta) * log_ratio - nll
    if estimator == "dreg" and z.requires_grad:
        share = log_w.detach().softmax(0)
        z.register_hook(lambda grad: grad * share.reshape(*share.shape, *[1] * (z.dim() - 2)).to(grad.dtype))
    loss = math.log(n_samples) - torch.logsumexp(log_w, 0)
    loss = loss if reduction == "none" else getattr(loss, reduction)()
    if not return_terms:
        return loss
    effective = _effective(*(torch.logsumexp(power * log_w.detach(), 0) for power in (1, 2)))
    return ElboTerms(loss, nll.mean(0), -log_ratio.mean(0), None, None, log_w, effective)


@dataclass(frozen=True)
class LogMarginalLikelihood:
    """The result of log_marginal_likelihood for each x. All tensors are [B] float64.

    value              the estimate of log p(x) in nats. Its expectation is a lower bound of log p(x).
    standard_error     the standard error of value, by the delta method. It is wrong if effective_samples is small.
    effective_samples  (sum w)^2 / sum w^2, at most n_samples (Kong 1992)
    """

    value: torch.Tensor
    standard_error: torch.Tensor
    effective_samples: torch.Tensor


@torch.no_grad()
def log_marginal_likelihood(
    model: Model,
    x: torch.Tensor,
    n_samples: int = 5000,
    *,
    condition: Condition = None,
    log_total: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    chunk: int | None = None,
    generator: torch.Generator | None = None,
) -> LogMarginalLikelihood:
    """log p(x) in nats for each x, from n_samples draws of q(z|x): log 1/N sum_n p(x|z_n) p(z_n) / q(z_n|x).

    This is the estimator of Rezende et al. 2014 (arXiv:1401.4082) and Burda et al. 2016. The tables of the second paper
    use 5000 samples. The samples are decoded in chunks, and the sum is updated after each chunk. So the call needs the
    memory of one chunk. The result has no gradient. A model that is a torch.nn.Module runs in evaluation mode.
    Afterwards each of its modules has its old training flag again.

    Args:
        model: a VAE, or an object with these attributes of a VAE: encode, decode, likelihood, obs_logvar, prior and
            backend.
        x: [B, ...] as the model takes it.
        n_samples: N, at least 2.
        condition: None, or the condition of a conditional VAE, with the batch of x as dimension 0.
        log_total: as in fused_elbo.
        weight: None, or a mask that broadcasts to x. The result is then log p(x_observed): where the mask is False, the
            model gets 0 in place of x, and the likelihood does not count x.
        chunk: how many samples of each x to decode at once. None: as many as give the decoder 4096 rows.
        generator: a torch.Generator on the device of x, or None for torch's default generator.

    Returns:
        LogMarginalLikelihood
    """
    for name, value, least in (("n_samples", n_samples, 2), ("chunk", chunk, 1)):
        if (value is not None or name == "n_samples") and (not isinstance(value, int) or value < least):
            raise ValueError(f"{name}: got {value!r}, expected an integer >= {least}")
    targets.check("x", x)
    if not callable(getattr(model, "encode", None)) or not hasattr(model, "likelihood"):
        needs = "encode, decode, likelihood, obs_logvar, prior and backend"
        raise TypeError(f"model: got {type(model).__name__}, expected a VAE, or an object with {needs}")
    chunk = min(n_samples, chunk or max(1, 4096 // max(1, len(x))))
    checks.noise(None, generator, x, "x")
    conditions.check(condition, x, "x")
    x = missing.seen(x, weight, model.likelihood, mask=True)
    with evaluating(model) if isinstance(model, torch.nn.Module) else nullcontext():
        log_total = rows.total_of(model, x, log_total)
        return _log_p(model, x, n_samples, condition, log_total, weight, chunk, generator)


def _log_p(model, x, n_samples, condition, log_total, weight, chunk, generator):
    def decode(z):
        k = len(z) // len(x)
        copies = (_copies(x, k),) if getattr(model, "autoregressive", False) else ()
        given = {} if condition is None else {"condition": conditions.copies(condition, k)}
        return model.decode(z, *copies, **given)

    posterior = model.encode(x) if condition is None else model.encode(x, condition=condition)
    prior = _checked_prior(conditions.prior_of(model.prior, condition), *posterior)
    settings = prior, model.likelihood, model.obs_logvar, log_total, weight, generator, model.backend
    first = second = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)  # log sum w, log sum w^2
    for done in range(0, n_samples, chunk):
        k = min(chunk, n_samples - done)
        _, nll, log_ratio = _log_terms(decode, x, posterior, k, settings, score=True)
        log_w = (log_ratio - nll).double()
        first = torch.logaddexp(first, torch.logsumexp(log_w, 0))
        second = torch.logaddexp(second, torch.logsumexp(2 * log_w, 0))
    effective = _effective(first, second)
    # (variance of the mean of w) / (mean of w)^2. If all w are equal, rounding may make it negative.
    variance = (n_samples / effective - 1).clamp(min=0) / (n_samples - 1)
    return LogMarginalLikelihood(first - math.log(n_samples), variance.sqrt(), effective)


def _effective(log_sum, log_sum_of_squares):
    """(sum w)^2 / sum w^2, from the logarithms of both sums."""
    return torch.exp(2 * log_sum - log_sum_of_squares)


def _log_terms(decoder, x, posterior, k, settings, score):
    """z [K, B, ...]; -log p(x|z) and log p(z) - log q(z|x), [K, B]. Without `score`, log q has a gradient by z only,
    not by mu and logvar."""
    mu, logvar = posterior
    prior, likelihood, obs_logvar, log_total, weight, generator, backend = settings
    z, eps, logvar = functional.sample_and_noise(mu, logvar, k, generator, None, backend)
    flat = z.flatten(0, 1)
    recon = decoder(flat)
    obs_logvar = _copies_beside(x, k, obs_logvar)
    nll = functional.nll_of_copies(recon, x, k, likelihood, obs_logvar, weight, backend, log_total)
    log_q = log_posterior(eps, logvar) if score else _PathOnly.apply(z, eps, logvar.detach())
    return z, nll, log_prior(prior, z) - log_q


def _checked_prior(prior, mu, logvar):
    """The prior itself, which must be one of those that sample_kl takes."""
    if not isinstance(prior, Prior):
        checks.posterior(mu, logvar, prior)
    return prior


def _copies(x, k):
    """x, k times, one copy after the other: [k B, ...]."""
    return x.expand(k, *x.shape).reshape(-1, *x.shape[1:])


def _copies_beside(x, k, t):
    """t, beside k copies of x: a tensor with a part for each sample is copied too."""
    by_sample = isinstance(t, torch.Tensor) and t.dim() == x.dim() and len(t) == len(x) != 1
    return _copies(t, k) if by_sample else t


class _PathOnly(torch.autograd.Function):
    """log q(z|x) with a gradient by z only: -eps / sd, as if mu and logvar were constants."""

    @staticmethod
    def forward(ctx, z, eps, logvar):
        ctx.save_for_backward(eps, logvar)
        ctx.dtype = z.dtype
        return log_posterior(eps, logvar)

    @staticmethod
    def backward(ctx, grad):
        eps, logvar = ctx.saved_tensors
        pull = -eps * torch.exp(-0.5 * logvar.to(eps.dtype))
        return (grad.reshape(*grad.shape, *[1] * (eps.dim() - grad.dim())) * pull).to(ctx.dtype), None, None
