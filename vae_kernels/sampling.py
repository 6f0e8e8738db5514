"""The public functions of the sample, and logvar_of, for a posterior with a standard deviation. functional.py has the
public functions of the objective.

Each function checks its arguments, draws the seed of the noise, makes a request and gives the request to a backend.
"""

import math
from typing import Any

import torch

from . import backends
from .backends.reference import compute_dtype
from .core import checks, dtensor, layout, noise, weights
from .core.objective import REDUCTIONS, Draw
from .priors import Prior, monte_carlo_kl, pair_of
from .typing import Backend, PriorLike, Reduction, ShardLike


def sample_kl(
    mu: torch.Tensor,
    logvar: torch.Tensor | None = None,
    *,
    prior: PriorLike = None,
    latent_weight: torch.Tensor | None = None,
    per_dim: bool = False,
    n_samples: int | None = None,
    reduction: Reduction = "none",
    generator: torch.Generator | None = None,
    shard: ShardLike | None = None,
    backend: Backend = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """A reparameterized sample of the posterior and its KL to the prior, from one kernel: (z, kl).

        z = mu + exp(logvar / 2) * eps,  eps ~ N(0, I)        (Kingma & Welling 2014, arXiv:1312.6114, section 2.4)

        z, kl = sample_kl(encoder(x));  loss = fused_elbo(decoder(z), x, kl=kl)

    This is the step with the least work and memory, because mu and logvar get one gradient from one kernel. The noise
    is not stored: the backward pass draws the same noise again. (Only the backend "lean" stores the noise.)
    torch.manual_seed or `generator` gives the seed of the noise.

    Args:
        mu, logvar: [B, L, ...] float32, float64, bfloat16 or float16. Or mu alone, [B, 2L, ...]: the output of an
            encoder, mu and then logvar along dimension 1. This tensor is not split, and gets its gradient in one piece.
            Its halves (chunk) may be given too and are not copied, but autograd then joins two gradients.
        prior: None for N(0, I), a pair (mu, logvar) that broadcasts to [B, L, ...], or a module of vae_kernels.priors.
            All of these get gradients. If the KL of a module has no closed form, kl is the Monte Carlo estimate
            log q(z|x) - log p(z) from the z of this call, as the mean over the n_samples.
        latent_weight: as in fused_elbo: a weight for the KL of each latent dimension. It does not change z. The KL must
            have a closed form.
        per_dim: whether to return the KL of each latent dimension in place of the sum. The KL must have a closed form.
        n_samples: None, or the number K of samples for each posterior.
        reduction: of the KL over the batch: "none", "mean" or "sum".
        generator: a torch.Generator on the device of mu, or None for the default one.
        shard: None, or vk.Shard(first, total) or a plain pair: mu has the samples first, ..., first + B - 1 of a batch
            of `total` samples. Each sample gets the noise that it has in the whole batch. If all ranks have the same
            seed, they draw the noise that one rank would draw for the whole batch. Without shard, the noise of two
            ranks differs if their seeds differ, as with torch.randn: use seed + rank.
        backend: as in fused_elbo.

    Returns:
        z: [B, L, ...], or [K, B, L, ...] with n_samples=K, of the dtype of mu.
        kl: [B] in nats, summed over the latent dims, or [B, L, ...] with per_dim=True. Or the mean or sum of this over
            the batch. float32, or float64 if mu is float64.
    """
    checks.choice("reduction", reduction, REDUCTIONS)
    checks.flag("per_dim", per_dim)
    if per_dim:
        z, kl = _sample_elements(mu, logvar, prior, latent_weight, n_samples, generator, shard, backend)
    elif isinstance(prior, Prior) and not prior.closed_form:
        if latent_weight is not None:
            raise ValueError(
                f"latent_weight: has no effect with {type(prior).__name__}: its KL is one number for all dimensions"
            )
        z, eps, logvar = sample_and_noise(mu, logvar, n_samples, generator, shard, backend)
        kl = monte_carlo_kl(z, eps, logvar, prior)
    else:
        how = n_samples, True, generator, shard, backend
        z, kl = _sample(mu, logvar, pair_of(prior), *how, latent_weight=latent_weight)
    return z, kl if reduction == "none" else getattr(kl, reduction)(0)


def reparameterize(
    mu: torch.Tensor,
    logvar: torch.Tensor | None = None,
    *,
    n_samples: int | None = None,
    generator: torch.Generator | None = None,
    shard: ShardLike | None = None,
    backend: Backend = "auto",
) -> torch.Tensor:
    """z = mu + exp(logvar / 2) * eps, eps ~ N(0, I): the sample of sample_kl, with its noise and without the KL."""
    return _sample(mu, logvar, None, n_samples, False, generator, shard, backend)[0]


def logvar_of(*, std: torch.Tensor | None = None, logstd: torch.Tensor | None = None) -> torch.Tensor:
    """The log-variance of a posterior that is given by its standard deviation: 2 log(std), or 2 logstd.

        kl = gaussian_kl(mu, logvar_of(std=F.softplus(raw)))

    Args:
        std: of any shape: float32, float64, bfloat16 or float16, and > 0. The values are not read, and no eps is added:
            a std of 0 has the log-variance -inf and an infinite KL.
        logstd: in place of std: its natural logarithm.

    Returns:
        The log-variance, of the same shape: float32, or float64 if the argument is float64. It is differentiable.

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected.
    """
    if (std is None) == (logstd is None):
        came = "neither" if std is None else "both"
        raise ValueError(f"std, logstd: got {came}, expected one of the two")
    name, given = ("std", std) if logstd is None else ("logstd", logstd)
    given = checks.tensor(name, given)
    wide = given.to(compute_dtype(given))
    return 2 * (wide.log() if logstd is None else wide)


def _sample(
    mu, logvar, prior, n_samples, with_kl, generator, shard, backend, rng=None, latent_weight=None, eps=None
) -> Any:
    mu, logvar, prior = _packed(mu, prior) if logvar is None else _pair(mu, logvar, prior)
    checks.noise(n_samples, generator, mu)
    if latent_weight is not None:
        like = mu if logvar is not None else mu.detach().chunk(2, 1)[0]
        weights.check("latent_weight", latent_weight, like, "mu", "beta")
        latent_weight = layout.term_weight(latent_weight, like)
    whole = None
    if dtensor.any_of((mu, logvar, *prior)):
        if shard is not None:
            raise ValueError("shard: has no effect with DTensors, which know their place in the batch")
        (mu, logvar, prior, latent_weight), shard, whole = dtensor.own_samples(
            mu, logvar, prior, latent_weight, n_samples
        )
    module = backends.choose(backend, (mu, *prior) if logvar is None else (mu, logvar, *prior))
    if eps is None and rng is None and shard is None and backends.takes_noise_of_device(module):
        eps = noise.of_device(generator, mu if logvar is not None else mu.detach().chunk(2, 1)[0], n_samples)
    if eps is None:
        rng = noise.new_rng(generator, mu.device) if rng is None else rng
        if shard is not None:
            rng = noise.of_shard(rng, *checks.shard(shard, mu.shape[0]))
    out = module.sample_kl(Draw(mu, logvar, prior, rng, n_samples, with_kl, latent_weight, eps))
    return out if whole is None else whole(*out)


def sample_and_noise(mu, logvar, n_samples, generator, shard, backend):
    """z, the eps in z, and logvar as a tensor of its own. Unless the noise is that of the device, it is drawn a second
    time, as in a backward pass."""
    checks.tensor("mu", mu)
    checks.noise(n_samples, generator, mu)
    if dtensor.any_of((mu, logvar)):
        raise TypeError("prior: one whose KL is an estimate takes no DTensors; each rank can draw its own with shard=")
    given = (mu,) if logvar is None else (mu, logvar)
    how = None, n_samples, False, generator, shard, backend
    if shard is None and backends.takes_noise_of_device(backends.choose(backend, given)):
        both = checks.moments(mu, "mu").chunk(2, 1) if logvar is None else checks.posterior(mu, logvar, None)
        eps = noise.of_device(generator, both[0].detach(), n_samples)
        return _sample(both[0], both[1], *how, eps=eps)[0], eps, both[1]
    how = *how, noise.new_rng(generator, mu.device)
    z = _sample(mu, logvar, *how)[0]
    logvar = mu.chunk(2, 1)[1] if logvar is None else logvar
    zero = torch.zeros(logvar.shape, dtype=compute_dtype(mu, logvar), device=mu.device)
    return z, _sample(zero, zero, *how)[0], logvar


def _sample_elements(mu, logvar, prior, latent_weight, n_samples, generator, shard, backend):
    """z, and the KL of each element of mu. The noise of an element depends on its index alone: z is that of _sample."""
    if isinstance(prior, Prior) and not prior.closed_form:
        raise TypeError(f"per_dim: got True, expected False with {type(prior).__name__}: its KL has no closed form")
    mu, logvar = layout.halves(checks.moments(mu, "mu")) if logvar is None else (mu, logvar)
    latent, shape = checks.posterior(mu, logvar, pair_of(prior)), mu.shape
    if shard is not None:
        shard = [n * math.prod(shape[1:]) for n in checks.shard(shard, shape[0])]
    if latent_weight is not None:
        weights.check("latent_weight", latent_weight, mu, "mu", "beta")
        latent_weight = layout.element_weight(latent_weight, mu)
    mu, logvar, *prior = layout.elements(layout.latent(latent))
    how = n_samples, True, generator, shard, backend
    z, kl = _sample(mu, logvar, prior or None, *how, latent_weight=latent_weight)
    return z.view(shape if n_samples is None else (n_samples, *shape)), kl.view(shape)


def _pair(mu, logvar, prior):
    latent = (mu, logvar)
    if type(prior) is tuple and len(prior) == 2:
        latent = (mu, logvar, *prior)
    usual = prior is None or len(latent) == 4
    if usual and checks.plain(latent) and all(t.shape == mu.shape for t in latent[1:]):
        return mu, logvar, latent[2:]
    mu, logvar, *prior = layout.latent(checks.posterior(mu, logvar, prior))
    return mu, logvar, tuple(prior)


def _packed(both, prior):
    both = layout.moments(checks.moments(both, "mu"))
    if prior is not None:
        _, _, prior = _pair(*both.detach().chunk(2, 1), prior)
    return both, None, prior or ()
