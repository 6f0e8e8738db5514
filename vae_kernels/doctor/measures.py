"""The measurements of a trained model. verdicts.py judges the numbers; this file does not."""

import math
from dataclasses import dataclass

import torch

from .. import functional
from ..core.control import current
from ..core.weights import filled
from ..estimators.importance import log_marginal_likelihood
from ..likelihoods import by_name, formula_of
from ..monitor import ACTIVE
from ..priors import Prior, pair_of
from .baseline import is_learned
from .estimates import aggregate_kl, detail_energy, hole_share, mutual_information
from .look import read

PRIOR_DRAWS = 10_000  # for the mean and covariance of a prior without a closed form: error 1 % of a standard deviation
OF_LOG_P = 128, 256  # samples, and draws of the posterior for each


@dataclass(frozen=True)
class LogP:
    """An estimate of log p(x) by importance sampling, and its difference to the ELBO of the same samples.

    value, error    mean of log p(x) in nats, and the standard error of the importance sampling
    gap, gap_error  mean of log p(x) - ELBO, and its standard error over the samples
    samples, draws  number of samples, and number of draws of q(z|x) for each sample
    effective       median over the samples of the effective number of draws; if it is small, value is a lower bound
    """

    value: float
    error: float
    gap: float
    gap_error: float
    samples: int
    draws: int
    effective: float


@dataclass(frozen=True)
class Measures:
    """Nats are per sample. Every mean is over the samples of the diagnosis. With a mask, nll, log_p, square_ratio,
    residual and detail are those of the observed elements.

    samples, latents        number of samples, number of latent dims L
    observed                share of the elements of x that are observed; None without a mask
    nll, kl                 distortion and rate (Alemi et al. 2018, arXiv:1711.00464)
    kl_error                standard error of kl over the samples. If the prior has no KL in closed form, kl is the
                            Monte Carlo estimate log q(z|x) - log p(z), whose error is included
    kl_per_dim              [L]; None if the prior has no KL in closed form
    spread                  [L] variance of the posterior mean, divided by the prior's variance
    active_units            number of dims whose spread is more than 0.01
    information, error      I(x; z) under q, at most log samples; and its standard error
    aggregate_kl            KL between the Gaussians with the mean and covariance of aggregate posterior and prior
    hole_share              share of prior draws where the aggregate posterior's density is lower than at 95 % of data's
    z round_trip_data         mean square of (z - mu') / sigma' for z from q(z|x): z is decoded, and the decoded mean is
                            encoded to (mu', sigma'). None with an autoregressive decoder
    round_trip_prior        the same for z from the prior
    log_p                   LogP, or None if it was not asked for
    beta                    beta / rec_weight of the model; None if there is a beta for each dimension
    square_ratio            mean of (x - loc)^2 / variance for a Gaussian likelihood: 1 if the variance fits; else None
    residual                mean of (x - loc)^2 for a Gaussian likelihood; else None
    fixed_variance          whether the variance is a number or a buffer of the model: not trained, not from the decoder
    detail                  energy of neighbouring pixels' differences: reconstructions' / data's; None without images
    autoregressive          whether the decoder reads x
    free_bits               whether the model has free bits
    trained_prior           whether the prior has parameters
    """

    samples: int
    latents: int
    observed: float | None
    nll: float
    kl: float
    kl_error: float
    kl_per_dim: torch.Tensor | None
    spread: torch.Tensor
    active_units: int
    information: float
    error: float
    aggregate_kl: float
    hole_share: float
    round_trip_data: float | None
    round_trip_prior: float | None
    log_p: LogP | None
    beta: float | None
    square_ratio: float | None
    residual: float | None
    fixed_variance: bool
    detail: float | None
    autoregressive: bool
    free_bits: bool
    trained_prior: bool


def measure(model, x, batch_size=256, generator=None, log_p=OF_LOG_P, weight=None, given=()):
    """(Measures, mu [N, L], draws [N, L] of the prior) of a model in evaluation mode on x [N, ...].

    weight: None, or a mask in the shape of x, which is 0 where the mask is False. given: the names of the parameters
    that the decoder gives.
    """
    batches = x.split(batch_size)
    weights = [None] * len(batches) if weight is None else weight.split(batch_size)
    parts = [_batch(model, part, w, generator) for part, w in zip(batches, weights, strict=True)]
    nll, kl, mu, logvar, z, dims, trip, squares, detail = (list(part) for part in zip(*parts, strict=True))
    like = mu[0][0]
    mu, logvar, z = (torch.cat(t).flatten(1).double() for t in (mu, logvar, z))
    nll, kl = torch.cat(nll).double(), torch.cat(kl).double()
    draws = prior_draws(model, len(x), like, generator)
    trips = None, None
    if not model.autoregressive:
        by_batch = zip(draws.split(batch_size), weights, strict=True)
        prior_trip = [round_trip(model, part, w) for part, w in by_batch]
        trips = tuple(torch.cat(t).double().mean().item() for t in (trip, prior_trip))
    draws = draws.flatten(1).double()
    mean, covariance = prior_moments(model, like, generator)
    spread = mu.var(0, correction=0) / covariance.diagonal()
    information, error = mutual_information(mu, logvar, z)
    square_ratio, residual = (None, None) if squares[0] is None else _means(squares)
    beta = current(model.beta) / current(model.rec_weight)
    found = Measures(
        samples=len(x),
        latents=mu.shape[1],
        observed=None if weight is None else weight.double().mean().item(),
        nll=nll.mean().item(),
        kl=kl.mean().item(),
        kl_error=(kl.std() / math.sqrt(len(kl))).item(),
        kl_per_dim=None if dims[0] is None else torch.cat(dims).flatten(1).double().mean(0).cpu(),
        spread=spread.cpu(),
        active_units=int((spread > ACTIVE).sum()),
        information=information,
        error=error,
        aggregate_kl=aggregate_kl(mu, logvar, (mean, covariance)),
        hole_share=hole_share(mu, logvar, z, draws),
        round_trip_data=trips[0],
        round_trip_prior=trips[1],
        log_p=log_p and _log_p(model, x, weight, nll + kl, log_p, generator),
        beta=float(beta) if torch.as_tensor(beta).dim() == 0 else None,
        square_ratio=square_ratio,
        residual=residual,
        fixed_variance=square_ratio is not None and "logvar" not in given and not is_learned(model.obs_logvar),
        detail=None if detail[0] is None else _ratio(detail),
        autoregressive=model.autoregressive,
        free_bits=model.free_bits is not None,
        trained_prior=any(name.startswith("prior_") for name, _ in model.named_parameters()),
    )
    return found, mu.cpu(), draws.cpu()


def _batch(model, x, weight, generator):
    """For one batch: nll [B], kl [B], mu, logvar, z, KL of each dim, round trip, squares, energy of details."""
    mu, logvar = model.encode(x)
    z, kl = functional.sample_kl(mu, logvar, prior=model.prior, generator=generator, backend=model.backend)
    dims = None
    if closed_form(model.prior):
        dims = functional.gaussian_kl(mu, logvar, prior=model.prior, per_dim=True, backend=model.backend)
    recon = model.decode(z, x) if model.autoregressive else model.decode(z)
    options = {"likelihood": model.likelihood, "obs_logvar": model.obs_logvar, "backend": model.backend}
    nll, data = functional.nll(recon, x, weight=weight, **options), values(model, x)
    trip = detail = None
    if not model.autoregressive:
        trip = round_trip(model, z, weight)
        detail = [detail_energy(t, weight) for t in (data, model._mean(recon))] if is_image(x) else None
    return nll, kl, mu, logvar, z, dims, trip, _squares(model, recon, data, weight), detail


def closed_form(prior):
    return not isinstance(prior, Prior) or prior.closed_form


def _pair(prior, like):
    """The (mu, logvar) of a prior whose KL has a closed form."""
    return pair_of(prior) or (torch.zeros_like(like), torch.zeros_like(like))


def prior_draws(model, n, like, generator):
    """n draws of the prior. Each draw has the shape and dtype of `like`, which is one z."""
    if not closed_form(model.prior):
        return model.prior.sample(n, generator=generator).to(like.dtype)
    mu, logvar = (part.expand(n, *like.shape) for part in _pair(model.prior, like))
    return functional.reparameterize(mu, logvar, generator=generator, backend=model.backend).to(like.dtype)


def prior_moments(model, like, generator):
    """Mean [L] and covariance [L, L] of the prior, in float64. Without a closed form they are those of many draws."""
    if not closed_form(model.prior):
        draws = prior_draws(model, PRIOR_DRAWS, like, generator).flatten(1).double()
        return draws.mean(0), torch.cov(draws.T).reshape(2 * draws.shape[1:])
    mu, logvar = (part.expand(1, *like.shape).flatten().double() for part in _pair(model.prior, like))
    return mu, torch.diag(logvar.exp())


def round_trip(model, z, weight):
    """The squared distance [B] of z to the posterior mean after decoding and encoding, in sigmas of this posterior; the
    mean over the dims. The encoder does not see what the mask hides: with another share observed, its sigmas are
    others."""
    mu, logvar = model.encode(filled(model._mean(model.decode(z)), weight))
    return ((z - mu).square() * torch.exp(-logvar)).flatten(1).mean(1)


def _log_p(model, x, weight, loss, counts, generator):
    samples, draws = counts
    weight = None if weight is None else weight[:samples]
    found = log_marginal_likelihood(model, x[:samples], draws, weight=weight, generator=generator)
    gap, n = found.value + loss[:samples], len(found.value)
    return LogP(
        value=found.value.mean().item(),
        error=(found.standard_error.square().sum().sqrt() / n).item(),
        gap=gap.mean().item(),
        gap_error=(gap.std() / math.sqrt(n)).item(),
        samples=n,
        draws=draws,
        effective=found.effective_samples.median().item(),
    )


def _squares(model, recon, x, weight):
    """[3]: the sum of residual^2 / variance, the sum of residual^2, and the number of elements. None if the likelihood
    has no variance."""
    if "logvar" not in formula_of(model.likelihood).PARAMETERS:
        return None
    params = by_name(recon, model.likelihood)
    loc, logvar = params["loc"], params.get("logvar", current(model.obs_logvar))
    variance = torch.exp(torch.as_tensor(0.0 if logvar is None else logvar, dtype=loc.dtype, device=loc.device))
    square = (x - loc).square()
    sums = [filled(t, weight).sum(dtype=torch.float64) for t in (square / variance, square, torch.ones_like(square))]
    return torch.stack(sums)


def _means(squares):
    """(the mean of residual^2 / variance, the mean of residual^2)"""
    *sums, elements = torch.stack(squares).sum(0).tolist()
    return [total / elements for total in sums]


def is_image(x):
    """Whether x is [N, C, H, W], or has more dims."""
    return x.dim() >= 4


def _ratio(detail):
    """None if the data have no detail: all pixels are equal, or no two neighbours are observed."""
    data, recon = (torch.stack(part).sum() for part in zip(*detail, strict=True))
    return (recon / data).item() if data > 0 else None


def values(model, x):
    """x as the likelihood reads x, in float."""
    return read(x, model.likelihood)
