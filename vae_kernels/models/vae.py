"""The VAE: an encoder, a decoder and the objective.

You can also read this file as an example of a training step: it computes the loss with the public functions only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import nn
from torch.utils._pytree import tree_map
from typing_extensions import Unpack

from .. import conditions, functional
from ..core import checks, gaussians, missing, rows, targets
from ..core.calls import call
from ..core.terms import ElboTerms
from ..formulas.bounded import bounded
from ..likelihoods import formula_of
from ..priors import Prior
from ..typing import (
    Backend,
    Condition,
    FreeBitsLike,
    LikelihoodLike,
    ModelPrior,
    Number,
    Recon,
    Reduction,
    ShardLike,
    StepCall,
    StepSettings,
)
from . import arguments, inputs
from .draws import Draws


class VAE(Draws):
    """A variational autoencoder with a diagonal Gaussian posterior.

    encoder:      module, x [B, ...] float -> one tensor [B, 2L, ...] (mu, then logvar), or a pair (mu, logvar).
    decoder:      module, z [B, L, ...] -> the likelihood's parameter of the shape of x, or a tuple or a mapping of its
                  parameters, as in `fused_elbo`. With "categorical": the logits [B, K, ...].
                  A conditional VAE has encoder(x, condition) and decoder(z, condition), or decoder(z, x, condition) if
                  autoregressive, and the calls get `condition=`.
    likelihood:   a name in `vae_kernels.LIKELIHOODS`, or an object of `vae_kernels.likelihoods`. The attribute
                  `likelihood` has the same form.
    obs_logvar:   as in `fused_elbo`. An `nn.Parameter` is trained, another tensor becomes a buffer, and a RunningLogvar
                  is a child module.
    prior:        None is N(0, I); a pair (mu, logvar) of tensors or Parameters that broadcast to [B, L, ...]; or a
                  module of `vae_kernels.priors`, whose KL may be a Monte Carlo estimate. A ConditionalGaussian gets
                  the condition of the call.
    beta, rec_weight: the weights of the KL and of the negative log-likelihood: a float, a 0-d tensor or a control
                  (`beta=vk.controls.LinearWarmup(1000)`). A control is a child module: it moves, is copied and is saved
                  with the VAE. Give the control itself. Its `value` alone is an error, because the VAE would keep the
                  value and lose the control.
    free_bits:    as in `fused_elbo`.
    latent_shape: the shape of one z, an int or a tuple without the batch. Only `sample` needs it.
    autoregressive: whether the decoder also reads x. It is then called with (z, x), where x is what the encoder gets,
                  and gives the parameters of p(x_i | x_before_i, z) for all i at once. `sample` and `reconstruct` are
                  then errors, because they decode without an x.
    integers:     whether the networks get integer x as int64, for an nn.Embedding. None: yes if x has levels
                  ("categorical") and the first layer of the encoder with parameters is an embedding. Otherwise the
                  networks get floats, as `encode` says.
    total:        None, or "observed" with a likelihood of counts that takes log_total. The decoder then gives logits of
                  shares, and log_total is the logarithm of the sum of each x, unless a call gives another log_total. So
                  cells with different totals have one decoder (docs/likelihoods.md). `sample` then needs a log_total.
    logvar_range: None, or (low, high): the posterior's log-variance is bounded(logvar, low, high) of the encoder's
                  output, a smooth function with a derivative > 0 (formulas/bounded.py). Near the middle of the range,
                  the log-variance is the encoder's output.
    backend:      as in `fused_elbo`.

    A condition is a tensor, or a pytree of tensors, with the batch as dimension 0.

    Training minimises the losses, which are in nats per sample. A loss is -ELBO if both weights are 1. Bad arguments
    raise ValueError or TypeError. If a checkpoint has a number as beta, rec_weight or free_bits, and this VAE has a
    tensor or a control, or the reverse, the checkpoint loads, and this VAE keeps its own setting. A Parameter that is
    missing in the checkpoint is an error.
    """

    if TYPE_CHECKING:
        __call__: StepCall

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        likelihood: LikelihoodLike = "bernoulli",
        obs_logvar: Number | None = None,
        prior: ModelPrior = None,
        beta: Number = 1.0,
        rec_weight: Number = 1.0,
        free_bits: FreeBitsLike | None = None,
        latent_shape: int | Iterable[int] | None = None,
        autoregressive: bool = False,
        integers: bool | None = None,
        logvar_range: tuple[float, float] | None = None,
        total: Literal["observed"] | None = None,
        backend: Backend = "auto",
    ) -> None:
        targets.network("encoder", encoder)
        targets.network("decoder", decoder)
        super().__init__(
            likelihood, obs_logvar=obs_logvar, prior=prior, beta=beta, rec_weight=rec_weight, free_bits=free_bits
        )
        shape = arguments.model(latent_shape, autoregressive, integers, logvar_range, backend, prior, beta)
        arguments.total(total, likelihood)
        self.encoder = encoder
        self.decoder = decoder
        self.autoregressive = autoregressive
        self.latent_shape = shape
        levels = formula_of(likelihood).SUPPORT == "levels"
        self.integers = levels and inputs.begins_with_embedding(encoder) if integers is None else integers
        self.logvar_range = None if logvar_range is None else tuple(logvar_range)
        self.total = total
        self.backend: Backend = backend

    # a VAE that version 0.1 pickled has not these attributes
    integers: bool = False
    logvar_range: tuple | None = None
    total: Literal["observed"] | None = None

    def encode(self, x: torch.Tensor, *, condition: Condition = None) -> tuple[torch.Tensor, torch.Tensor]:
        """x [B, ...] (float, uint8 read as x/255, or counts) -> posterior (mu, logvar), each [B, L, ...].

        Counts are not scaled for the encoder: an encoder that needs log(1 + x) computes log(1 + x), as that of
        `mlp_vae` does. Levels of "categorical" are not scaled either, except uint8: the encoder gets x/255, and the
        loss gets the level. An encoder that begins with an embedding gets the levels themselves.
        """
        posterior = self._posterior(x, condition)
        mu, logvar = gaussians.halves(posterior)
        return mu, logvar

    def _posterior(self, x, condition):
        """The posterior as a tuple: (moments,), one tensor [B, 2L, ...], or (mu, logvar)."""
        targets.check("x", x)
        conditions.check(condition, x, "x")
        given = {"x": self._read(x)} | ({} if condition is None else {"condition": condition})
        found = inputs.posterior(call("encoder", self.encoder, given), x)
        if self.logvar_range is None:
            return found
        mu, logvar = gaussians.halves(found)
        return mu, bounded(logvar, *self.logvar_range)

    def _read(self, x):
        if x.is_floating_point() and not self.integers:  # the usual case, in which no parameter is looked at
            return x
        return inputs.read(x, self.likelihood, self.integers, self._like().dtype)

    def decode(self, z: torch.Tensor, x: torch.Tensor | None = None, *, condition: Condition = None) -> Recon:
        """z [B, L, ...] -> the decoder's output: a tensor, or a tuple or a mapping of the likelihood's parameters.

        x: [B, ...]. An autoregressive decoder needs x; for any other decoder x is an error.
        """
        checks.tensor("z", z)
        if self.autoregressive != (x is not None):
            came, expected = ("none", "[B, ...]") if x is None else ("a tensor", "none")
            raise ValueError(f"x: got {came}, expected {expected} with autoregressive={self.autoregressive}")
        given: dict[str, Any] = {"z": z}
        if x is not None:
            targets.check("x", x)
            given["x"] = self._read(x)
        if condition is not None:
            conditions.check(condition, z, "z")
            given["condition"] = condition
        return call("decoder", self.decoder, given)

    def forward(self, x: torch.Tensor, **settings: Any) -> torch.Tensor | ElboTerms:
        """The loss. It is the forward pass, so that DDP, torch.compile and torch.func see the whole step in one
        call."""
        return self.loss(x, **settings)

    # fmt: off
    @overload
    def loss(
        self, x: torch.Tensor, *, return_terms: Literal[False] = False, **settings: Unpack[StepSettings],
    ) -> torch.Tensor: ...
    @overload
    def loss(
        self, x: torch.Tensor, *, return_terms: Literal[True], **settings: Unpack[StepSettings],
    ) -> ElboTerms: ...
    @overload
    def loss(
        self, x: torch.Tensor, *, return_terms: bool, **settings: Unpack[StepSettings],
    ) -> torch.Tensor | ElboTerms: ...
    # fmt: on

    def loss(
        self,
        x: torch.Tensor,
        *,
        condition: Condition = None,
        beta: Number | None = None,
        log_total: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
        latent_weight: torch.Tensor | None = None,
        n_samples: int | None = None,
        reduction: Reduction = "mean",
        generator: torch.Generator | None = None,
        shard: ShardLike | None = None,
        return_terms: bool = False,
    ) -> torch.Tensor | ElboTerms:
        """The objective of a batch in nats, with one posterior sample for each x, or with n_samples: the mean over the
        batch, a scalar.

        x:            [B, ...], of the types that `fused_elbo` takes. uint8 is read as x/255, unless x has counts or
                      levels.
        condition:    what the networks and a ConditionalGaussian get in addition to x and z.
        beta:         None for the module's own beta; or a float, a 0-d tensor or a control.
        log_total:    as in `fused_elbo`: [B] or [B, 1]. x.sum(1).log() is the observed total.
        weight:       as in `fused_elbo`: a mask, or a weight for each element, feature or sample. Where the weight is
                      0, the encoder and an autoregressive decoder get 0 in place of x, so that a NaN does not reach
                      them. An encoder that must tell a missing x from an x of 0 needs the mask as an input: give the
                      encoder x and the mask in one tensor, and call `fused_elbo` yourself.
        latent_weight: as in `fused_elbo`: a weight for the KL of each latent dimension.
        n_samples:    None, or the number K of posterior samples for each x. The nll is the mean over these K samples.
                      The decoder is called once, with [K B, L, ...]. `iwae` gives a tighter bound from K samples.
        reduction:    as in `fused_elbo`.
        shard:        as in `sample_kl`: the place of x in a batch that is split over ranks.
        return_terms: whether to return ElboTerms, as `fused_elbo` does, with nll [B], kl [B] and kl_per_dim [L, ...].
                      kl_per_dim is None if the KL is a Monte Carlo estimate.
        """
        targets.check("x", x)
        checks.flag("return_terms", return_terms)
        beta = self.beta if beta is None else beta
        seen = missing.seen(x, weight, self.likelihood)
        shared: dict[str, Any] = {
            "likelihood": self.likelihood,
            "obs_logvar": self.obs_logvar,
            "beta": beta,
            "rec_weight": self.rec_weight,
            "log_total": rows.total_of(self, seen, log_total),
            "weight": weight,
            "free_bits": self.free_bits,
            "n_samples": n_samples,
            "reduction": reduction,
            "backend": self.backend,
        }
        draw: dict[str, Any] = {"n_samples": n_samples, "generator": generator, "shard": shard, "backend": self.backend}
        posterior = self._posterior(seen, condition)
        prior = conditions.prior_of(self.prior, condition)
        closed_form = not isinstance(prior, Prior) or prior.closed_form
        if (return_terms or self.free_bits is not None) and closed_form:
            mu, logvar = gaussians.halves(posterior)
            recon = self._decoded(functional.reparameterize(mu, logvar, **draw), seen, condition, n_samples)
            shared |= {"prior": prior, "return_terms": return_terms, "latent_weight": latent_weight}
            return functional.fused_elbo(recon, x, mu, logvar, **shared)
        # One kernel gives the sample and the KL: mu and logvar are read once, and get one gradient from one kernel.
        z, kl = functional.sample_kl(*posterior, prior=prior, latent_weight=latent_weight, **draw)
        recon = self._decoded(z, seen, condition, n_samples)
        return functional.fused_elbo(recon, x, kl=kl, return_terms=return_terms, **shared)

    def _decoded(self, z, x, condition, n_samples):
        """The decoder's output for the z of one draw, or of n_samples draws: [K, B, ...] where it has samples."""
        seen = x if self.autoregressive else None
        if n_samples is None:
            return self.decode(z, seen, condition=condition)
        k, batch = z.shape[:2]
        seen, condition = (conditions.copies(t, k) for t in (seen, condition))
        recon = self.decode(z.flatten(0, 1), seen, condition=condition)
        by_sample = lambda t: t.dim() >= x.dim() and t.shape[0] == k * batch  # noqa: E731
        return tree_map(lambda t: t.unflatten(0, (k, batch)) if by_sample(t) else t, recon)

    def extra_repr(self) -> str:
        shape = f", latent_shape={self.latent_shape}" if self.latent_shape else ""
        flags = "".join([f", {name}=True" for name in ("autoregressive", "integers") if getattr(self, name)])
        bound = f", logvar_range={self.logvar_range}" if self.logvar_range else ""
        bound += f", total={self.total!r}" if self.total else ""
        return f"likelihood={self.likelihood!r}, {self.shown()}{shape}{flags}{bound}, backend={self.backend!r}"
