"""A small hierarchy of latents for images: a VAE whose groups of latents are drawn one after another, top down."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from .. import functional
from ..core import checks, targets
from ..core.modes import evaluating
from ..core.ranges import count, ints, positive
from ..core.terms import ElboTerms
from ..formulas import ALL, PIXEL
from ..formulas.bounded import bounded
from ..likelihoods import by_name, formula_of, options_by_name, options_of
from ..typing import Backend, FreeBitsLike, LikelihoodLike, Number, Reduction
from . import inputs
from .layers import Split
from .networks import check_likelihood
from .settings import Settings

LOGVAR = (-12.0, 6.0)
"""The bounds of the log-variances of posteriors and priors: bounded() is smooth, and its gradient is never 0."""


class TopDownVAE(Settings):
    """A hierarchical VAE for images [B, C, H, W], in the style of Child 2021 (VDVAE, arXiv:2011.10650):

        p(x, z) = p(x | z) prod_g p(z_g | z_<g),    q(z | x) = prod_g q(z_g | z_<g, x)

    An encoder goes up: each level has half the height and width of the level before. The decoder goes down from a
    learned constant. The prior of a group is a function of what was decoded before. The posterior is a function of the
    same and of the encoder's features of this level. Both are diagonal Gaussians. sample_kl draws z and computes its
    KL. The KL of the loss has one column for each group.

        mixture = vk.likelihoods.DiscretizedLogisticMixture()
        vae = vk.models.TopDownVAE((3, 32, 32), groups=(1, 2, 3), likelihood=mixture)
        vae(x).backward()
        print(vae.bits_per_dim(x), vae.sample(16).shape)

    input_shape: (C, H, W).
    groups:      how many groups each level has, from the smallest level to the largest, which has half the height and
                 width of x. groups=(1, 2, 3) has 6 groups on levels of 4 x 4, 8 x 8 and 16 x 16 for H = W = 32.
    channels:    the width of every layer. latents: the channels of each z.
    likelihood:  a name or an object whose decoder gives a tensor of the size of x: of the element or the pixel kind.
    outputs:     how many of the likelihood's parameters the decoder predicts, as in conv_vae.
    free_bits:   as in fused_elbo, of the KL [B, G]: "per_group" and "per_dim" are both the floor of a group.
    obs_logvar, beta, rec_weight, backend: as in VAE.

    The loss is in nats. Bad arguments raise ValueError or TypeError.
    """

    def __init__(
        self,
        input_shape: Iterable[int],
        groups: Iterable[int] = (1, 2, 2),
        *,
        channels: int = 32,
        latents: int = 8,
        likelihood: LikelihoodLike = "bernoulli",
        outputs: int = 1,
        obs_logvar: Number | None = None,
        beta: Number = 1.0,
        rec_weight: Number = 1.0,
        free_bits: FreeBitsLike | None = None,
        backend: Backend = "auto",
    ) -> None:
        shape = ints("input_shape", input_shape, "(C, H, W)")
        each = ints("groups", groups, "a tuple of positive ints: the number of groups of each level")
        count("channels", channels, 1)
        count("latents", latents, 1)
        if len(shape) != 3 or not each:
            raise ValueError(f"input_shape, groups: got {shape}, {each}, expected (C, H, W) and at least one level")
        numbers = _numbers(likelihood, outputs, shape[0], obs_logvar)
        super().__init__(
            likelihood, obs_logvar=obs_logvar, prior=None, beta=beta, rec_weight=rec_weight, free_bits=free_bits
        )
        self.input_shape, self.groups, self.backend = shape, each, backend
        sizes = [(shape[1], shape[2])]
        for _ in each:
            h, w = sizes[-1]
            sizes.append(((h + 1) // 2, (w + 1) // 2))
        self.sizes = sizes[::-1]  # of the levels, from the smallest; the last is that of x
        self.up = nn.ModuleList(
            [_layers(shape[0] if i == 0 else channels, channels, stride=2) for i in range(len(each))]
        )
        self.constant = nn.Parameter(0.1 * torch.randn(1, channels, *self.sizes[0]))
        self.down = nn.ModuleList(
            [nn.ModuleList([Group(channels, latents, sum(each)) for _ in range(n)]) for n in each]
        )
        self.head = nn.Sequential(*_layers(channels, channels), nn.SiLU(), nn.Conv2d(channels, numbers, 3, padding=1))
        if outputs > 1:
            self.head.append(Split(outputs))

    def forward(self, x: torch.Tensor, **settings: Any) -> torch.Tensor | ElboTerms:
        """The loss, as `loss` gives it."""
        return self.loss(x, **settings)

    def loss(
        self,
        x: torch.Tensor,
        *,
        beta: Number | None = None,
        weight: torch.Tensor | None = None,
        reduction: Reduction = "mean",
        generator: torch.Generator | None = None,
        return_terms: bool = False,
    ) -> torch.Tensor | ElboTerms:
        """-ELBO of a batch in nats, with one posterior sample of each group. x, weight, reduction and return_terms are
        those of fused_elbo; the terms have the KL of each group, [G], as kl_per_dim, in the order in which the groups
        are drawn. beta: None for the module's own beta, or a float, a 0-d tensor or a control."""
        targets.check("x", x)
        recon, kl = self.posterior(x, generator=generator)
        shared: dict[str, Any] = {"likelihood": self.likelihood, "obs_logvar": self.obs_logvar, "weight": weight}
        shared |= {"rec_weight": self.rec_weight, "free_bits": self.free_bits, "reduction": reduction}
        shared |= {"beta": self.beta if beta is None else beta, "backend": self.backend}
        return functional.fused_elbo(recon, x, kl=kl, return_terms=return_terms, **shared)

    def posterior(self, x: torch.Tensor, *, generator: torch.Generator | None = None) -> tuple[Any, torch.Tensor]:
        """The decoder's output for a sample of q(z|x), and the KL of each group, [B, G]."""
        if tuple(x.shape[1:]) != self.input_shape:
            raise ValueError(f"x: got shape {tuple(x.shape)}, expected (B, {', '.join(map(str, self.input_shape))})")
        h, features = inputs.read(x, self.likelihood, False, self.constant.dtype), []
        for layers in self.up:
            h = layers(h)
            features.append(h)
        kls: list[torch.Tensor] = []
        recon = self._decoded(len(x), features[::-1], 1.0, generator, kls)
        return recon, torch.stack(kls, 1)

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> torch.Tensor:
        """n means of the likelihood, [n, C, H, W], decoded from draws of the prior, whose standard deviations are
        multiplied by the temperature. No gradient. The networks run in evaluation mode."""
        count("n", n)
        positive("temperature", temperature)
        with evaluating(self):
            recon = self._decoded(n, None, temperature, generator, [])
            given = by_name(recon, self.likelihood)
            return formula_of(self.likelihood).mean(**given, **options_by_name(self.likelihood))

    @torch.no_grad()
    def bits_per_dim(self, x: torch.Tensor, *, generator: torch.Generator | None = None) -> float:
        """-ELBO at beta = rec_weight = 1, the mean over x, divided by C H W log 2. If the likelihood is a probability
        of levels, this is an upper bound on the bits that a code needs for each number of x. The method draws one
        posterior sample. The networks run in evaluation mode."""
        with evaluating(self):
            recon, kl = self.posterior(x, generator=generator)
            settings: Any = {"likelihood": self.likelihood, "obs_logvar": self.obs_logvar, "backend": self.backend}
            nats = functional.fused_elbo(recon, x, kl=kl, **settings)
        return nats.item() / (math.prod(self.input_shape) * math.log(2))

    def _decoded(self, n, features, temperature, generator, kls):
        """The decoder's output. features: those of the levels, from the smallest; None to draw from the prior."""
        h = self.constant.expand(n, -1, -1, -1)
        how = temperature, generator, self.backend, kls
        level: Any
        for i, ((_, size), level) in enumerate(zip(pairwise(self.sizes), self.down, strict=True)):
            for group in level:
                h = group(h, None if features is None else features[i], *how)
            h = nn.functional.interpolate(h, size=size)
        return self.head(h)

    def extra_repr(self) -> str:
        return f"likelihood={self.likelihood!r}, {self.shown()}, groups={self.groups}, backend={self.backend!r}"


class Group(nn.Module):
    """One group: what was decoded before, h [B, channels, H, W], and the encoder's features of the same shape -> h with
    z. groups: the number of groups of the model. At the start, each group adds little to h."""

    def __init__(self, channels: int, latents: int, groups: int) -> None:
        super().__init__()
        self.latents = latents
        self.prior = _layers(channels, 2 * latents + channels)
        self.of_x = _layers(2 * channels, 2 * latents)
        self.of_z = nn.Conv2d(latents, channels, 1)
        self.rest = _layers(channels, channels)
        with torch.no_grad():
            last: Any
            for last in (self.prior[-1], self.of_z, self.rest[-1]):
                last.weight.mul_(groups**-0.5)

    def forward(self, h, features, temperature, generator, backend, kls):
        out = self.prior(h)
        prior, more = _gaussian(out[:, : 2 * self.latents]), out[:, 2 * self.latents :]
        if features is None:
            mu, logvar = prior
            logvar = logvar + 2 * math.log(temperature)
            z = functional.reparameterize(mu, logvar, generator=generator, backend=backend)
        else:
            mu, logvar = _gaussian(self.of_x(torch.cat([h, features], 1)))
            z, kl = functional.sample_kl(mu, logvar, prior=prior, generator=generator, backend=backend)
            kls.append(kl)
        h = h + more + self.of_z(z)
        return h + self.rest(h)


def _gaussian(moments):
    mu, logvar = moments.chunk(2, 1)
    return mu, bounded(logvar, *LOGVAR)


def _layers(before, after, stride=1):
    """Two convolutions, each after a SiLU but the first of an image."""
    width = max(before, after) if stride == 1 else after
    first = nn.Conv2d(before, width, 3, stride=stride, padding=1)
    return nn.Sequential(first, nn.SiLU(), nn.Conv2d(width, after, 3, padding=1))


def _numbers(likelihood, outputs, channels, obs_logvar):
    """How many numbers the decoder gives for each pixel."""
    name = checks.likelihood(likelihood)
    if name in PIXEL:
        formula: Any = PIXEL[name]
        own, numbers = formula.sizes(*options_of(likelihood))
        if own != channels:
            raise ValueError(f"input_shape: got {channels} channels, but likelihood={likelihood!r} has {own}")
        if outputs != 1:
            raise ValueError(f"outputs: got {outputs}, expected 1 for {name!r}")
        return numbers
    check_likelihood(likelihood, outputs, {"obs_logvar": obs_logvar})
    if ALL[name].KIND != "element":
        raise ValueError(f"likelihood: got {name!r}, expected one of the element or the pixel kind")
    return outputs * channels
