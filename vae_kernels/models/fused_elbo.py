"""The objective as an nn.Module, for code that keeps its losses in modules."""

from typing import TYPE_CHECKING, cast

import torch

from .. import functional
from ..core.terms import ElboTerms
from ..typing import Backend, ElboCall, FreeBitsLike, LikelihoodLike, Number, PriorLike, Recon, Reduction
from . import arguments
from .settings import Settings


class FusedELBO(Settings):
    """fused_elbo as a module that keeps the settings: `FusedELBO(likelihood="gaussian")(recon, x, mu, logvar)`.

    The settings and the arguments of a call are those of fused_elbo. log_total, weight, latent_weight and n_samples
    belong to a batch, so the call takes them and the constructor does not. `FusedELBO.likelihood` is the name or the
    object that the constructor got. Tensors and controls among the settings move with the module and are saved with it.
    An nn.Parameter as obs_logvar, or in prior=(mu, logvar), is trained. Any other tensor is a buffer. A control, such
    as `beta=vk.controls.LinearWarmup(1000)`, is a child module. Give the control itself. Its `value` alone is a
    TypeError, because the module would keep the value and lose the control. load_state_dict treats these settings as
    VAE does.
    """

    if TYPE_CHECKING:
        __call__: ElboCall

    def __init__(
        self,
        *,
        likelihood: LikelihoodLike = "bernoulli",
        obs_logvar: Number | None = None,
        prior: PriorLike = None,
        beta: Number = 1.0,
        rec_weight: Number = 1.0,
        free_bits: FreeBitsLike | None = None,
        reduction: Reduction = "mean",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(
            likelihood, obs_logvar=obs_logvar, prior=prior, beta=beta, rec_weight=rec_weight, free_bits=free_bits
        )
        arguments.fused(prior, reduction, backend)  # so the prior is no ConditionalGaussian
        self.reduction: Reduction = reduction
        self.backend: Backend = backend

    def forward(
        self,
        recon: Recon,
        x: torch.Tensor,
        mu: torch.Tensor | None = None,
        logvar: torch.Tensor | None = None,
        *,
        kl: torch.Tensor | None = None,
        moments: torch.Tensor | None = None,
        log_total: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
        latent_weight: torch.Tensor | None = None,
        n_samples: int | None = None,
        return_terms: bool = False,
    ) -> torch.Tensor | ElboTerms:
        """The loss, or ElboTerms, as fused_elbo gives them."""
        return functional.fused_elbo(
            recon,
            x,
            mu,
            logvar,
            kl=kl,
            moments=moments,
            log_total=log_total,
            weight=weight,
            latent_weight=latent_weight,
            n_samples=n_samples,
            likelihood=self.likelihood,
            obs_logvar=self.obs_logvar,
            prior=cast(PriorLike, self.prior),
            beta=self.beta,
            rec_weight=self.rec_weight,
            free_bits=self.free_bits,
            reduction=self.reduction,
            return_terms=return_terms,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        kept = f"likelihood={self.likelihood!r}, {self.shown()}"
        return f"{kept}, reduction={self.reduction!r}, backend={self.backend!r}"
