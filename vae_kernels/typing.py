"""The types of the arguments, for annotations: `from vae_kernels.typing import LikelihoodName`.

With a literal type, an editor and a type checker refuse a misspelt name. To call a function you need nothing from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict, overload

import torch
from typing_extensions import Required, Unpack

from .core.control import Control

if TYPE_CHECKING:
    from .core.terms import ElboTerms
    from .likelihoods import Likelihood
    from .priors import ConditionalGaussian, Prior

# The only list of the likelihoods. formulas/__init__.py imports a module for each name.
LikelihoodName = Literal[
    "bernoulli",
    "gaussian",
    "poisson",
    "negative_binomial",
    "zinb",
    "laplace",
    "continuous_bernoulli",
    "discretized_logistic",
    "bernoulli_product",
    "negative_binomial_mixture",
    "categorical",
    "multinomial",
    "discretized_logistic_mixture",
]
LikelihoodLike: TypeAlias = "LikelihoodName | Likelihood"
"""The type of `likelihood=`: a name, or an object of vae_kernels.likelihoods."""

Backend = Literal["auto", "torch", "lean", "cpu", "cuda", "triton"]
Reduction = Literal["none", "mean", "sum"]
FreeBitsUnit = Literal["per_dim", "per_sample", "per_batch_mean", "per_group", "batch_mean"]
CapacityUnit = Literal["per_sample", "per_batch_mean", "batch_mean"]
IwaeEstimator = Literal["standard", "stl", "dreg"]
KlEstimator = Literal["stratified", "weighted"]
VarianceOver = Literal["batch", "sample", "element"]

Number: TypeAlias = float | torch.Tensor | Control
"""The type of `beta=`, `rec_weight=` and nats: a number, a tensor, or a control. A function reads a control's value."""

Recon: TypeAlias = torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]
"""The output of a decoder: the first parameter of the likelihood, a sequence of parameters in the likelihood's order,
or a mapping from parameter names to parameters."""

PriorLike: TypeAlias = "Prior | tuple[torch.Tensor, torch.Tensor] | None"
"""The type of `prior=`: None for N(0, I), the pair (mu, logvar), or a module of vae_kernels.priors."""

ModelPrior: TypeAlias = "PriorLike | ConditionalGaussian"
"""The type of `prior=` of VAE: also a ConditionalGaussian, which gets the condition of each call."""

Condition: TypeAlias = Any
"""The type of `condition=`: None, a tensor, or a pytree of tensors. Dimension 0 of each tensor is the batch."""

FreeBitsLike: TypeAlias = tuple[Number, FreeBitsUnit]
"""The type of `free_bits=`, besides None: vk.FreeBits(nats, unit), or a plain pair."""

ShardLike: TypeAlias = tuple[int, int]
"""The type of `shard=`, besides None: vk.Shard(first, total), or a plain pair."""


class LossSettings(TypedDict, total=False):
    """The settings of the loss that VAE, FusedELBO and fused_elbo share. Likelihood and prior are not among them."""

    obs_logvar: Number | None
    beta: Number
    rec_weight: Number
    free_bits: FreeBitsLike | None
    backend: Backend


class ElboSettings(LossSettings, total=False):
    """The settings of fused_elbo."""

    likelihood: LikelihoodLike
    prior: PriorLike
    log_total: torch.Tensor | None
    weight: torch.Tensor | None
    latent_weight: torch.Tensor | None
    n_samples: int | None
    reduction: Reduction


class IwaeSettings(TypedDict, total=False):
    """The settings of iwae."""

    moments: torch.Tensor | None
    n_samples: Required[int]
    estimator: IwaeEstimator
    condition: Condition
    prior: ModelPrior
    likelihood: LikelihoodLike
    obs_logvar: Number | None
    log_total: torch.Tensor | None
    weight: torch.Tensor | None
    beta: Number
    reduction: Reduction
    generator: torch.Generator | None
    backend: Backend


class ModelSettings(LossSettings, total=False):
    """The settings that mlp_vae and conv_vae pass on to VAE."""

    prior: ModelPrior
    autoregressive: bool
    logvar_range: tuple[float, float] | None
    total: Literal["observed"] | None


class StepSettings(TypedDict, total=False):
    """The settings of one call of VAE.loss."""

    condition: Condition
    beta: Number | None
    log_total: torch.Tensor | None
    weight: torch.Tensor | None
    latent_weight: torch.Tensor | None
    n_samples: int | None
    reduction: Reduction
    generator: torch.Generator | None
    shard: ShardLike | None


# fmt: off
class ElboCall(Protocol):
    """A call of FusedELBO. It needs a type of its own, because torch.nn.Module annotates the result of a call as
    Any."""

    @overload
    def __call__(
        self, recon: Recon, x: torch.Tensor, mu: torch.Tensor | None = None, logvar: torch.Tensor | None = None, *,
        kl: torch.Tensor | None = None, moments: torch.Tensor | None = None, log_total: torch.Tensor | None = None,
        weight: torch.Tensor | None = None, latent_weight: torch.Tensor | None = None,
        n_samples: int | None = None, return_terms: Literal[False] = False,
    ) -> torch.Tensor: ...
    @overload
    def __call__(
        self, recon: Recon, x: torch.Tensor, mu: torch.Tensor | None = None, logvar: torch.Tensor | None = None, *,
        kl: torch.Tensor | None = None, moments: torch.Tensor | None = None, log_total: torch.Tensor | None = None,
        weight: torch.Tensor | None = None, latent_weight: torch.Tensor | None = None,
        n_samples: int | None = None, return_terms: Literal[True],
    ) -> ElboTerms: ...
    @overload
    def __call__(
        self, recon: Recon, x: torch.Tensor, mu: torch.Tensor | None = None, logvar: torch.Tensor | None = None, *,
        kl: torch.Tensor | None = None, moments: torch.Tensor | None = None, log_total: torch.Tensor | None = None,
        weight: torch.Tensor | None = None, latent_weight: torch.Tensor | None = None,
        n_samples: int | None = None, return_terms: bool,
    ) -> torch.Tensor | ElboTerms: ...


class StepCall(Protocol):
    """A call of VAE."""

    @overload
    def __call__(
        self, x: torch.Tensor, *, return_terms: Literal[False] = False, **settings: Unpack[StepSettings],
    ) -> torch.Tensor: ...
    @overload
    def __call__(
        self, x: torch.Tensor, *, return_terms: Literal[True], **settings: Unpack[StepSettings],
    ) -> ElboTerms: ...
    @overload
    def __call__(
        self, x: torch.Tensor, *, return_terms: bool, **settings: Unpack[StepSettings],
    ) -> torch.Tensor | ElboTerms: ...
# fmt: on


class Model(Protocol):
    """The attributes and methods of a model that log_marginal_likelihood uses. A VAE has all of them. With a condition,
    encode and decode are called with `condition=` too."""

    likelihood: LikelihoodLike
    backend: Backend

    @property
    def obs_logvar(self) -> Number | None: ...

    @property
    def prior(self) -> ModelPrior: ...

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]: ...

    def decode(self, z: torch.Tensor) -> Recon: ...
