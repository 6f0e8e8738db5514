"""Priors p(z) as modules, for `prior=` of fused_elbo, sample_kl and VAE.

    prior                     its KL to the posterior q(z|x) = N(mu, exp(logvar))
    StandardNormal            closed form
    DiagonalGaussian          closed form
    ConditionalGaussian       closed form: called with a context, it gives the pair (mu, logvar) that `prior=` takes
    MixtureOfGaussians        Monte Carlo
    VampPrior                 Monte Carlo
    FlowPrior                 Monte Carlo

Where there is no closed form the KL is estimated from the very z that is decoded, log q(z|x) - log p(z) (Kingma &
Welling 2014, arXiv:1312.6114, section 2.3): without bias, and now and then negative. So it is sample_kl that takes such
a prior, and fused_elbo takes the kl that it gives. Every prior has log_prob(z) in nats and sample(n).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from .core import noise
from .formulas import gaussian
from .mixture import mixture_log_prob
from .typing import PriorLike

Shape = int | Iterable[int]
Pair = tuple[torch.Tensor, torch.Tensor]


class Prior(nn.Module):
    """What a prior over latents of one shape has. For one of your own: give shape, log_prob and sample.

    shape: of one z, without the batch: an int or a tuple.
    """

    closed_form: bool = False
    """Whether the KL has a closed form, which moments() then gives."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if any(not isinstance(n, int) or n < 1 for n in self.shape):
            raise ValueError(f"shape: got {shape!r}, expected a positive int or a tuple of them: that of one z")

    def moments(self) -> Pair | None:
        """Where the KL has a closed form: None for N(0, I), or the pair (mu, logvar)."""
        raise NotImplementedError

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """log p(z) in nats: z [..., *shape] -> [...]."""
        raise NotImplementedError

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """n draws [n, *shape], without gradient; torch.manual_seed and `generator` rule them."""
        raise NotImplementedError

    def flat(self, z: torch.Tensor) -> torch.Tensor:
        """z [..., *shape] -> [..., D]."""
        dims = len(self.shape)
        if tuple(z.shape[z.dim() - dims :]) != self.shape:
            raise ValueError(f"z: got shape {tuple(z.shape)}, expected [..., {', '.join(map(str, self.shape))}]")
        return z.flatten(z.dim() - dims) if dims else z.unsqueeze(-1)

    def extra_repr(self) -> str:
        return f"shape={self.shape}"


class StandardNormal(Prior):
    """N(0, I): what prior=None is."""

    closed_form = True

    zero: torch.Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.register_buffer("zero", torch.zeros(1, math.prod(self.shape)), persistent=False)

    def moments(self) -> None:
        return None

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        return mixture_log_prob(self.flat(z), self.zero, self.zero)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        return _normals((n, *self.shape), self.zero, generator)


class DiagonalGaussian(Prior):
    """N(mu, exp(logvar)), both learned, from N(0, I) on."""

    closed_form = True

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.mu = nn.Parameter(torch.zeros(self.shape))
        self.logvar = nn.Parameter(torch.zeros(self.shape))

    def moments(self) -> Pair:
        return self.mu, self.logvar

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        return mixture_log_prob(self.flat(z), self.mu.reshape(1, -1), self.logvar.reshape(1, -1))

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        return self.mu + torch.exp(0.5 * self.logvar) * _normals((n, *self.shape), self.mu, generator)


class ConditionalGaussian(nn.Module):
    """p(z|c) = N(mu(c), exp(logvar(c))): the prior of a level of a hierarchy, or of a conditional VAE.

        z, kl = vk.sample_kl(mu, logvar, prior=conditional(context))

    network: module, c -> a tensor [B, 2L, ...]: mu, then logvar; or the pair of them.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, context: Any) -> Pair:
        """The pair (mu, logvar), each [B, L, ...]."""
        mu, logvar = _halves(self.network(context), "network")
        return mu, logvar

    @torch.no_grad()
    def sample(self, context: Any, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """A draw [B, L, ...] for each context."""
        mu, logvar = self(context)
        return mu + torch.exp(0.5 * logvar) * _normals(mu.shape, mu, generator)


class _Mixture(Prior):
    """A prior that is a mixture."""

    def components(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """loc [K, D], logvar [K, D], and logits [K] or None."""
        raise NotImplementedError

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        return mixture_log_prob(self.flat(z), *self.components())

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        loc, logvar, logits = self.components()
        weights = torch.ones(len(loc), device=loc.device) if logits is None else logits.float().softmax(0)
        k = torch.multinomial(weights, n, replacement=True, generator=generator)
        z = loc[k] + torch.exp(0.5 * logvar[k]) * _normals(loc[k].shape, loc, generator)
        return z.reshape(n, *self.shape)


class MixtureOfGaussians(_Mixture):
    """sum_k w_k N(loc_k, diag exp(logvar_k)), all learned: locations drawn from N(0, I), variances and weights equal.

    Its KL is the Monte Carlo estimate.
    """

    def __init__(self, n_components: int, shape: Shape) -> None:
        super().__init__(shape)
        if not isinstance(n_components, int) or n_components < 1:
            raise ValueError(f"n_components: got {n_components!r}, expected a positive int")
        self.loc = nn.Parameter(torch.randn(n_components, *self.shape))
        self.logvar = nn.Parameter(torch.zeros(n_components, *self.shape))
        self.logits = nn.Parameter(torch.zeros(n_components))

    def components(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        return self.loc.flatten(1), self.logvar.flatten(1), self.logits

    def extra_repr(self) -> str:
        return f"n_components={len(self.loc)}, {super().extra_repr()}"


class VampPrior(_Mixture):
    """The mixture of the posteriors of K learned pseudo-inputs, of equal weights (Tomczak & Welling 2018,
    arXiv:1705.07120): sum_k 1/K q(z|u_k). Its KL is the Monte Carlo estimate.

    pseudo_inputs: [K, ...] what the encoder takes: the values to begin with, some data for instance.
    encoder:       the model's own: module, x -> [B, 2L, ...] or the pair (mu, logvar). It gets gradients through the
                   prior too, but stays the model's: it is no submodule here, and not in the state_dict.
    shape:         of one z.
    transform:     function of the pseudo-inputs before they are encoded, or None: torch.sigmoid for pixels in [0, 1].
    """

    def __init__(
        self,
        pseudo_inputs: torch.Tensor,
        encoder: nn.Module,
        shape: Shape,
        *,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        super().__init__(shape)
        if not isinstance(pseudo_inputs, torch.Tensor) or not pseudo_inputs.is_floating_point():
            raise TypeError(f"pseudo_inputs: got {_describe(pseudo_inputs)}, expected a tensor of a floating dtype")
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.detach().clone())
        self.transform = transform
        self._encoder = (encoder,)  # in a tuple it is not registered

    def components(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        u = self.pseudo_inputs if self.transform is None else self.transform(self.pseudo_inputs)
        mu, logvar = _halves(self._encoder[0](u), "encoder")
        return self.flat(mu), self.flat(logvar), None

    def extra_repr(self) -> str:
        return f"n_components={len(self.pseudo_inputs)}, {super().extra_repr()}"


class FlowPrior(Prior):
    """A normalizing flow over z [D]: any flow of zuko (`pip install "vae-kernels[flows]"`), without context.

        FlowPrior(zuko.flows.NSF(features=20, transforms=3), 20)

    flow: module whose call gives a torch distribution with log_prob and sample over [D], D numbers a z. Its KL is the
    Monte Carlo estimate.
    """

    def __init__(self, flow: nn.Module, shape: Shape) -> None:
        super().__init__(shape)
        self.flow = flow

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        z = self.flat(z)
        # in float32 at least: a density is a sum over dims
        return self.flow().log_prob(z if z.dtype == torch.float64 else z.float())

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        if generator is None:
            return self.flow().sample((n,)).reshape(n, *self.shape)
        # torch's distributions take no generator: a seed drawn from it rules the default ones for this call alone
        seed = torch.randint(2**62, (), generator=generator, device=generator.device).item()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.sample(n)


def pair_of(prior: PriorLike) -> Pair | None:
    """What the closed form takes for `prior`, None or a pair; TypeError for a prior that has no closed form."""
    if not isinstance(prior, Prior):
        return prior
    if not prior.closed_form:
        raise TypeError(
            f"prior: {type(prior).__name__} has no KL in closed form, its estimate needs the sample z: expected "
            "z, kl = sample_kl(mu, logvar, prior=prior), and then kl= in place of mu, logvar and prior"
        )
    return prior.moments()


def monte_carlo_kl(z: torch.Tensor, eps: torch.Tensor, logvar: torch.Tensor, prior: Prior) -> torch.Tensor:
    """log q(z|x) - log p(z) [B] in nats, the mean over the samples if z is [K, B, ...]; z = mu + exp(logvar / 2) eps.

    log q is a function of the noise, because (z - mu) would cancel. Its gradient is the gradient along the path of the
    sample: -1/2 by logvar, and 0 by mu.
    """
    return (log_posterior(eps, logvar) - prior.log_prob(z)).reshape(-1, len(logvar)).mean(0)


def log_prior(prior: PriorLike, z: torch.Tensor) -> torch.Tensor:
    """log p(z) for what `prior=` takes: z [K, B, ...] -> [K, B]."""
    if isinstance(prior, Prior):
        return prior.log_prob(z)
    z = z if z.dtype == torch.float64 else z.float()
    if prior is None:
        return log_posterior(z, z.new_zeros(z.shape[1:]))
    mu, logvar = (part.expand(z.shape[1:]).to(z.dtype) for part in prior)
    return log_posterior((z - mu) * torch.exp(-0.5 * logvar), logvar)


def log_posterior(eps: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """log q(z|x) of the z = mu + exp(logvar / 2) eps: eps [B, ...] or [K, B, ...] -> [B] or [K, B]."""
    squares, logvar, dims = eps * eps, logvar.to(eps.dtype), tuple(range(-logvar.dim() + 1, 0))
    if not dims:  # sum() over no dims at all would sum over the batch
        return -gaussian.nll_of_sums(squares, logvar)
    return -gaussian.nll_of_sums(squares.sum(dims), logvar.sum(dims), math.prod(logvar.shape[1:]))


def _normals(shape, like, generator):
    return noise.normals(noise.new_rng(generator, like.device), shape, like.device).to(like.dtype)


def _halves(out, name):
    if isinstance(out, torch.Tensor) and out.dim() >= 2 and out.shape[1] % 2 == 0:
        return out.chunk(2, 1)
    if isinstance(out, (tuple, list)) and len(out) == 2:
        return tuple(out)
    raise ValueError(f"{name}: gave {_describe(out)}, expected [B, 2L, ...]: mu, then logvar; or a pair (mu, logvar)")


def _describe(value):
    return f"shape {tuple(value.shape)}, {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
