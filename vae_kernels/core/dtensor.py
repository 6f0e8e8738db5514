"""DTensors (torch.distributed.tensor): a batch whose samples are split over a mesh of ranks.

Each rank computes its own samples with plain tensors. The results are DTensors again. A result [B] is placed as the
batch is. A loss is Partial: the sum over the ranks is still to be taken. The gradient of a tensor that all samples
share is Partial too. torch's register_sharding, with a rule for each op, is not enough: it knows no op with a list of
results, and no noise that depends on where a shard begins.

torch.distributed.tensor is imported only when a tensor is of a class that is not torch's own.
"""

import functools

import torch

from ..formulas import SEGMENTS
from . import layout
from .objective import Objective, Reduction
from .terms import ElboTerms

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def any_of(tensors):
    """Whether one of these is a DTensor. Every call comes here, so this is written to be fast."""
    for t in tensors:
        if type(t) not in _PLAIN and isinstance(t, torch.Tensor) and torch.distributed.is_available():
            from torch.distributed.tensor import DTensor

            if isinstance(t, DTensor):
                return True
    return False


_MIXED = "got a plain one beside DTensors, expected a DTensor too: its gradient would be of one rank's samples"


class _Batch:
    """How a batch is split over the ranks. `like` is a tensor [B, ...] of the batch."""

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
        return self._distributed(t).redistribute(self.mesh, self.placements).to_local()

    def shared(self, t):
        """A number or a tensor that is the same for all samples. The gradient of the tensor is summed over the
        ranks."""
        if not isinstance(t, torch.Tensor):
            return t
        return self._distributed(t).redistribute(self.mesh, self.everywhere).to_local(grad_placements=self.sums)

    def weight(self, t, like):
        """The weight of the terms of `like`: split as the batch is, if the weight has a number for each sample."""
        if t is None:
            return None
        return self.samples(t) if t.dim() == like.dim() else self.shared(t)

    def _distributed(self, t):
        """t as a DTensor. A plain tensor without a gradient, such as a target, must be the same on every rank."""
        if isinstance(t, self.DTensor):
            return t
        if t.requires_grad:
            raise TypeError(f"tensor of shape {tuple(t.shape)}: {_MIXED}")
        return self.DTensor.from_local(t, self.mesh, self.everywhere, run_check=False)

    def per_sample(self, local, shape, dim=0):
        """The DTensor of this shape whose dimension `dim` is the batch, from this rank's part of it."""
        from torch.distributed.tensor import Shard

        placements = [Shard(dim) if p.is_shard() else p for p in self.placements]
        strides = torch.empty(shape, device="meta").stride()
        return self.DTensor.from_local(
            local.contiguous(), self.mesh, placements, run_check=False, shape=torch.Size(shape), stride=strides
        )

    def summed(self, local):
        """The DTensor that is the sum of all ranks' parts."""
        return self.DTensor.from_local(local, self.mesh, self.sums, run_check=False)

    def first(self, t):
        """The index in the batch of this rank's first sample."""
        from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

        _, offset = compute_local_shape_and_global_offset(t.shape, self.mesh, self.placements)
        return offset[0]


def own_part(objective):
    """The request for this rank's samples, in plain tensors; and the function that makes DTensors of the result."""
    settings, x, rec_weight, beta, weight, latent_weight, _, params, latent, log_total = objective
    batch = _Batch((*params, *latent)[0])
    dims = params[0].dim() if params else 0
    weight = batch.weight(weight, x)
    latent_weight = batch.weight(latent_weight, latent[0] if latent else None)
    params = tuple(batch.samples(p) if p.dim() == dims else batch.shared(p) for p in params)
    x = None if x is None else batch.samples(x)
    latent = layout.latent(tuple(batch.samples(t) for t in latent)) if latent else ()
    if params and settings.likelihood not in SEGMENTS:
        x, params = layout.likelihood(x, params)
        weight = layout.term_weight(weight, layout.terms_like(x, params))
    if latent:
        latent_weight = layout.term_weight(latent_weight, latent[0])
    reduction = settings.reduction
    if reduction == Reduction.MEAN:  # the mean over the samples of all ranks: each rank gives its part of the sum
        scale = 1 / batch.rows if batch.rows else float("nan")
        settings = settings._replace(rec_weight=settings.rec_weight * scale, beta=settings.beta * scale)
    settings = settings._replace(reduction=Reduction.NONE if reduction == Reduction.NONE else Reduction.SUM)
    rec_weight, beta = batch.shared(rec_weight), batch.shared(beta)
    log_total = None if log_total is None else batch.samples(log_total)
    own = Objective(settings, x, rec_weight, beta, weight, latent_weight, None, params, latent, log_total)
    return own, functools.partial(_whole, batch, len((*params, *latent)[0]), settings)


def own_terms(x, params, shape):
    """This rank's samples of the target and of the parameters, in plain tensors; and the function that makes a DTensor
    of its terms, which have this shape."""
    batch = _Batch(params[0])
    dims = params[0].dim()
    own = tuple(batch.samples(p) if p.dim() == dims else batch.shared(p) for p in params)
    return batch.samples(x), own, lambda terms: batch.per_sample(terms, shape)


def _whole(batch, own, settings, out):
    """The result of the whole batch, from the result `out` of this rank's samples, which are `own` many."""
    loss = out.loss if settings.terms else out
    per_sample = settings.reduction == Reduction.NONE
    loss = batch.per_sample(loss, (batch.rows,)) if per_sample else batch.summed(loss)
    if not settings.terms:
        return loss
    nll, kl, per_dim = out.parts()
    # the means over this rank's samples, which are nan on a rank without samples
    per_dim, per_column = (
        t if t is None else batch.summed(t * (own / batch.rows) if own else torch.zeros_like(t))
        for t in (per_dim, out.nll_per_column)
    )
    nll, kl = (None if t is None else batch.per_sample(t, (batch.rows,)) for t in (nll, kl))
    return ElboTerms(loss, nll, kl, per_dim, per_column)


def own_samples(mu, logvar, prior, latent_weight, n_samples):
    """This rank's part of the posterior and the prior, in plain tensors; its shard, (first, total); and the function
    that makes DTensors of its z and KL."""
    batch = _Batch(mu)
    shape = mu.shape if logvar is not None else (mu.shape[0], mu.shape[1] // 2, *mu.shape[2:])
    shard = batch.first(mu), batch.rows
    latent_weight = batch.weight(latent_weight, mu)
    mu, logvar = batch.samples(mu), None if logvar is None else batch.samples(logvar)

    def whole(z, kl):
        z = batch.per_sample(z, (n_samples, *shape), 1) if n_samples else batch.per_sample(z, shape)
        return z, None if kl is None else batch.per_sample(kl, (batch.rows,))

    return (mu, logvar, tuple(batch.samples(t) for t in prior), latent_weight), shard, whole
