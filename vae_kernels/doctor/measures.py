"""The measurements of a trained model. verdicts.py judges the numbers; this file does not."""

import math
from dataclasses import dataclass

import torch

from .. import functional
from ..core.control import Control, current
from ..estimators.importance import log_marginal_likelihood
from ..likelihoods import by_name, formula_of
from ..monitor import ACTIVE
from ..priors import Prior, pair_of
from .estimates import aggregate_kl, detail_energy, hole_share, mutual_information

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
    """Nats are per sample. Every mean is over the samples of the diagnosis.

    samples, latents        number of samples, number of latent dims L
    nll, kl                 distortion and rate (Alemi et al. 2018, arXiv:1711.00464)
    kl_error                standard error of kl over the samples. If the prior has no KL in closed form, kl is the
    Monte
                            Carlo estimate log q(z|x) - log p(z), and the error includes the error of this estimate
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
    """

    samples: int
    latents: int
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


def measure(model, x, batch_size=256, generator=None, log_p=OF_LOG_P):
    """(Measures, mu [N, L], draws [N, L] of the prior) of a model in evaluation mode on x [N, ...]."""
    parts = [_batch(model, part, generator) for part in x.split(batch_size)]
    nll, kl, mu, logvar, z, dims, trip, squares, detail = (list(part) for part in zip(*parts, strict=True))
    like = mu[0][0]
    mu, logvar, z = (torch.cat(t).flatten(1).double() for t in (mu, logvar, z))
    nll, kl = torch.cat(nll).double(), torch.cat(kl).double()
    draws = prior_draws(model, len(x), like, generator)
    trips = None, None
    if not model.autoregressive:
        prior_trip = [round_trip(model, part) for part in draws.split(batch_size)]
        trips = tuple(torch.cat(t).double().mean().item() for t in (trip, prior_trip))
    draws = draws.flatten(1).double()
    mean, covariance = prior_moments(model, like, generator)
    spread = mu.var(0, correction=0) / covariance.diagonal()
    information, error = mutual_information(mu, logvar, z)
    square_ratio, residual = (None, None) if squares[0] is None else torch.cat(squares).double().mean(0).tolist()
    beta = current(model.beta) / current(model.rec_weight)
    found = Measures(
        samples=len(x),
        latents=mu.shape[1],
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
        log_p=log_p and _log_p(model, x, nll + kl, log_p, generator),
        beta=float(beta) if torch.as_tensor(beta).dim() == 0 else None,
        square_ratio=square_ratio,
        residual=residual,
        fixed_variance=square_ratio is not None and not isinstance(model.obs_logvar, (torch.nn.Parameter, Control)),
        detail=None if detail[0] is None else _ratio(detail),
        autoregressive=model.autoregressive,
    )
    return found, mu.cpu(), draws.cpu()


def _batch(model, x, generator):
    """For one batch: nll [B], kl [B], mu, logvar, z, KL of each dim, round trip, squares, energy of details."""
    mu, logvar = model.encode(x)
    z, kl = functional.sample_kl(mu, logvar, prior=model.prior, generator=generator, backend=model.backend)
    dims = None
    if closed_form(model.prior):
        dims = functional.gaussian_kl(mu, logvar, prior=model.prior, per_dim=True, backend=model.backend)
    recon = model.decode(z, x) if model.autoregressive else model.decode(z)
    options = {"likelihood": model.likelihood, "obs_logvar": model.obs_logvar, "backend": model.backend}
    nll, data = functional.nll(recon, x, **options), values(model, x)
    trip = detail = None
    if not model.autoregressive:
        trip = round_trip(model, z)
        detail = [detail_energy(t) for t in (data, model._mean(recon))] if is_image(x) else None
    return nll, kl, mu, logvar, z, dims, trip, _squares(model, recon, data), detail


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


def round_trip(model, z):
    """The squared distance [B] of z to the posterior mean after decoding and encoding, in sigmas of this posterior; the
    mean over the dims."""
    mu, logvar = model.encode(model._mean(model.decode(z)))
    return ((z - mu).square() * torch.exp(-logvar)).flatten(1).mean(1)


def _log_p(model, x, loss, counts, generator):
    samples, draws = counts
    found = log_marginal_likelihood(model, x[:samples], draws, generator=generator)
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


def _squares(model, recon, x):
    """[B, 2]: the mean of residual^2 / variance, and the mean of residual^2. None if the likelihood has no variance."""
    if "logvar" not in formula_of(model.likelihood).PARAMETERS:
        return None
    params = by_name(recon, model.likelihood)
    loc, logvar = params["loc"], params.get("logvar", current(model.obs_logvar))
    variance = torch.exp(torch.as_tensor(0.0 if logvar is None else logvar, dtype=loc.dtype, device=loc.device))
    square = (x - loc).square()
    return torch.stack([t.flatten(1).mean(1) for t in (square / variance, square)], 1)


def is_image(x):
    """Whether x is [N, C, H, W], or has more dims."""
    return x.dim() >= 4


def _ratio(detail):
    data, recon = (torch.stack(part).sum() for part in zip(*detail, strict=True))
    return (recon / data).item()


def values(model, x):
    """x as the likelihood reads it, in float."""
    if x.dtype == torch.uint8 and formula_of(model.likelihood).SUPPORT not in ("counts", "levels"):
        return x / 255
    return x if x.is_floating_point() else x.float()
