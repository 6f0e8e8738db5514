"""The two ways to write the loss in the training step of a client: by hand, and with this library.

A way has two functions. sample(mu, logvar, prior=None) gives z and its KL; prior is None for N(0, I), or (mu, logvar).
loss(recon, x, kls) gives -ELBO in nats, the mean over the batch; recon is the tuple of the decoder's outputs, and kls
are the KLs of all samples.
"""

from dataclasses import dataclass
from typing import Any

import torch

from .. import functional
from . import rivals


def wide(t):
    """A tensor of 16 bits in float32, as autocast and careful code give it to a loss."""
    return t.float() if t.dtype == torch.bfloat16 else t


@dataclass(frozen=True)
class ByHand:
    """rival: a function (x, *recon) -> -log p(x), summed over everything, as in rivals.py."""

    rival: Any

    @property
    def name(self):
        return self.rival.__name__

    def sample(self, mu, logvar, prior=None):
        z = rivals.sample_by_hand(mu, logvar)
        if prior is None:
            return z, rivals.kl_by_hand(wide(mu), wide(logvar))
        return z, rivals.kl_of_two_by_hand(wide(mu), wide(logvar), wide(prior[0]), wide(prior[1]))

    def loss(self, recon, x, kls):
        return sum(kls, self.rival(x, *[wide(t) for t in recon])) / len(x)


@dataclass(frozen=True)
class Fused:
    """likelihood, backend: as in fused_elbo. total: whether the first of recon has logits of shares, and x has the
    total: log_total of fused_elbo."""

    likelihood: Any
    total: bool = False
    backend: str = "auto"
    name = "sample_kl + fused_elbo"

    def sample(self, mu, logvar, prior=None):
        return functional.sample_kl(mu, logvar, prior=prior, backend=self.backend)

    def loss(self, recon, x, kls):
        settings = {"likelihood": self.likelihood, "backend": self.backend}
        if self.total:
            settings["log_total"] = x.sum(1).log()
        kl = kls[0] if len(kls) == 1 else torch.stack(kls, 1)
        return functional.fused_elbo(recon[0] if len(recon) == 1 else recon, x, kl=kl, **settings)
