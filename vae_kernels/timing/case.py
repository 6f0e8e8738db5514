"""What is timed: a case, and its tensors."""

import math
import re
from dataclasses import dataclass

import torch

from ..formulas import ALL
from . import pixels

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "uint8": torch.uint8}
PARTS = ("objective", "loss", "nll", "masked nll", "weighted nll", "terms", "free bits", "decomposition", "sample")
ALONE = ("nll", "masked nll", "weighted nll", "terms")  # the parts without latents
DIRECTIONS = ("both", "forward", "backward")


@dataclass(frozen=True)
class Case:
    """One comparison.

    batch, dims, latents: recon and x are [batch, dims], mu and logvar [batch, latents].
    part:      "objective" is the sampling, the likelihood and the KL; "loss" is the objective without the sampling;
               "nll" is the likelihood alone (latents = 0); "masked nll" and "weighted nll" are the same with a bool
               and a float32 weight for each element; "terms" is log p of each element, and the sum that a loss of one's
               own takes of them (latents = 0); "free bits" is the loss with free bits in each latent dimension;
               "decomposition" is the KL of a beta-TCVAE (dims = 0; params is z); "sample" is z and its KL alone
               (dims = 0).
    likelihood, outputs: the name, and how many of its parameters the decoder gives.
    dtype, x:  the dtype of the reconstruction and the latents, and the dtype of the target.
    direction: "both" is forward and backward; "backward" is timed alone, after an untimed forward pass.
    incoming:  the gradient that reaches the loss: 1 in loss.backward().
    """

    batch: int
    dims: int
    latents: int
    part: str = "objective"
    likelihood: str = "bernoulli"
    outputs: int = 1
    dtype: str = "float32"
    x: str = "float32"
    direction: str = "both"
    incoming: float = 1.0
    threads: int = 0  # 0: torch's number

    @property
    def shape(self):
        return shown(self.batch, self.dims, self.latents)


def shown(batch, dims, latents, times="x", over="/"):
    """A shape as text, without the sizes that are 0: 128x784/20, 256x30, 8x16384."""
    wide = f"{dims}{over}{latents}" if dims and latents else dims or latents
    return f"{batch}{times}{wide}"


@dataclass
class Tensors:
    """The inputs of one step. grad_z is the gradient that the decoder would send back to z. An input that the case
    lacks is None."""

    params: tuple
    x: torch.Tensor | None
    mu: torch.Tensor | None = None
    logvar: torch.Tensor | None = None
    grad_z: torch.Tensor | None = None

    def leaves(self):
        """The same tensors as new leaves for autograd. The memory is shared."""
        fresh = lambda t: None if t is None else t.detach().requires_grad_()  # noqa: E731
        return Tensors(tuple(map(fresh, self.params)), self.x, fresh(self.mu), fresh(self.logvar), self.grad_z)

    def wanted(self):
        """The tensors that get a gradient."""
        return [t for t in (*self.params, self.mu, self.logvar) if t is not None]

    def to(self, device=None, dtype=None):
        """The tensors on this device, and the floating-point tensors in this dtype."""
        move = lambda t: None if t is None else t.to(device, dtype if t.is_floating_point() else None)  # noqa: E731
        return Tensors(tuple(map(move, self.params)), *map(move, (self.x, self.mu, self.logvar, self.grad_z)))


def parse_shape(text, part="objective"):
    """(batch, dims, latents) of "128x784/20" or "128x784x20". A part of ALONE has no latents: "128x784"."""
    alone = part in ALONE
    names, example = ("batch x dims", "128x784") if alone else ("batch x dims / latents", "128x784/20")
    found = re.fullmatch(r"(\d+)x(\d+)" + ("" if alone else r"[x/](\d+)"), text)
    if not found or not all(sizes := tuple(map(int, found.groups()))):
        raise ValueError(f"shape: got {text!r}, expected {names}, all of them positive: {example}")
    return (*sizes, 0) if alone else sizes


def needed(likelihood):
    """How many parameters of the likelihood the decoder must give: those without a default, and at least one."""
    formula = ALL[likelihood]
    return max(1, len(formula.PARAMETERS) - len(formula.DEFAULTS))


def draw(case, seed=0):
    """Random tensors for a case, on the CPU, in the range that they have in a model in training."""
    g = torch.Generator().manual_seed(seed)
    dtype, latent = DTYPES[case.dtype], (case.batch, case.latents)
    mu, logvar = torch.randn(latent, generator=g), 0.3 * torch.randn(latent, generator=g)
    grad_z = torch.randn(latent, generator=g) / case.batch
    latents = tuple(t.to(dtype) for t in (mu, logvar, grad_z))
    if case.part == "sample":
        return Tensors((), None, *latents)
    if case.part == "decomposition":
        z = mu + torch.exp(0.5 * logvar) * torch.randn(latent, generator=g)
        return Tensors((z.to(dtype),), None, *latents)
    x, params = DRAW.get(case.likelihood, draw_reals)(case, g)
    x, params = as_stored(x, case), tuple(p.to(dtype) for p in params)
    return Tensors(params, x) if case.part in ALONE else Tensors(params, x, *latents)


def as_stored(x, case):
    if not x.is_floating_point():
        if x.dtype != DTYPES[case.x]:
            raise ValueError(f"x: got {case.x}, expected uint8: a {case.likelihood} x is a level")
        return x
    scaled = case.x == "uint8" and ALL[case.likelihood].SUPPORT != "counts"
    return (x * 255).round().to(torch.uint8) if scaled else x.to(DTYPES[case.x])


def draw_reals(case, g):
    """x in [0, 1]; locations, logits and log-scales around 0."""
    size = (case.batch, case.dims)
    first, *others = (torch.randn(size, generator=g) for _ in range(case.outputs))
    return torch.rand(size, generator=g), (2 * first, *(0.5 * t for t in others))


def draw_levels(case, g):
    """x of 8 bits, and a logistic distribution near x that is a few levels wide."""
    size = (case.batch, case.dims)
    x = torch.randint(256, size, generator=g) / 255
    return x, (x + 0.05 * torch.randn(size, generator=g), 0.3 * torch.randn(size, generator=g) - 3)


def draw_counts(case, g):
    """Counts of single cells; four of five counts are 0. There is one inverse dispersion a gene, as in scvi-tools."""
    random = lambda *size: torch.randn(size, generator=g)  # noqa: E731
    size = (case.batch, case.dims)
    positive = torch.poisson(torch.exp(0.5 + 0.8 * random(*size)), generator=g) + 1
    x = torch.where(torch.rand(size, generator=g) < 0.8, torch.zeros(()), positive)
    log_mean, log_inverse_dispersion, logits = random(*size) - 1, 0.7 * random(case.dims) + 1, random(*size) - 1
    if case.likelihood == "negative_binomial_mixture":  # the foreground is above the background, as in TOTALVI
        return x, (log_mean, log_mean + 1 + random(*size).abs(), log_inverse_dispersion, logits)
    return x, (log_mean, log_inverse_dispersion, logits)[: case.outputs]


def draw_regions(case, g):
    """Open regions of single cells, one of five. PeakVI has a logit for each cell, and one for each region."""
    random = lambda *size: torch.randn(size, generator=g)  # noqa: E731
    size = (case.batch, case.dims)
    x = (torch.rand(size, generator=g) < 0.2).float()
    return x, (random(*size) - 1, random(case.batch, 1), random(case.dims) + 1)[: case.outputs]


def draw_categories(case, g):
    """Levels of 8 bits, and a logit for each level."""
    x = torch.randint(256, (case.batch, case.dims), generator=g, dtype=torch.uint8)
    return x, (2 * torch.randn((case.batch, 256, case.dims), generator=g),)


DRAW = {name: draw_counts for name, formula in ALL.items() if formula.SUPPORT == "counts"}
DRAW["bernoulli_product"] = draw_regions
DRAW |= {"discretized_logistic": draw_levels, "categorical": draw_categories}
DRAW |= {"discretized_logistic_mixture": pixels.draw}
"""likelihood -> a function draw(case, generator) -> (x, params), for a likelihood that draw_reals does not suit."""


def least_bytes(case, tensors):
    """The bytes that every contender must move: each input is read once, each result is written once. None for
    "backward": a contender may do more or less of its work in the forward pass."""
    if case.direction == "backward":
        return None
    size = lambda *ts: sum(t.numel() * t.element_size() for t in ts)  # noqa: E731
    sampled = size(tensors.mu) if case.part in ("objective", "sample") else 0  # z
    once = size(*tensors.wanted()) + (0 if tensors.x is None else size(tensors.x)) + sampled
    once += {"masked nll": 1, "weighted nll": 4}.get(case.part, 0) * case.batch * case.dims
    if case.direction == "forward":
        return once
    # The gradients are written. If z was sampled, the backward pass also reads the gradient of z, mu and logvar.
    back = size(*tensors.wanted()) + 3 * sampled
    return once + back


def expected_eps_error(n):
    """The errors that the mean and the variance of n standard normals may have: six standard deviations."""
    return 6 / math.sqrt(n), 6 * math.sqrt(2 / n)
