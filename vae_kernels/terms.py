"""What fused_elbo(..., return_terms=True) gives."""

import torch


class ElboTerms:
    """The loss and its terms, in nats; all but `loss` are detached.

    loss        0-d, or [B] with reduction="none": rec_weight * nll + sum_d beta_d * kl_d, reduced
    nll         [B]: -log p(x|z), unweighted
    kl          [B]: KL(q(z|x) || p(z)), unweighted
    kl_per_dim  the latent dims: the mean over the batch of each dimension's KL; None where `kl=` gave only sums
    """

    __slots__ = ("_loss", "_parts")

    def __init__(self, loss, nll, kl, kl_per_dim):
        self._loss = loss
        self._parts = tuple([t if t is None or not t.requires_grad else t.detach() for t in (nll, kl, kl_per_dim)])

    @property
    def loss(self):
        return self._loss

    @property
    def nll(self):
        return self.parts()[0]

    @property
    def kl(self):
        return self.parts()[1]

    @property
    def kl_per_dim(self):
        return self.parts()[2]

    def parts(self):
        """(nll, kl, kl_per_dim)"""
        return self._parts

    def packed(self):
        """The loss, or its mean where it is [B], nll, kl and kl_per_dim in one flat tensor; and how they lie there:
        whether there is an nll, whether there is a kl, and the shape [B, latent dims], or [B] without a kl_per_dim."""
        nll, kl, dims = self._parts
        rows = len(kl if nll is None else nll)
        flat = [self._loss.detach().mean().view(1), *[t.flatten() for t in self._parts if t is not None]]
        return torch.cat(flat), (nll is not None, kl is not None, (rows, *(() if dims is None else dims.shape)))

    def __repr__(self):
        nll, kl, kl_per_dim = self.parts()
        return f"ElboTerms(loss={self._loss!r}, nll={nll!r}, kl={kl!r}, kl_per_dim={kl_per_dim!r})"


class PackedTerms(ElboTerms):
    """The same as the kernels give it, packed: to make three tensors a step takes longer than to compute what is in
    them, so that they are cut out where they are asked for."""

    __slots__ = ("_layout", "_packed")

    def __init__(self, loss, packed, layout):
        self._loss, self._packed, self._layout, self._parts = loss, packed, layout, None

    def parts(self):
        if self._parts is None:
            with_nll, with_kl, (rows, *dims) = self._layout
            kl, end = 1 + rows * with_nll, 1 + rows * (with_nll + with_kl)
            self._parts = (
                self._packed[1:kl] if with_nll else None,
                self._packed[kl:end] if with_kl else None,
                self._packed[end:].view(dims) if dims else None,
            )
        return self._parts

    def packed(self):
        return self._packed, self._layout
