"""Priors p(z) as modules, for `prior=` of fused_elbo, sample_kl and VAE.

    prior                     its KL to the posterior q(z|x) = N(mu, exp(logvar))
    StandardNormal            closed form
    DiagonalGaussian          closed form
    ConditionalGaussian       closed form: a call with a context gives the pair (mu, logvar) that `prior=` takes
    MixtureOfGaussians        Monte Carlo
    VampPrior                 Monte Carlo
    FlowPrior                 Monte Carlo

A KL without a closed form is estimated as log q(z|x) - log p(z), from the sample z that is decoded (Kingma & Welling
2014, arXiv:1312.6114, section 2.3). The estimate has no bias, and may be negative. Give such a prior to sample_kl,
because sample_kl draws z. fused_elbo then takes the `kl` of sample_kl. Every prior has log_prob(z) in nats and
sample(n).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from .core import checks, gaussians, targets
from .core.ranges import count, ints
from .densities import mixture_log_prob
from .formulas import gaussian
from .typing import PriorLike

Shape = int | Iterable[int]
Pair = tuple[torch.Tensor, torch.Tensor]


class Prior(nn.Module):
    """The base class of the priors. A prior of your own is a subclass with log_prob and sample.

    shape: the shape of one z, without the batch: an int or a tuple.
    """

    closed_form: bool = False
    """Whether the KL has a closed form. If so, moments() gives the arguments of this form."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = ints("shape", shape, "a positive int or a tuple of them: that of one z", one=True)

    def moments(self) -> Pair | None:
        """The Gaussian of a prior with a closed form: None for N(0, I), or the pair (mu, logvar)."""
        raise NotImplementedError

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """log p(z) in nats: z [..., *shape] -> [...]."""
        raise NotImplementedError

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """n draws [n, *shape], without gradient. The noise comes from `generator`, or from torch's default
        generator."""
        raise NotImplementedError

    def flat(self, z: torch.Tensor) -> torch.Tensor:
        """z [..., *shape] -> [..., D]."""
        checks.tensor("z", z)
        dims = len(self.shape)
        if tuple(z.shape[z.dim() - dims :]) != self.shape:
            raise ValueError(f"z: got shape {tuple(z.shape)}, expected [..., {', '.join(map(str, self.shape))}]")
        return z.flatten(z.dim() - dims) if dims else z.unsqueeze(-1)

    def extra_repr(self) -> str:
        return f"shape={self.shape}"


class StandardNormal(Prior):
    """N(0, I), the same prior as prior=None."""

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
        return gaussians.normals((count("n", n), *self.shape), self.zero, generator)


class DiagonalGaussian(Prior):
    """N(mu, exp(logvar)). mu and logvar are learned. The prior starts as N(0, I)."""

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
        return self.mu + torch.exp(0.5 * self.logvar) * gaussians.normals(
            (count("n", n), *self.shape), self.mu, generator
        )


class ConditionalGaussian(nn.Module):
    """p(z|c) = N(mu(c), exp(logvar(c))): the prior of a conditional VAE, or of one level of a hierarchical VAE.

        z, kl = vk.sample_kl(mu, logvar, prior=conditional(context))

    network: module, c -> a tensor [B, 2L, ...] (mu, then logvar), or a pair (mu, logvar).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        targets.network("network", network)
        self.network = network

    def forward(self, context: Any) -> Pair:
        """The pair (mu, logvar), each [B, L, ...]."""
        return gaussians.pair(self.network(context), "network")

    @torch.no_grad()
    def sample(self, context: Any, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """A draw [B, L, ...] for each context."""
        mu, logvar = self(context)
        return mu + torch.exp(0.5 * logvar) * gaussians.normals(mu.shape, mu, generator)


class _Mixture(Prior):
    """A prior that is a mixture of diagonal Gaussians."""

    def components(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """loc [K, D], logvar [K, D], and logits [K] or None."""
        raise NotImplementedError

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        return mixture_log_prob(self.flat(z), *self.components())

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        loc, logvar, logits = self.components()
        checks.noise(None, generator, loc, "the prior")
        weights = torch.ones(len(loc), device=loc.device) if logits is None else logits.float().softmax(0)
        k = torch.multinomial(weights, max(1, count("n", n)), replacement=True, generator=generator)[:n]
        z = loc[k] + torch.exp(0.5 * logvar[k]) * gaussians.normals(loc[k].shape, loc, generator)
        return z.reshape(n, *self.shape)


class MixtureOfGaussians(_Mixture):
    """sum_k w_k N(loc_k, diag exp(logvar_k)). The locations, variances and weights are learned. At the start the
    locations are draws of N(0, I), all variances are 1, and all weights are equal.

    The KL is the Monte Carlo estimate.
    """

    def __init__(self, n_components: int, shape: Shape) -> None:
        super().__init__(shape)
        count("n_components", n_components, 1)
        self.loc = nn.Parameter(torch.randn(n_components, *self.shape))
        self.logvar = nn.Parameter(torch.zeros(n_components, *self.shape))
        self.logits = nn.Parameter(torch.zeros(n_components))

    def components(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        return self.loc.flatten(1), self.logvar.flatten(1), self.logits

    def extra_repr(self) -> str:
        return f"n_components={len(self.loc)}, {super().extra_repr()}"


class VampPrior(_Mixture):
    """The mixture, with equal weights, of the posteriors of K learned pseudo-inputs u_k (Tomczak & Welling 2018,
    arXiv:1705.07120): sum_k 1/K q(z|u_k). The KL is the Monte Carlo estimate.

    pseudo_inputs: [K, ...] inputs of the encoder: the values at the start, for instance some of the data.
    encoder:       the encoder of the model: module, x -> [B, 2L, ...] or the pair (mu, logvar). The encoder gets
                   gradients through the prior too. It is not a submodule of the prior, and not in its state_dict.
    shape:         the shape of one z.
    transform:     None, or a function for the pseudo-inputs before the encoder: torch.sigmoid for pixels in [0, 1].
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
            came = pseudo_inputs.dtype if isinstance(pseudo_inputs, torch.Tensor) else type(pseudo_inputs).__name__
            raise TypeError(f"pseudo_inputs: got {came}, expected a tensor of a floating dtype")
        checks.tensor("pseudo_inputs", pseudo_inputs)
        targets.network("encoder", encoder)
        if transform is not None and not callable(transform):
            raise TypeError(f"transform: got {type(transform).__name__}, expected None or a function")
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.detach().clone())
        self.transform = transform
        self._encoder = (encoder,)  # nn.Module does not register a module inside a tuple

    def components(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        u = self.pseudo_inputs if self.transform is None else self.transform(self.pseudo_inputs)
        mu, logvar = gaussians.pair(self._encoder[0](u), "encoder")
        return self.flat(mu), self.flat(logvar), None

    def extra_repr(self) -> str:
        return f"n_components={len(self.pseudo_inputs)}, {super().extra_repr()}"


class FlowPrior(Prior):
    """A normalizing flow over z [D]: any flow of zuko (`pip install "vae-kernels[flows]"`), without context.

        FlowPrior(zuko.flows.NSF(features=20, transforms=3), 20)

    flow: a module whose call gives a torch distribution over [D], with log_prob and sample. D is the number of elements
          of one z. The KL is the Monte Carlo estimate.
    """

    def __init__(self, flow: nn.Module, shape: Shape) -> None:
        super().__init__(shape)
        targets.network("flow", flow)
        self.flow = flow

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        z = self.flat(z)
        # in float32 or float64: log_prob sums over the dims, and 16 bits would lose too much in a sum
        return self.flow().log_prob(z if z.dtype == torch.float64 else z.float())

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        count("n", n)
        checks.noise(None, generator, torch.empty(0) if generator is None else generator, "the prior")
        if generator is None:
            return self.flow().sample((n,)).reshape(n, *self.shape)
        # torch's distributions take no generator. So the default generators get a seed from `generator` for this call.
        seed = torch.randint(2**62, (), generator=generator, device=generator.device).item()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.sample(n)


def pair_of(prior: PriorLike) -> Pair | None:
    """`prior` as the closed form takes it: None or a pair. TypeError for a prior that has no closed form."""
    if isinstance(prior, ConditionalGaussian):
        raise TypeError("prior: a ConditionalGaussian needs its condition; expected prior=conditional(condition)")
    if not isinstance(prior, Prior):
        return prior
    if not prior.closed_form:
        raise TypeError(
            f"prior: {type(prior).__name__} has no KL in closed form, its estimate needs the sample z: expected "
            "z, kl = sample_kl(mu, logvar, prior=prior), and then kl= in place of mu, logvar and prior"
        )
    return prior.moments()


def monte_carlo_kl(z: torch.Tensor, eps: torch.Tensor, logvar: torch.Tensor, prior: Prior) -> torch.Tensor:
    """log q(z|x) - log p(z) [B] in nats, for z = mu + exp(logvar / 2) eps. A z [K, B, ...] gives the mean over K.

    log q is computed from the noise eps, because z - mu would lose digits. So the gradient of log q is the gradient
    through the reparameterized sample: -1/2 by logvar, and 0 by mu.
    """
    return (log_posterior(eps, logvar) - prior.log_prob(z)).reshape(-1, len(logvar)).mean(0)


def log_prior(prior: PriorLike, z: torch.Tensor) -> torch.Tensor:
    """log p(z) of each form that `prior=` takes: z [K, B, ...] -> [K, B]."""
    if isinstance(prior, Prior):
        return prior.log_prob(z)
    z = z if z.dtype == torch.float64 else z.float()
    if prior is None:
        return log_posterior(z, z.new_zeros(z.shape[1:]))
    mu, logvar = (part.expand(z.shape[1:]).to(z.dtype) for part in prior)
    return log_posterior((z - mu) * torch.exp(-0.5 * logvar), logvar)


def log_posterior(eps: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """log q(z|x) at z = mu + exp(logvar / 2) eps: eps [B, ...] or [K, B, ...] -> [B] or [K, B]."""
    squares, logvar, dims = eps * eps, logvar.to(eps.dtype), tuple(range(-logvar.dim() + 1, 0))
    if not dims:  # sum(()) sums over all dims, and so over the batch
        return -gaussian.nll_of_sums(squares, logvar)
    return -gaussian.nll_of_sums(squares.sum(dims), logvar.sum(dims), math.prod(logvar.shape[1:]))
