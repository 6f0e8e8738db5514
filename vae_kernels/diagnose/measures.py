"""What is measured of a trained model: every number is a function of tensors, without a judgement."""

import math
from dataclasses import dataclass

import torch

from .. import functional
from ..formulas import ALL
from ..formulas.kl import gaussian_kl
from ..mixture import mixture_log_prob
from ..monitor import ACTIVE
from ..priors import Prior


@dataclass(frozen=True)
class Measures:
    """Nats are per sample; every mean is over the samples looked at.

    samples, latents        how many
    nll, kl                 distortion and rate (Alemi et al. 2018, arXiv:1711.00464)
    kl_per_dim              [L]
    active_units            dims whose posterior mean varies by more than 0.01
    information, error      I(x; z) under q and its standard error; at most log samples
    aggregate_kl            KL of the Gaussian with the aggregate posterior's mean and covariance to the prior
    round_trip_data         mean square of (z - mu') / sigma', z from q(z|x), (mu', sigma') its decoded mean's encoding
    round_trip_prior        the same of z from the prior
    beta                    beta / rec_weight of the model; None where it is one per dimension
    square_ratio            mean (x - loc)^2 / variance of a Gaussian likelihood: 1 where the variance fits; else None
    detail                  energy of neighbouring pixels' differences, reconstructions' over data's; None: no images
    """

    samples: int
    latents: int
    nll: float
    kl: float
    kl_per_dim: torch.Tensor
    active_units: int
    information: float
    error: float
    aggregate_kl: float
    round_trip_data: float
    round_trip_prior: float
    beta: float | None
    square_ratio: float | None
    detail: float | None


@torch.no_grad()
def measure(model, x, batch_size=256, seed=0):
    """Measures of a model on x [N, ...]; the model is in evaluation mode meanwhile."""
    training = model.training
    model.eval()
    try:
        return _measure(model, x, batch_size, seed)
    finally:
        model.train(training)


def _measure(model, x, batch_size, seed):
    device = model.encode(x[:1].to(_device(model)))[0].device
    generator = torch.Generator(device).manual_seed(seed)
    parts = [_batch(model, part.to(device), generator) for part in x.split(batch_size)]
    nll, kl, mu, logvar, z, trip, squares, detail = (list(part) for part in zip(*parts, strict=True))
    mu, logvar, z = (torch.cat(t).double() for t in (mu, logvar, z))
    nll, kl = torch.cat(nll).double(), torch.cat(kl).double()
    prior_z = torch.randn(z.shape, generator=generator, device=device, dtype=z.dtype)
    prior_trip = [_round_trip(model, part) for part in prior_z.to(parts[0][2].dtype).split(batch_size)]
    information, error = mutual_information(mu, logvar, z)
    beta = model.beta / model.rec_weight
    return Measures(
        samples=len(x),
        latents=mu.shape[1],
        nll=nll.mean().item(),
        kl=kl.mean().item(),
        kl_per_dim=gaussian_kl(mu, logvar).mean(0).cpu(),
        active_units=int((mu.var(0, correction=0) > ACTIVE).sum()),
        information=information,
        error=error,
        aggregate_kl=aggregate_kl(mu, logvar),
        round_trip_data=torch.cat(trip).double().mean().item(),
        round_trip_prior=torch.cat(prior_trip).double().mean().item(),
        beta=float(beta) if torch.as_tensor(beta).dim() == 0 else None,
        square_ratio=None if squares[0] is None else torch.cat(squares).double().mean().item(),
        detail=None if detail[0] is None else _ratio(detail),
    )


def _batch(model, x, generator):
    mu, logvar = model.encode(x)
    z = functional.reparameterize(mu, logvar, generator=generator, backend=model.backend)
    recon = model.decode(z)
    options = {"likelihood": model.likelihood, "obs_logvar": model.obs_logvar, "backend": model.backend}
    nll = functional.nll(recon, x, **options)
    kl = functional.gaussian_kl(mu, logvar, prior=moments(model), backend=model.backend)
    mu, logvar, standard = _standard(model, mu, logvar, z)
    data = x.to(mu.dtype) / 255 if x.dtype == torch.uint8 and _levels(model) else x.to(mu.dtype)
    trip = _round_trip(model, standard)
    return nll, kl, mu, logvar, standard, trip, _squares(model, recon, data), _detail(data, _mean(model, recon))


def moments(model):
    """The prior's (mu, logvar), or None for N(0, I). ValueError for a prior that is no diagonal Gaussian."""
    if isinstance(model.prior, Prior):
        if not model.prior.closed_form:
            raise ValueError(f"model: its prior is a {type(model.prior).__name__}, expected a diagonal Gaussian")
        return model.prior.moments()
    return model.prior


def _standard(model, mu, logvar, z):
    """As if the prior were N(0, I), and flat: [B, L]."""
    prior = moments(model)
    if prior is not None:
        m, v = prior
        mu, z, logvar = (mu - m) * torch.exp(-v / 2), (z - m) * torch.exp(-v / 2), logvar - v
    return mu.flatten(1), logvar.flatten(1), z.flatten(1)


def _round_trip(model, standard):
    """[B]: z is decoded and encoded again; by how many of its sigmas is it missed, squared."""
    z = standard.unflatten(1, model.latent_shape) if model.latent_shape else standard
    prior = moments(model)
    if prior is not None:
        z = prior[0] + z * torch.exp(prior[1] / 2)
    mu, logvar = model.encode(_mean(model, model.decode(z)))
    return ((z - mu).square() * torch.exp(-logvar)).flatten(1).mean(1)


def mutual_information(mu, logvar, z):
    """I(x; z) = E log q(z|x) - E log q(z) and its standard error, in nats; q(z) is the mean of q(z|x) over the samples.

    Hoffman & Johnson 2016, ELBO surgery (the index-code mutual information); the estimate cannot exceed log N.
    mu, logvar, z: [N, L].
    """
    own = torch.distributions.Normal(mu, torch.exp(logvar / 2)).log_prob(z).sum(1)
    each = own - mixture_log_prob(z, mu, logvar)
    return each.mean().item(), (each.std() / math.sqrt(len(z))).item()


def aggregate_kl(mu, logvar):
    """1/2 ( tr C + |m|^2 - L - log det C ), m and C the mean and covariance of the aggregate posterior: 0 if it has
    those of the prior."""
    centred = mu - mu.mean(0)
    covariance = centred.T @ centred / len(mu) + torch.diag(logvar.exp().mean(0))
    square = mu.mean(0).square().sum()
    return 0.5 * (covariance.trace() + square - mu.shape[1] - torch.logdet(covariance)).item()


def _squares(model, recon, x):
    """[B]: mean of the squared residual over the likelihood's variance, where it has one."""
    if "logvar" not in ALL[model.likelihood].PARAMETERS:
        return None
    loc, logvar = recon if isinstance(recon, (tuple, list)) else (recon, model.obs_logvar)
    variance = torch.exp(torch.as_tensor(0.0 if logvar is None else logvar, dtype=loc.dtype, device=loc.device))
    return ((x - loc).square() / variance).flatten(1).mean(1)


def _detail(x, mean):
    """Energy of the differences of neighbouring pixels, of x and of the reconstructions; None where x is no image."""
    if x.dim() < 4:
        return None
    return [t.diff(dim=-1).square().sum() + t.diff(dim=-2).square().sum() for t in (x, mean)]


def _ratio(detail):
    of_data, of_recon = (torch.stack(part).sum() for part in zip(*detail, strict=True))
    return (of_recon / of_data).item()


def _mean(model, recon):
    parts = recon if isinstance(recon, (tuple, list)) else (recon,)
    return ALL[model.likelihood].mean(*parts)


def _levels(model):
    return ALL[model.likelihood].SUPPORT not in ("counts", "levels")


def _device(model):
    return next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
