"""The request: what a call of the objective, or of a sample, asks of a backend.

functional.py makes the request once. Every backend takes the request, and autograd keeps it. Only the ops flatten it,
because a schema of torch.library has no tuples of tuples (backends/compiled/schemas.py). A backend is a module with the
functions of the protocol `Backend`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

import torch

from .terms import ElboTerms


class Reduction:
    """What becomes of the losses of the samples. The ops and the kernels read these numbers.

    These are plain integers: an op takes 0.8 us longer to read a member of an IntEnum.
    """

    NONE: Final = 0
    MEAN: Final = 1
    SUM: Final = 2


class Layout:
    """How a parameter of a likelihood lies against x [B, ...]. The kernels read these numbers."""

    FULL: Final = 0  # [B, ...], as x
    PER_FEATURE: Final = 1  # [...], one row for all samples
    SCALAR: Final = 2  # 0-d


def layout_against(x_dims: int, dims: int) -> int:
    """The Layout of a parameter of so many dimensions against x of x_dims dimensions."""
    if dims == x_dims:
        return Layout.FULL
    return Layout.PER_FEATURE if dims else Layout.SCALAR


@cache
def wanted_gradients(mask: int, inputs: int) -> tuple[bool, ...]:
    """For each of the inputs whether the mask asks for its gradient: bit i of the mask stands for input i."""
    return tuple([bool(mask >> i & 1) for i in range(inputs)])


REDUCTIONS = {"none": Reduction.NONE, "mean": Reduction.MEAN, "sum": Reduction.SUM}


class Settings(NamedTuple):
    """What a request has beside its tensors; all of these are constants to a compiler.

    likelihood  a name of formulas.ALL, or "" where there is no likelihood term
    parameters  the number of tensors that the likelihood term has
    rec_weight  a factor; the weight of the likelihood term is this times the tensor of the request, if it has one
    beta        likewise, the weight of the latent term
    reduction   over the batch: a number of Reduction
    terms       whether the terms are wanted beside the loss
    """

    likelihood: str
    parameters: int
    rec_weight: float
    beta: float
    reduction: int
    terms: bool


class Objective(NamedTuple):
    """The loss of a batch: rec_weight * nll_b + sum_d beta_d kl_bd for each sample b, reduced (backends/reference.py).

    x           [B, ...] target; None where there is no likelihood term
    rec_weight  0-d or None. beta: 0-d, one for each latent dimension, or None
    params      the likelihood's parameters. An element-wise likelihood has the first of the shape of x, and each other
                one of the shape of x, of x.shape[1:] (one row for all samples) or 0-d. What is left out has the
                likelihood's default. "categorical" has logits [B, K, ...].
    latent      () | (kl,) | (mu, logvar) | (mu, logvar, prior_mu, prior_logvar); kl is [B] or [B, latent dims]
    """

    settings: Settings
    x: torch.Tensor | None
    rec_weight: torch.Tensor | None
    beta: torch.Tensor | None
    params: tuple[torch.Tensor, ...]
    latent: tuple[torch.Tensor, ...]

    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """Every tensor that may get a gradient, or None in its place, in the order in which `restored` takes them."""
        return self.x, self.rec_weight, self.beta, *self.params, *self.latent


def objective(
    x: torch.Tensor | None,
    params: tuple[torch.Tensor, ...],
    likelihood: str,
    latent: tuple[torch.Tensor, ...],
    rec_weight: Any = 1.0,
    beta: Any = 1.0,
    reduction: str = "mean",
    terms: bool = False,
) -> Objective:
    """The request, from weights that are floats or tensors and the name of a reduction."""
    factor, rec_weight = (rec_weight, None) if type(rec_weight) is float else (1.0, rec_weight)
    beta_factor, beta = (beta, None) if type(beta) is float else (1.0, beta)
    settings = Settings(likelihood, len(params), factor, beta_factor, REDUCTIONS[reduction], terms)
    return Objective(settings, x, rec_weight, beta, params, latent)


def weight(factor: float, tensor: torch.Tensor | None) -> Any:
    """A weight of a request, as a number or a tensor."""
    if tensor is None:
        return factor
    return tensor if factor == 1 else factor * tensor


def restored(settings: Settings, tensors: Sequence[Any]) -> Objective:
    """The request of these settings whose `tensors()` these are."""
    x, rec_weight, beta, *others = tensors
    n = settings.parameters
    return Objective(settings, x, rec_weight, beta, tuple(others[:n]), tuple(others[n:]))


class Draw(NamedTuple):
    """Samples of the posterior, and their KL: z = mu + exp(logvar / 2) * eps.

    mu, logvar  [B, ...]; or logvar None and mu both, [B, 2L, ...]: mu, then logvar, along dimension 1
    prior       () for N(0, I), or (mu, logvar) of the shape of the posterior's
    rng         int64: seed and offset of the noise, and the place of a shard (core/noise.py)
    n_samples   how many of each posterior, or None for one without a dimension of its own
    with_kl     whether the KL [B] is wanted
    """

    mu: torch.Tensor
    logvar: torch.Tensor | None
    prior: tuple[torch.Tensor, ...]
    rng: torch.Tensor
    n_samples: int | None
    with_kl: bool


class Backend(Protocol):
    """What computes: backends/reference.py ("torch"), compiled ("cpu", "cuda") and triton."""

    def elbo(self, objective: Objective) -> torch.Tensor | ElboTerms:
        """The loss, 0-d or [B], or the loss with its terms."""
        ...

    def sample_kl(self, draw: Draw) -> tuple[torch.Tensor, torch.Tensor | None]:
        """z, [B, ...] or [n_samples, B, ...]; and the KL [B], or None."""
        ...

    def mixture(
        self, z: torch.Tensor, loc: torch.Tensor, logvar: torch.Tensor, log_weight: torch.Tensor, ahead: bool
    ) -> torch.Tensor:
        """log p(z) of a mixture of diagonal Gaussians, [N]."""
        ...
