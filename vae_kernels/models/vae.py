"""The VAE: an encoder, a decoder and the objective, and nothing else.

Use it as it is, or read it as an example of a training step: it computes the loss with the public functions only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import nn
from typing_extensions import Unpack

from .. import functional
from ..core import checks, weights
from ..core.terms import ElboTerms
from ..likelihoods import by_name, formula_of
from ..priors import Prior
from ..typing import (
    Backend,
    FreeBitsLike,
    LikelihoodLike,
    Number,
    PriorLike,
    Recon,
    Reduction,
    ShardLike,
    StepCall,
    StepSettings,
)
from .settings import Settings


class VAE(Settings):
    """A variational autoencoder with a diagonal Gaussian posterior.

    encoder:      module, x [B, ...] float -> one tensor [B, 2L, ...] (mu, then logvar), or a pair (mu, logvar).
    decoder:      module, z [B, L, ...] -> the likelihood's parameter of the shape of x, or a tuple or a mapping of its
                  parameters, as in `fused_elbo`. With "categorical": the logits [B, K, ...].
    likelihood:   a name in `vae_kernels.LIKELIHOODS`, or an object of `vae_kernels.likelihoods`. The attribute
                  `likelihood` has the same form.
    obs_logvar:   as in `fused_elbo`. An `nn.Parameter` is trained, another tensor becomes a buffer, and a RunningLogvar
                  is a child module.
    prior:        None is N(0, I); a pair (mu, logvar) of tensors or Parameters that broadcast to [B, L, ...]; or a
                  module of `vae_kernels.priors`, whose KL may be a Monte Carlo estimate.
    beta, rec_weight: the weights of the KL and of the negative log-likelihood: a float, a 0-d tensor or a control
                  (`beta=vk.controls.LinearWarmup(1000)`). A control is a child module: it moves, is copied and is saved
                  with the VAE. Give the control itself: its bare `value` is an error, because the VAE would keep the
                  value and lose the control.
    free_bits:    as in `fused_elbo`.
    latent_shape: the shape of one z, an int or a tuple without the batch. Only `sample` needs it.
    autoregressive: the decoder is called with (z, x), with the x that the encoder gets, and gives the parameters of
                  p(x_i | x_before_i, z) for all i at once. Then `sample` and `reconstruct` are errors, because they
                  decode without an x.
    backend:      as in `fused_elbo`.

    The losses are to be minimised, in nats per sample. A loss is -ELBO if both weights are 1. Bad arguments raise
    ValueError or TypeError. If a checkpoint has a number as beta, rec_weight or free_bits, and this VAE has a tensor or
    a control, or the reverse, the checkpoint loads, and this VAE keeps its own setting. A Parameter that is missing in
    the checkpoint is an error.
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
        prior: PriorLike = None,
        beta: Number = 1.0,
        rec_weight: Number = 1.0,
        free_bits: FreeBitsLike | None = None,
        latent_shape: int | Iterable[int] | None = None,
        autoregressive: bool = False,
        backend: Backend = "auto",
    ) -> None:
        checks.likelihood(likelihood)
        for name, weight in (("beta", beta), ("rec_weight", rec_weight)):
            if isinstance(weight, torch.Tensor) and weight.dim():
                raise ValueError(f"{name}: got shape {tuple(weight.shape)}, expected a float or a 0-d tensor")
        super().__init__(obs_logvar=obs_logvar, prior=prior, beta=beta, rec_weight=rec_weight, free_bits=free_bits)
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood: LikelihoodLike = likelihood
        self.autoregressive = autoregressive
        self.latent_shape = (latent_shape,) if isinstance(latent_shape, int) else latent_shape and tuple(latent_shape)
        self.backend: Backend = backend

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x [B, ...] (float, uint8 read as x/255, or counts) -> posterior (mu, logvar), each [B, L, ...].

        Counts are not scaled for the encoder: an encoder that needs log(1 + x) computes log(1 + x). Levels of
        "categorical" are not scaled either, except uint8: the encoder gets x/255, and the loss gets the level.
        """
        posterior = self._posterior(x)
        mu, logvar = posterior[0].chunk(2, dim=1) if len(posterior) == 1 else posterior
        return mu, logvar

    def _posterior(self, x):
        """The output of the encoder, as a tuple: (moments,), one tensor [B, 2L, ...], or (mu, logvar)."""
        out = self.encoder(self._read(x))
        if isinstance(out, torch.Tensor):
            if out.dim() < 2 or out.shape[1] % 2:
                shape = tuple(out.shape)
                raise ValueError(f"encoder: gave shape {shape}, expected [B, 2L, ...]: mu, then logvar, along dim 1")
            return (out,)
        if not (isinstance(out, (tuple, list)) and len(out) == 2):
            raise TypeError(
                f"encoder: gave {type(out).__name__}, expected a tensor [B, 2L, ...] or a pair (mu, logvar)"
            )
        mu, logvar = out
        if mu.shape != logvar.shape:
            raise ValueError(
                f"encoder: gave mu {tuple(mu.shape)} and logvar {tuple(logvar.shape)}, expected equal shapes"
            )
        return mu, logvar

    def _read(self, x):
        """x as the encoder and an autoregressive decoder take it: floating point."""
        if x.is_floating_point():
            return x
        unit = x.dtype == torch.uint8 and formula_of(self.likelihood).SUPPORT != "counts"
        return x.to(self._like().dtype) / (255 if unit else 1)

    def decode(self, z: torch.Tensor, x: torch.Tensor | None = None) -> Recon:
        """z [B, L, ...] -> the decoder's output: a tensor, or a tuple or a mapping of the likelihood's parameters.

        x: [B, ...]. An autoregressive decoder needs x; for any other decoder x is an error.
        """
        if self.autoregressive != (x is not None):
            came, expected = ("none", "[B, ...]") if x is None else ("a tensor", "none")
            raise ValueError(f"x: got {came}, expected {expected} with autoregressive={self.autoregressive}")
        return self.decoder(z) if x is None else self.decoder(z, self._read(x))

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
        beta: Number | None = None,
        weight: torch.Tensor | None = None,
        latent_weight: torch.Tensor | None = None,
        reduction: Reduction = "mean",
        generator: torch.Generator | None = None,
        shard: ShardLike | None = None,
        return_terms: bool = False,
    ) -> torch.Tensor | ElboTerms:
        """The objective of a batch in nats, with one posterior sample for each x: the mean over the batch, a scalar.

        x:            [B, ...], of the types that `fused_elbo` takes. uint8 is read as x/255, unless x has counts or
                      levels.
        beta:         None for the module's own beta; or a float, a 0-d tensor or a control.
        weight:       as in `fused_elbo`: a mask, or a weight for each element, feature or sample. Where the weight is
                      0, the encoder and an autoregressive decoder get 0 in place of x, so that a NaN does not reach
                      them. An encoder that must tell a missing x from an x of 0 needs the mask as an input: give the
                      encoder x and the mask in one tensor, and call `fused_elbo` yourself.
        latent_weight: as in `fused_elbo`: of the KL of each latent dimension.
        reduction:    as in `fused_elbo`.
        shard:        as in `sample_kl`: the place of x in a batch that is split over ranks.
        return_terms: give an ElboTerms, as `fused_elbo` does, with nll [B], kl [B] and kl_per_dim [L, ...]. kl_per_dim
                      is None if the KL is a Monte Carlo estimate.
        """
        beta = self.beta if beta is None else beta
        if weight is not None:
            weights.check("weight", weight, x, "x", "rec_weight")
        seen = weights.filled(x, weight)
        shared: dict[str, Any] = {
            "likelihood": self.likelihood,
            "obs_logvar": self.obs_logvar,
            "beta": beta,
            "rec_weight": self.rec_weight,
            "weight": weight,
            "free_bits": self.free_bits,
            "reduction": reduction,
            "backend": self.backend,
        }
        draw: dict[str, Any] = {"generator": generator, "shard": shard, "backend": self.backend}
        decoder_x = seen if self.autoregressive else None
        closed_form = not isinstance(self.prior, Prior) or self.prior.closed_form
        if (return_terms or self.free_bits is not None) and closed_form:
            mu, logvar = self.encode(seen)
            recon = self.decode(functional.reparameterize(mu, logvar, **draw), decoder_x)
            shared |= {"prior": self.prior, "return_terms": return_terms, "latent_weight": latent_weight}
            return functional.fused_elbo(recon, x, mu, logvar, **shared)
        # One kernel gives the sample and the KL: mu and logvar are read once, and get one gradient from one kernel.
        draw |= {"prior": self.prior, "latent_weight": latent_weight}
        z, kl = functional.sample_kl(*self._posterior(seen), **draw)
        return functional.fused_elbo(self.decode(z, decoder_x), x, kl=kl, return_terms=return_terms, **shared)

    @torch.no_grad()
    def reconstruct(self, x: torch.Tensor, *, weight: torch.Tensor | None = None) -> torch.Tensor:
        """x [B, ...] -> the mean of the likelihood, decoded from the posterior mean, in the shape of x. No gradient.

        With "categorical" the result is the mean level, between 0 and K-1. weight: None, or a mask that broadcasts to
        x. Where the mask is False, the encoder gets 0 in place of x, and the result fills x in.
        """
        if weight is not None:
            weights.check_mask("weight", weight, x, "x")
        mu, _ = self.encode(weights.filled(x, weight))
        return self._mean(self.decode(mu))

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """n means [n, ...] of the likelihood, decoded from draws of the prior. No gradient."""
        return self._mean(self.decode(self.sample_prior(n, generator=generator)))

    @torch.no_grad()
    def sample_prior(self, n: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """n draws of the prior, [n, L, ...]. No gradient."""
        if isinstance(self.prior, Prior):
            return self.prior.sample(n, generator=generator)
        if self.latent_shape is None:
            raise ValueError("sample: the latent shape is not known; give VAE(..., latent_shape=) the shape of one z")
        like, shape = self._like(), (n, *self.latent_shape)
        if self.prior is None:
            mu = logvar = like.new_zeros(shape)
        else:
            mu, logvar = (part.expand(shape) for part in self.prior)
        return functional.reparameterize(mu, logvar, generator=generator, backend=self.backend)

    def _mean(self, recon):
        return formula_of(self.likelihood).mean(**by_name(recon, self.likelihood))

    def _like(self):
        """A tensor with the dtype and device of the networks: the first floating-point parameter or buffer."""
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.is_floating_point():
                return tensor
        return torch.empty(())

    def extra_repr(self) -> str:
        shape = f", latent_shape={self.latent_shape}" if self.latent_shape else ""
        autoregressive = ", autoregressive=True" if self.autoregressive else ""
        return f"likelihood={self.likelihood!r}, {self.shown()}{shape}{autoregressive}, backend={self.backend!r}"
