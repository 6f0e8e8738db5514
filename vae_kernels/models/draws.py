"""What a VAE gives besides its loss: reconstructions and samples."""

from typing import TYPE_CHECKING, Literal

import torch

from .. import conditions
from ..core import checks, missing, rows, targets
from ..core.calls import own_tensor
from ..core.modes import evaluating
from ..core.ranges import count
from ..formulas import shares
from ..likelihoods import Mixed, by_name, formula_of, name_of, options_by_name
from ..typing import Backend, Condition, Recon
from .settings import Settings


class Draws(Settings):
    """The methods of a VAE that give means of its likelihood. A VAE has the networks."""

    latent_shape: tuple[int, ...] | None
    backend: Backend
    total: Literal["observed"] | None

    if TYPE_CHECKING:

        def encode(self, x: torch.Tensor, *, condition: Condition = None) -> tuple[torch.Tensor, torch.Tensor]: ...
        def decode(self, z: torch.Tensor, x: torch.Tensor | None = None, *, condition: Condition = None) -> Recon: ...

    @torch.no_grad()
    def reconstruct(
        self,
        x: torch.Tensor,
        *,
        condition: Condition = None,
        log_total: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """x [B, ...] -> the mean of the likelihood, decoded from the posterior mean, in the shape of x. No gradient.

        With "categorical" the result is the mean level, between 0 and K-1. With "multinomial" the result is the shares,
        which are the mean of x divided by the sum of x. A table has the means of likelihoods.Mixed.mean. log_total: as
        in `fused_elbo`. weight: None, or a mask that broadcasts to the terms. Where the mask is False, the encoder gets
        0 in place of x, and the result predicts x. The networks run in evaluation mode.
        """
        targets.check("x", x)
        seen = missing.seen(x, weight, self.likelihood, mask=True)
        with evaluating(self):
            mu, _ = self.encode(seen, condition=condition)
            return self._mean(self.decode(mu, condition=condition), rows.total_of(self, seen, log_total))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        condition: Condition = None,
        log_total: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """n means [n, ...] of the likelihood, decoded from draws of the prior. No gradient. The networks run in
        evaluation mode. A condition and log_total have n samples, one for each draw."""
        if log_total is None and self.total is not None:
            expected = "expected [n]: this model takes the total of each sample from x, and here is no x"
            raise ValueError(f"log_total: got None, {expected}")
        with evaluating(self):
            z = self.sample_prior(n, condition=condition, generator=generator)
            return self._mean(self.decode(z, condition=condition), log_total)

    @torch.no_grad()
    def sample_prior(
        self, n: int, *, condition: Condition = None, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """n draws of the prior, [n, L, ...]. No gradient. Only a ConditionalGaussian reads the condition."""
        count("n", n)
        like = self._like()
        checks.noise(None, generator, like, "the model")
        conditions.check(condition, like.new_empty(n, 0), "n")
        if self.latent_shape is None and (self.prior is None or isinstance(self.prior, tuple)):
            expected = "expected VAE(..., latent_shape=), the shape of one z"
            raise ValueError(f"latent_shape: the latent shape is not known; {expected}")
        with evaluating(self):
            return conditions.draws(self.prior, n, self.latent_shape, like, condition, generator, self.backend)

    def _mean(self, recon, log_total=None):
        if isinstance(self.likelihood, Mixed):
            return self.likelihood.mean(recon)
        given = by_name(recon, self.likelihood)
        if log_total is not None:
            first = next(iter(given))
            log_total = rows.log_total(log_total, given[first], name_of(self.likelihood))
            given[first] = shares.log_mean(given[first], log_total)
        return formula_of(self.likelihood).mean(**given, **options_by_name(self.likelihood))

    def _like(self):
        """A tensor with the dtype and device of the networks."""
        held = own_tensor(self)
        return torch.empty(()) if held is None else held
