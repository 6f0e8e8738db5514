"""The objective as an nn.Module, for those who keep their losses in modules."""

from . import functional
from .settings import Settings


class FusedELBO(Settings):
    """fused_elbo with its settings kept: `FusedELBO(likelihood="gaussian")(recon, x, mu, logvar)`.

    The settings and the call are those of fused_elbo. `FusedELBO.likelihood` is what was given, a name or an object.
    Tensors and controls among the settings move with the module and are saved with it: an nn.Parameter as obs_logvar,
    or in prior=(mu, logvar), is trained; any other tensor is a buffer; a control,
    `beta=vk.controls.LinearWarmup(1000)`, is a child module. Give the control itself: its bare `value` is a TypeError,
    as it would be cut off. load_state_dict takes these settings as VAE does.
    """

    def __init__(
        self,
        *,
        likelihood="bernoulli",
        obs_logvar=None,
        prior=None,
        beta=1.0,
        rec_weight=1.0,
        free_bits=None,
        reduction="mean",
        backend="auto",
    ):
        super().__init__(obs_logvar=obs_logvar, prior=prior, beta=beta, rec_weight=rec_weight, free_bits=free_bits)
        self.likelihood, self.reduction, self.backend = likelihood, reduction, backend

    def forward(self, recon, x, mu=None, logvar=None, *, kl=None, moments=None, return_terms=False):
        """The loss, or ElboTerms, as fused_elbo gives them."""
        return functional.fused_elbo(
            recon,
            x,
            mu,
            logvar,
            kl=kl,
            moments=moments,
            likelihood=self.likelihood,
            obs_logvar=self.obs_logvar,
            prior=self.prior,
            beta=self.beta,
            rec_weight=self.rec_weight,
            free_bits=self.free_bits,
            reduction=self.reduction,
            return_terms=return_terms,
            backend=self.backend,
        )

    def extra_repr(self):
        return f"likelihood={self.likelihood!r}, reduction={self.reduction!r}, backend={self.backend!r}"
