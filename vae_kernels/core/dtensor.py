"""DTensors (torch.distributed.tensor): a batch whose samples are shared out over a mesh of ranks.

Each rank computes its own samples with plain tensors. What comes out are DTensors again: [B] placed as the batch is,
and a loss, or a gradient of what all samples share, Partial: a sum that is still to be taken over the ranks. A rule of
torch's register_sharding for each op would not do: it knows no op with a list of results, and no noise that depends on
where a shard begins.

torch.distributed.tensor is imported where a tensor is none of torch's own classes, and not before.
"""

import functools

import torch

from . import layout
from .objective import Objective, Reduction
from .terms import ElboTerms

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def any_of(tensors):
    """Whether one of these is a DTensor. Written to be quick."""
    for t in tensors:
        if type(t) not in _PLAIN and isinstance(t, torch.Tensor):
            from torch.distributed.tensor import DTensor

            if isinstance(t, DTensor):
                return True
    return False


_MIXED = "got a plain one beside DTensors, expected a DTensor too: its gradient would be of one rank's samples"


class _Batch:
    """How the samples of `like`, the first tensor that has them, are shared out."""

    def __init__(self, like):
        from torch.distributed.tensor import DTensor, Partial, Replicate

        self.DTensor = DTensor
        if not isinstance(like, DTensor):
            raise TypeError(f"tensor of shape {tuple(like.shape)}: {_MIXED}")
        self.mesh, self.placements, self.rows = like.device_mesh, like.placements, like.shape[0]
        for p in self.placements:
            if not (p.is_replicate() or p.is_shard(0)):
                raise ValueError(
                    f"DTensor of shape {tuple(like.shape)}: got placements {self.placements}, expected Shard(0) or "
                    "Replicate(): samples may be shared out, their elements not; redistribute it"
                )
        self.everywhere = [Replicate() for _ in self.placements]
        self.sums = [Partial() if p.is_shard() else Replicate() for p in self.placements]

    def samples(self, t):
        """This rank's samples of a tensor [B, ...]."""
        return self._given(t).redistribute(self.mesh, self.placements).to_local()

    def shared(self, t):
        """What is the same for all samples: a number, or a tensor, whose gradient is summed over the ranks."""
        if not isinstance(t, torch.Tensor):
            return t
        return self._given(t).redistribute(self.mesh, self.everywhere).to_local(grad_placements=self.sums)

    def _given(self, t):
        """t; a plain tensor without a gradient, a target or a weight, is taken as the same on every rank."""
        if isinstance(t, self.DTensor):
            return t
        if t.requires_grad:
            raise TypeError(f"tensor of shape {tuple(t.shape)}: {_MIXED}")
        return self.DTensor.from_local(t, self.mesh, self.everywhere, run_check=False)

    def of_samples(self, local, shape, dim=0):
        """The DTensor of this shape whose dimension `dim` is the batch."""
        from torch.distributed.tensor import Shard

        placements = [Shard(dim) if p.is_shard() else p for p in self.placements]
        strides = torch.empty(shape, device="meta").stride()
        return self.DTensor.from_local(
            local.contiguous(), self.mesh, placements, run_check=False, shape=torch.Size(shape), stride=strides
        )

    def sum_of(self, local):
        return self.DTensor.from_local(local, self.mesh, self.sums, run_check=False)

    def first(self, t):
        """The place in the batch of this rank's first sample."""
        from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

        _, offset = compute_local_shape_and_global_offset(t.shape, self.mesh, self.placements)
        return offset[0]


def own_part(objective):
    """The request of this rank's samples, in plain tensors; and the function that makes the DTensors of its result."""
    settings, x, rec_weight, beta, params, latent = objective
    batch = _Batch((*params, *latent)[0])
    dims = params[0].dim() if params else 0
    x = None if x is None else batch.samples(x)
    params = tuple(batch.samples(p) if p.dim() == dims else batch.shared(p) for p in params)
    latent = layout.latent(tuple(batch.samples(t) for t in latent)) if latent else ()
    if params:
        x, params = layout.likelihood(x, params)
    reduction = settings.reduction
    if reduction == Reduction.MEAN:  # over all samples, not over this rank's: a sum, of which each rank has its part
        scale = 1 / batch.rows if batch.rows else float("nan")
        settings = settings._replace(rec_weight=settings.rec_weight * scale, beta=settings.beta * scale)
    settings = settings._replace(reduction=Reduction.NONE if reduction == Reduction.NONE else Reduction.SUM)
    own = Objective(settings, x, batch.shared(rec_weight), batch.shared(beta), params, latent)
    return own, functools.partial(_whole, batch, len((*params, *latent)[0]), settings)


def _whole(batch, own, settings, out):
    """The result of all samples, from that of this rank's `own` samples."""
    loss = out.loss if settings.terms else out
    per_sample = settings.reduction == Reduction.NONE
    loss = batch.of_samples(loss, (batch.rows,)) if per_sample else batch.sum_of(loss)
    if not settings.terms:
        return loss
    nll, kl, per_dim = out.parts()
    if per_dim is not None:  # the mean over this rank's samples; over none of them it is nan
        per_dim = batch.sum_of(per_dim * (own / batch.rows) if own else torch.zeros_like(per_dim))
    nll, kl = (None if t is None else batch.of_samples(t, (batch.rows,)) for t in (nll, kl))
    return ElboTerms(loss, nll, kl, per_dim)


def own_samples(mu, logvar, prior, n_samples):
    """This rank's part of the posterior and the prior, in plain tensors; the shard that it is; and the function that
    makes the DTensors of its z and KL."""
    batch = _Batch(mu)
    shape = mu.shape if logvar is not None else (mu.shape[0], mu.shape[1] // 2, *mu.shape[2:])
    shard = batch.first(mu), batch.rows
    mu, logvar = batch.samples(mu), None if logvar is None else batch.samples(logvar)

    def whole(z, kl):
        z = batch.of_samples(z, (n_samples, *shape), 1) if n_samples else batch.of_samples(z, shape)
        return z, None if kl is None else batch.of_samples(kl, (batch.rows,))

    return (mu, logvar, tuple(batch.samples(t) for t in prior)), shard, whole
