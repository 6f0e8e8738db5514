"""What a backend makes of a request: its choice, DTensors, and the KL of each latent dimension."""

from typing import Any

import torch

from ..core import dtensor, first_calls, layout, penalty
from ..core.objective import KlFloor, factor_of, objective
from ..core.terms import ElboTerms
from . import reference
from .choice import choose


def _with_kl(terms: ElboTerms, kl: torch.Tensor) -> ElboTerms:
    """The terms, with this KL in place of the KL that free bits have raised to their floor."""
    per_sample, per_dim = (kl.flatten(1).sum(1), kl.mean(0)) if kl.dim() > 1 else (kl, None)
    return ElboTerms(terms.loss, terms.nll, per_sample, per_dim, terms.nll_per_column)


def computed(request, backend) -> Any:
    """What the backend makes of the request."""
    tensors = *request.params, *request.latent
    if not dtensor.any_of((request.x, request.log_total, *tensors)):
        first_calls.look(request)
        return choose(backend, tensors).elbo(request)
    kl = None
    if request.settings.floor:
        request, kl = _floored_over_ranks(request, backend)
    own, whole = dtensor.own_part(request)
    out = whole(choose(backend, (*own.params, *own.latent)).elbo(own))
    return out if kl is None or not request.settings.terms else _with_kl(out, kl)


def _floored_over_ranks(request, backend):
    """The request with the KL after its floor, as a KL that is given; and the KL before. The mean of a unit of free
    bits is over the samples of all ranks, so no rank can take the minimum in its own pass."""
    settings, latent = request.settings, request.latent
    kl = latent[0] if len(latent) == 1 else kl_per_dim(latent, request.latent_weight, backend)
    costs = penalty.floored(kl, factor_of(settings.nats, request.nats), settings.floor)
    settings = settings._replace(floor=KlFloor.NONE, nats=1.0)
    return request._replace(settings=settings, latent=layout.latent((costs,)), latent_weight=None, nats=None), kl


def kl_per_dim(latent, weight, backend) -> torch.Tensor:
    """The KL of each element of mu: each element is a sample of one latent dimension to the backend."""
    eager = backend == "auto" and latent[0].is_cpu and not torch.compiler.is_compiling()
    if eager and latent[0].numel() < _FEW and not dtensor.any_of(latent):
        return reference.weighted_kl(latent, weight, reference.compute_dtype(*latent))
    weight = layout.element_weight(weight, latent[0])
    request = of_latent(layout.elements(latent), weight, "none")
    return computed(request, backend).view(latent[0].shape)


_FEW = 1 << 16  # elements: the operations of PyTorch then take less time than one autograd function in Python


def of_latent(latent, weight, reduction):
    """The request for the KL alone."""
    return objective(None, (), "", latent, reduction=reduction, latent_weight=weight)
