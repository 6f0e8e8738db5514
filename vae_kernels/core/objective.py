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


class KlFloor:
    """The unit of the KL that costs at least so many nats. The ops and the kernels read these numbers."""

    NONE: Final = 0
    PER_DIM: Final = 1  # the mean over the batch of the KL of one latent dimension
    PER_GROUP: Final = 2  # likewise of one index of dimension 1, with all dimensions behind it
    PER_SAMPLE: Final = 3  # the KL of one sample
    PER_BATCH_MEAN: Final = 4  # the mean over the batch of the KL of a sample


class Layout:
    """How a parameter or a weight lies against a tensor [B, ...], x or mu. The kernels read these numbers."""

    FULL: Final = 0  # [B, ...], the shape of that tensor
    PER_FEATURE: Final = 1  # [...], one row for all samples
    SCALAR: Final = 2  # 0-d
    PER_SAMPLE: Final = 3  # [B, 1, ...], one number for each sample


def layout_against(like: Sequence[int], shape: Sequence[int]) -> int:
    """The Layout of a tensor of this shape against one of the shape `like`."""
    if len(shape) < len(like):
        return Layout.PER_FEATURE if len(shape) else Layout.SCALAR
    return Layout.FULL if tuple(shape) == tuple(like) else Layout.PER_SAMPLE


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
    nats        likewise, what a unit of the KL costs at least
    floor       the unit of the KL that costs at least `nats`: a number of KlFloor
    reduction   over the batch: a number of Reduction
    terms       whether the terms are wanted beside the loss
    ahead       whether the pass of a loss per sample may compute gradients for the incoming gradient that it expects
    balance     None, or of a latent term alone, with a prior: the prior's gradients are multiplied by this number, and
                the posterior's by 1 minus this number (controls/balance.py)
    options     the options of the likelihood, in the order of its formula; () for the defaults. The segments kind has
                one option, its Columns
    """

    likelihood: str
    parameters: int
    rec_weight: float
    beta: float
    nats: float
    floor: int
    reduction: int
    terms: bool
    ahead: bool = True
    balance: float | None = None
    options: tuple = ()


class Objective(NamedTuple):
    """The loss of a batch: rec_weight * nll_b + sum_d beta_d kl_bd for each sample b, reduced (backends/reference.py).

    x              [B, ...] target; None where there is no likelihood term. With n_samples=K the parameters have K B
                   samples and stand beside the B of x and of its weight (core/draws.py)
    rec_weight     0-d or None. beta: 0-d, one for each latent dimension, or None
    weight         of each term of the likelihood: a tensor in one of the Layouts against x; or None. Where a weight is
                   0, the term is missing: the value of the term and its gradients are exactly 0, even beside a NaN
    latent_weight  likewise of the KL of each latent dimension, in one of the Layouts against mu
    nats           0-d or None: what a unit of the KL costs at least. beta is then 0-d or None
    params         the likelihood's parameters. An element-wise likelihood has the first of the shape of x, and each
                   other one in one of the Layouts against x. What is left out has the likelihood's default.
                   "categorical" has logits [B, K, ...]; a likelihood of the pixel kind has [B, P, ...]. The
                   segments kind has packed [B, W] and logscale [C] or [B, C], each row in one run of memory, and a
                   weight against [B, C]: formulas/mixed.py.
    latent         () | (kl,) | (mu, logvar) | (mu, logvar, prior_mu, prior_logvar); kl is [B] or [B, latent dims]
    log_total      [B, 1, ...] or None. With log_total, params[0] has the logits of shares over all event dims: the
                   log-mean is log_total + log_softmax(logits). A likelihood of the row kind has such logits without
                   log_total, and a weight in the Layout SCALAR or PER_SAMPLE
    """

    settings: Settings
    x: torch.Tensor | None
    rec_weight: torch.Tensor | None
    beta: torch.Tensor | None
    weight: torch.Tensor | None
    latent_weight: torch.Tensor | None
    nats: torch.Tensor | None
    params: tuple[torch.Tensor, ...]
    latent: tuple[torch.Tensor, ...]
    log_total: torch.Tensor | None = None

    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """Every tensor that may get a gradient, or None in its place, in the order in which `restored` takes them.

        No kernel computes the gradients of the first WITHOUT_KERNEL tensors. The last tensor is log_total.
        """
        alone = self.x, self.rec_weight, self.beta, self.weight, self.latent_weight, self.nats
        return *alone, *self.params, *self.latent, self.log_total


WITHOUT_KERNEL: Final = 6


def objective(
    x: torch.Tensor | None,
    params: tuple[torch.Tensor, ...],
    likelihood: str,
    latent: tuple[torch.Tensor, ...],
    rec_weight: Any = 1.0,
    beta: Any = 1.0,
    reduction: str = "mean",
    terms: bool = False,
    weight: torch.Tensor | None = None,
    latent_weight: torch.Tensor | None = None,
    *,
    nats: Any = 0.0,
    floor: int = KlFloor.NONE,
    ahead: bool = True,
    balance: float | None = None,
    log_total: torch.Tensor | None = None,
    options: tuple = (),
) -> Objective:
    """The request, from weights that are floats or tensors and the name of a reduction."""
    factor, rec_weight = (rec_weight, None) if type(rec_weight) is float else (1.0, rec_weight)
    beta_factor, beta = (beta, None) if type(beta) is float else (1.0, beta)
    least, nats = (nats, None) if type(nats) is float else (1.0, nats)
    of_batch = REDUCTIONS[reduction]
    settings = Settings(
        likelihood, len(params), factor, beta_factor, least, floor, of_batch, terms, ahead, balance, options
    )
    return Objective(settings, x, rec_weight, beta, weight, latent_weight, nats, params, latent, log_total)


def factor_of(factor: float, tensor: torch.Tensor | None) -> Any:
    """rec_weight, beta or nats of a request, as a number or a tensor."""
    if tensor is None:
        return factor
    return tensor if factor == 1 else factor * tensor


def restored(settings: Settings, tensors: Sequence[Any]) -> Objective:
    """The request of these settings whose `tensors()` these are."""
    x, rec_weight, beta, weight, latent_weight, nats, *others, log_total = tensors
    params, latent = tuple(others[: settings.parameters]), tuple(others[settings.parameters :])
    return Objective(settings, x, rec_weight, beta, weight, latent_weight, nats, params, latent, log_total)


class Draw(NamedTuple):
    """Samples of the posterior, and their KL: z = mu + exp(logvar / 2) * eps.

    mu, logvar  [B, ...]; or logvar None and mu both, [B, 2L, ...]: mu, then logvar, along dimension 1
    prior       () for N(0, I), or (mu, logvar) of the shape of the posterior's
    rng         int64: seed and offset of the noise, and the place of a shard (core/noise.py)
    eps         None, or in place of rng the noise itself, of the shape of z, from the generator of the device
    n_samples   how many of each posterior, or None for one without a dimension of its own
    with_kl     whether the KL [B] is wanted
    latent_weight  as in Objective: of the KL, not of z; None where no KL is wanted
    """

    mu: torch.Tensor
    logvar: torch.Tensor | None
    prior: tuple[torch.Tensor, ...]
    rng: torch.Tensor | None
    n_samples: int | None
    with_kl: bool
    latent_weight: torch.Tensor | None = None
    eps: torch.Tensor | None = None


class Backend(Protocol):
    """What computes: backends/reference.py ("torch"), lean, compiled ("cpu", "cuda") and triton."""

    def elbo(self, objective: Objective) -> torch.Tensor | ElboTerms:
        """The loss, 0-d or [B], or the loss with its terms."""
        ...

    def log_prob(
        self, likelihood: str, x: torch.Tensor, params: tuple[torch.Tensor, ...], options: tuple = ()
    ) -> torch.Tensor:
        """log p of each term. The layouts and the options are those of an Objective."""
        ...

    def sample_kl(self, draw: Draw) -> tuple[torch.Tensor, torch.Tensor | None]:
        """z, [B, ...] or [n_samples, B, ...]; and the KL [B], or None."""
        ...

    def mixture(
        self, z: torch.Tensor, loc: torch.Tensor, logvar: torch.Tensor, log_weight: torch.Tensor, ahead: bool
    ) -> torch.Tensor:
        """log p(z) of a mixture of diagonal Gaussians, [N]."""
        ...

    def decomposition(
        self, z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor, log_own: float, log_other: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The parts of the KL of a data set: formulas/decomposition.py."""
        ...
