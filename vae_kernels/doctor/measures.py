"""The measurements of a trained model. verdicts.py judges the numbers; this file does not."""

import math
from dataclasses import dataclass

import torch

from .. import conditions, functional
from ..core.control import current
from ..core.weights import filled
from ..likelihoods import by_name, formula_of
from ..monitor import ACTIVE
from ..priors import ConditionalGaussian, Prior, pair_of
from .baseline import is_learned
from .columns import ColumnFit
from .estimates import aggregate_kl, detail_energies, detail_shares, hole_share, mutual_information, unlike_share
from .grey import grey_share
from .look import read
from .marginal import OF_LOG_P, LogP, log_p

PRIOR_DRAWS = 10_000  # for the mean and covariance of a prior without a closed form: error 1 % of a standard deviation


@dataclass(frozen=True)
class Measures:
    """All nats are per sample. Every mean is over the samples of the diagnosis. With a mask, nll, log_p, square_ratio,
    residual, grey, detail and unlike count only the observed elements. An error is the standard error over the samples.

    samples, latents        number of samples, number of latent dims L
    observed                share of the elements of x that are observed; None without a mask
    grey                    share of the elements of x that are neither 0 nor 1, if the likelihood is no density of such
                            x ("bernoulli"): nll, elbo and log_p are then those of a cross entropy. Else 0
    nll, nll_error          distortion (Alemi et al. 2018, arXiv:1711.00464)
    kl, kl_error            rate. If the prior has no KL in closed form, kl is the Monte Carlo estimate
                            log q(z|x) - log p(z), whose error is included
    elbo_error              standard error of nll + kl
    kl_per_dim              [L]; None if the prior has no KL in closed form
    spread                  [L] variance of the posterior mean, divided by the prior's variance
    active_units            number of dims whose spread is more than 0.01
    information, error      I(x; z) under q; its error. The estimate is a lower bound, and at most log samples
    aggregate_kl            KL between the Gaussians with the mean and covariance of aggregate posterior and prior
    hole_share              share of the prior's draws where the density of the aggregate posterior is lower than at
                            95 % of the data's z: 5 % if both have one distribution
    round_trip_data         mean square of (z - mu') / sigma' for z from q(z|x): z is decoded, and the decoded mean is
                            encoded to (mu', sigma'). None with an autoregressive decoder
    round_trip_prior        the same for z from the prior
    unlike                  share of the decoded draws of the prior that change more than 95 % of the decoded z of the
                            data do, when they are encoded to mu' and decoded again: 5 % if both are alike. None with an
                            autoregressive decoder
    log_p                   LogP, or None if it was not asked for
    beta                    beta / rec_weight of the model; None if there is a beta for each dimension
    square_ratio            mean of (x - loc)^2 / variance for a Gaussian likelihood: 1 if the variance fits; else None
    residual                mean of (x - loc)^2 for a Gaussian likelihood; else None
    fixed_variance          whether the variance is a number or a buffer of the model: not trained, not from the decoder
    detail                  share of the data's detail (energy of neighbouring pixels' differences) that is in the
                            reconstructions; None without images
    sharpness               the energy of all detail in the reconstructions, also of detail that the data do not have,
                            divided by the energy of the data's detail
    autoregressive          whether the decoder reads x
    free_bits               whether the model has free bits
    trained_prior           whether the prior has parameters
    columns                 a ColumnFit for each column of a table (likelihoods.Mixed); else ()
    """

    samples: int
    latents: int
    observed: float | None
    grey: float
    nll: float
    nll_error: float
    kl: float
    kl_error: float
    elbo_error: float
    kl_per_dim: torch.Tensor | None
    spread: torch.Tensor
    active_units: int
    information: float
    error: float
    aggregate_kl: float
    hole_share: float
    round_trip_data: float | None
    round_trip_prior: float | None
    unlike: float | None
    log_p: LogP | None
    beta: float | None
    square_ratio: float | None
    residual: float | None
    fixed_variance: bool
    detail: float | None
    sharpness: float | None
    autoregressive: bool
    free_bits: bool
    trained_prior: bool
    columns: tuple[ColumnFit, ...] = ()


def measure(model, x, batch_size=256, generator=None, of_log_p=OF_LOG_P, weight=None, given=(), condition=None):
    """(Measures, mu [N, L], z [N, L] of the posteriors, draws [N, L] of the prior) of a model in evaluation mode on x
    [N, ...].

    weight: None, or a mask in the shape of x, which is 0 where the mask is False. given: the names of the parameters
    that the decoder gives. condition: None, or that of x.

    With a ConditionalGaussian as prior, z is measured from the prior of its own condition, in standard deviations of
    this prior. The prior is then N(0, I) for every x.
    """
    batches = x.split(batch_size)
    weights = [None] * len(batches) if weight is None else weight.split(batch_size)
    each = list(conditions.split(condition, batch_size, len(x)))
    parts = [_batch(model, *of_batch, generator) for of_batch in zip(batches, weights, each, strict=True)]
    nll, kl, mu, logvar, z, dims, trip, squares, detail = (list(part) for part in zip(*parts, strict=True))
    like = mu[0][0]
    mu, logvar, z = (torch.cat(t).flatten(1).double() for t in (mu, logvar, z))
    nll, kl = torch.cat(nll).double(), torch.cat(kl).double()
    draws = prior_draws(model, len(x), like, generator, condition)
    trips = None, None, None
    if not model.autoregressive:
        by_batch = zip(draws.split(batch_size), weights, each, strict=True)
        of_prior = [round_trip(model, *of_batch) for of_batch in by_batch]
        data, prior = (torch.cat(t, 1).double() for t in (trip, of_prior))
        trips = data[0].mean().item(), prior[0].mean().item(), unlike_share(data[1], prior[1])
    draws = draws.flatten(1).double()
    shown = mu.cpu(), z.cpu(), draws.cpu()
    if isinstance(model.prior, ConditionalGaussian):
        mu, logvar, z, draws = _standardized(model.prior(condition), mu, logvar, z, draws)
    mean, covariance = prior_moments(model, like, generator)
    spread = mu.var(0, correction=0) / covariance.diagonal()
    information, error = mutual_information(mu, logvar, z)
    square_ratio, residual = (None, None) if squares[0] is None else _means(squares)
    detail = (None, None) if detail[0] is None else detail_shares(torch.stack(detail).sum(0))
    beta = current(model.beta) / current(model.rec_weight)
    found = Measures(
        samples=len(x),
        latents=mu.shape[1],
        observed=None if weight is None else weight.double().mean().item(),
        grey=grey_share(x, model.likelihood, weight),
        nll=nll.mean().item(),
        nll_error=standard_error(nll),
        kl=kl.mean().item(),
        kl_error=standard_error(kl),
        elbo_error=standard_error(nll + kl),
        kl_per_dim=None if dims[0] is None else torch.cat(dims).flatten(1).double().mean(0).cpu(),
        spread=spread.cpu(),
        active_units=int((spread > ACTIVE).sum()),
        information=information,
        error=error,
        aggregate_kl=aggregate_kl(mu, logvar, (mean, covariance)),
        hole_share=hole_share(mu, logvar, z, draws),
        round_trip_data=trips[0],
        round_trip_prior=trips[1],
        unlike=trips[2],
        log_p=of_log_p and log_p(model, x, weight, nll + kl, of_log_p, generator, condition),
        beta=float(beta) if torch.as_tensor(beta).dim() == 0 else None,
        square_ratio=square_ratio,
        residual=residual,
        fixed_variance=square_ratio is not None and "logvar" not in given and not is_learned(model.obs_logvar),
        detail=detail[0],
        sharpness=detail[1],
        autoregressive=model.autoregressive,
        free_bits=model.free_bits is not None,
        trained_prior=any(name.startswith("prior_") for name, _ in model.named_parameters()),
    )
    return found, *shown


def standard_error(each):
    """The standard error of the mean of `each` [N], a float."""
    return (each.std() / math.sqrt(len(each))).item()


def _standardized(prior, mu, logvar, *points):
    """mu, logvar and points, each [N, L], in the coordinates in which the prior of each sample is N(0, I)."""
    centre, spread = (part.flatten(1).double() for part in prior)
    inverse = torch.exp(-0.5 * spread)
    return (mu - centre) * inverse, logvar - spread, *((t - centre) * inverse for t in points)


def _batch(model, x, weight, condition, generator):
    """For one batch: nll [B], kl [B], mu, logvar, z, KL of each dim, round trip, squares, energy of details."""
    mu, logvar = model.encode(x, condition=condition)
    prior = conditions.prior_of(model.prior, condition)
    z, kl = functional.sample_kl(mu, logvar, prior=prior, generator=generator, backend=model.backend)
    dims = None
    if closed_form(prior):
        dims = functional.gaussian_kl(mu, logvar, prior=prior, per_dim=True, backend=model.backend)
    recon = model.decode(z, x if model.autoregressive else None, condition=condition)
    options = {"likelihood": model.likelihood, "obs_logvar": model.obs_logvar, "backend": model.backend}
    nll, data = functional.nll(recon, x, weight=weight, **options), values(model, x)
    trip = detail = None
    if not model.autoregressive:
        trip = round_trip(model, z, weight, condition)
        detail = detail_energies(data, model._mean(recon), weight) if is_image(x) else None
    return nll, kl, mu, logvar, z, dims, trip, _squares(model, recon, data, weight), detail


def closed_form(prior):
    return not isinstance(prior, Prior) or prior.closed_form


def _pair(prior, like):
    """The (mu, logvar) of a prior whose KL has a closed form."""
    return pair_of(prior) or (torch.zeros_like(like), torch.zeros_like(like))


def prior_draws(model, n, like, generator, condition=None):
    """n draws of the prior. Each draw has the shape and dtype of `like`, which is one z."""
    return conditions.draws(model.prior, n, like.shape, like, condition, generator, model.backend).to(like.dtype)


def prior_moments(model, like, generator):
    """Mean [L] and covariance [L, L] of the prior, in float64. Without a closed form they are those of many draws. A
    ConditionalGaussian is N(0, I) in the coordinates of measure()."""
    if isinstance(model.prior, ConditionalGaussian):
        size = like.numel()
        return like.new_zeros(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64, device=like.device)
    if not closed_form(model.prior):
        draws = prior_draws(model, PRIOR_DRAWS, like, generator).flatten(1).double()
        return draws.mean(0), torch.cov(draws.T).reshape(2 * draws.shape[1:])
    mu, logvar = (part.expand(1, *like.shape).flatten().double() for part in _pair(model.prior, like))
    return mu, torch.diag(logvar.exp())


def round_trip(model, z, weight, condition=None):
    """[2, B]: two errors of z after decoding and encoding again, to mu' and sigma'. The first is the mean over the dims
    of (z - mu')^2 / sigma'^2. The second is the squared distance of the decoded z and the decoded mu'. The encoder does
    not see what the mask hides: with another share observed, its sigmas are others."""
    image = filled(model._mean(model.decode(z, condition=condition)), weight)
    mu, logvar = model.encode(image, condition=condition)
    of_z = ((z - mu).square() * torch.exp(-logvar)).flatten(1).mean(1)
    away = filled(model._mean(model.decode(mu, condition=condition)) - image, weight)
    return torch.stack([of_z, away.flatten(1).square().sum(1).to(of_z.dtype)])


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


def values(model, x):
    """x as the likelihood reads x, in float."""
    return read(x, model.likelihood)
