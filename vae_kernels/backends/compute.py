"""What a backend makes of a request: its choice, DTensors, draws, and the KL of each latent dimension."""

import dataclasses
from typing import Any

import torch

from ..core import dtensor, first_calls, layout, penalty
from ..core.objective import KlFloor, Reduction, factor_of, objective
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


def of_draws(request, n_samples, backend) -> Any:
    """The loss, or ElboTerms, of a request with K draws for each x: the nll of a sample is the mean over its draws. x
    and the latents have B samples, and the parameters K B."""
    settings = request.settings
    nll, batch = _of_draws(request, n_samples, backend), request.x.shape[0]
    of_latent = settings._replace(likelihood="", parameters=0, options=())
    kl = computed(
        request._replace(settings=of_latent, x=None, rec_weight=None, weight=None, params=(), log_total=None), backend
    )
    if not settings.terms:
        return nll + kl
    of_each = nll.nll.view(n_samples, batch).mean(0)
    return ElboTerms(nll.loss + kl.loss, of_each, kl.kl, kl.kl_per_dim, nll.nll_per_column)


def nll_of_draws(request, n_samples, backend) -> torch.Tensor:
    """nll [K, B] of a request without latents, or its mean or sum."""
    if request.settings.reduction != Reduction.NONE:
        return _of_draws(request, n_samples, backend)
    return _of_samples(request, backend).view(n_samples, request.x.shape[0])


def _of_draws(request, n_samples, backend) -> Any:
    """The likelihood term of the loss, reduced over the draws, or ElboTerms with the nll [K B] of each draw."""
    settings = request.settings._replace(floor=KlFloor.NONE, nats=1.0)
    if settings.reduction == Reduction.SUM:
        settings = settings._replace(rec_weight=settings.rec_weight / n_samples)
    request = request._replace(settings=settings, beta=None, latent_weight=None, nats=None, latent=())
    out = _of_samples(request, backend)
    if settings.reduction != Reduction.NONE:
        return out
    mean = (out.loss if settings.terms else out).view(n_samples, request.x.shape[0]).mean(0)
    return dataclasses.replace(out, loss=mean) if settings.terms else mean


def _of_samples(request, backend) -> Any:
    """The request of a likelihood alone, whose parameters have K times as many samples as x."""
    first_calls.look(request)
    return choose(backend, request.params).elbo(request)


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
