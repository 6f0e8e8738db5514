"""The objective as an nn.Module, for those who keep their losses in modules."""

import torch
from torch import nn

from . import functional


class FusedELBO(nn.Module):
    """fused_elbo with its settings kept: `FusedELBO(likelihood="gaussian")(recon, x, mu, logvar)`.

    The settings and the call are those of fused_elbo. Tensors among the settings move with the module and are saved
    with it: an nn.Parameter as obs_logvar, or in prior=(mu, logvar), is trained; any other tensor is a buffer.
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
        super().__init__()
        self.likelihood, self.reduction, self.backend = likelihood, reduction, backend
        self.free_bits = free_bits
        self._keep("obs_logvar", obs_logvar)
        self._keep("beta", beta)
        self._keep("rec_weight", rec_weight)
        self.prior_module = prior if isinstance(prior, nn.Module) else None
        prior_mu, prior_logvar = (None, None) if prior is None or self.prior_module is not None else prior
        self._keep("prior_mu", prior_mu)
        self._keep("prior_logvar", prior_logvar)

    def _keep(self, name, value):
        if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
            self.register_buffer(name, value)
        else:
            setattr(self, name, value)

    def forward(self, recon, x, mu=None, logvar=None, *, kl=None, return_terms=False):
        """The loss, or ElboTerms, as fused_elbo gives them."""
        return functional.fused_elbo(
            recon,
            x,
            mu,
            logvar,
            kl=kl,
            likelihood=self.likelihood,
            obs_logvar=self.obs_logvar,
            prior=self.prior_module if self.prior_mu is None else (self.prior_mu, self.prior_logvar),
            beta=self.beta,
            rec_weight=self.rec_weight,
            free_bits=self.free_bits,
            reduction=self.reduction,
            return_terms=return_terms,
            backend=self.backend,
        )

    def extra_repr(self):
        return f"likelihood={self.likelihood!r}, reduction={self.reduction!r}, backend={self.backend!r}"
