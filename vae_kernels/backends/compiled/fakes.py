"""Fakes: shapes, dtypes and strides of the results, without the work."""

import math

import torch

from ...core.layout import empty_in_order, empty_packed, terms_like
from ...core.objective import Layout, Reduction, layout_against, wanted_gradients
from ...core.terms import places
from .. import reference
from .schemas import library


def _fake_gradients(params, latent, log_total, need):
    dtype = reference.compute_dtype(*params, *latent)
    inputs = (*params, *latent)
    for i, (t, wanted) in enumerate(zip(inputs, wanted_gradients(need, len(inputs)), strict=True)):
        if wanted:
            layout = layout_against(params[0].shape, t.shape) if i < len(params) else Layout.FULL
            if layout == Layout.FULL:
                yield empty_in_order(t)
            elif layout == Layout.PER_SAMPLE:
                yield t.new_empty(t.shape, dtype=dtype)
            else:
                yield t.new_empty_strided(t.shape, t.stride(), dtype=dtype)
    if log_total is not None and need >> len(inputs) & 1:
        yield log_total.new_empty(log_total.shape, dtype=dtype)


@torch.library.register_fake("vae_kernels::elbo", lib=library)
@torch.library.register_fake("vae_kernels::triton_elbo", lib=library)
def _(
    x, params, likelihood, latent, rec_weight, beta, weight, latent_weight, nats, log_total, rec_weight_factor,
    beta_factor, nats_factor, floor, reduction, need, terms, expected,
):  # fmt: skip
    like = (*params, *latent)[0]
    dtype = reference.compute_dtype(*params, *latent)
    out = [like.new_empty(like.shape[:1] if reduction == Reduction.NONE else (), dtype=dtype)]
    if terms:
        shape = latent[0].shape if latent else like.shape[:1]
        out.append(like.new_empty(places((len(params) > 0, len(latent) > 0, shape)).size, dtype=dtype))
    return [*out, *_fake_gradients(params, latent, log_total, need)]


@torch.library.register_fake("vae_kernels::elbo_backward", lib=library)
@torch.library.register_fake("vae_kernels::triton_elbo_backward", lib=library)
def _(
    grad, x, params, likelihood, latent, rec_weight, beta, weight, latent_weight, nats, log_total, rec_weight_factor,
    beta_factor, nats_factor, floor, reduction, need,
):  # fmt: skip
    return list(_fake_gradients(params, latent, log_total, need))


@torch.library.register_fake("vae_kernels::log_prob", lib=library)
@torch.library.register_fake("vae_kernels::triton_log_prob", lib=library)
def _(likelihood, x, params):
    return empty_in_order(params[0], reference.compute_dtype(*params))


@torch.library.register_fake("vae_kernels::sample", lib=library)
@torch.library.register_fake("vae_kernels::triton_sample", lib=library)
def _(mu, logvar, prior, latent_weight, rng, n_samples, with_kl):
    out = [mu.new_empty((n_samples, *mu.shape) if n_samples else mu.shape)]
    if with_kl:
        out.append(mu.new_empty(mu.shape[:1], dtype=reference.compute_dtype(mu, logvar, *prior)))
    return out


@torch.library.register_fake("vae_kernels::sample_backward", lib=library)
@torch.library.register_fake("vae_kernels::triton_sample_backward", lib=library)
def _(grad_z, grad_kl, mu, logvar, prior, latent_weight, rng, n_samples, need, packed):
    inputs = (mu, logvar, *prior)
    both = [empty_packed(mu)[0]] if packed else []
    wanted = wanted_gradients(need, len(inputs))
    return both + [empty_in_order(t) for i, t in enumerate(inputs) if wanted[i] and not (packed and i < 2)]


@torch.library.register_fake("vae_kernels::position", lib=library)
@torch.library.register_fake("vae_kernels::triton_position", lib=library)
def _(likelihood, x, logits, weight):
    nll = logits.new_empty(logits.shape[:1], dtype=reference.compute_dtype(logits))
    return [nll, nll.new_empty((2, logits.shape[0], math.prod(x.shape[1:])))]


@torch.library.register_fake("vae_kernels::position_backward", lib=library)
@torch.library.register_fake("vae_kernels::triton_position_backward", lib=library)
def _(grad, likelihood, x, logits, weight, top_and_total):
    return empty_in_order(logits)


@torch.library.register_fake("vae_kernels::pixel", lib=library)
@torch.library.register_fake("vae_kernels::triton_pixel", lib=library)
def _(likelihood, x, packed, weight, options, ahead, expected):
    nll = packed.new_empty(packed.shape[:1], dtype=reference.compute_dtype(packed))
    return [nll, empty_in_order(packed)] if ahead else [nll]


@torch.library.register_fake("vae_kernels::pixel_backward", lib=library)
@torch.library.register_fake("vae_kernels::triton_pixel_backward", lib=library)
def _(grad, likelihood, x, packed, weight, options):
    return empty_in_order(packed)


@torch.library.register_fake("vae_kernels::pixel_log_prob", lib=library)
@torch.library.register_fake("vae_kernels::triton_pixel_log_prob", lib=library)
def _(likelihood, x, packed, options):
    return empty_in_order(terms_like(x, (packed,)), reference.compute_dtype(packed))


def _fake_segments_gradients(packed, logscale, need):
    of_packed, of_logscale = wanted_gradients(need, 2)
    grads = [packed.new_empty(packed.shape)] if of_packed else []
    if of_logscale:
        dtype = logscale.dtype if logscale.dim() == 2 else reference.compute_dtype(packed, logscale)
        grads.append(logscale.new_empty(logscale.shape, dtype=dtype))
    return grads


@torch.library.register_fake("vae_kernels::segments", lib=library)
@torch.library.register_fake("vae_kernels::triton_segments", lib=library)
def _(x, packed, logscale, weight, table, need, expected):
    nll = packed.new_empty(packed.shape[:1], dtype=reference.compute_dtype(packed, logscale))
    terms = nll.new_empty((packed.shape[0], table.shape[0]))
    return [nll, terms, *_fake_segments_gradients(packed, logscale, need)]


@torch.library.register_fake("vae_kernels::segments_backward", lib=library)
@torch.library.register_fake("vae_kernels::triton_segments_backward", lib=library)
def _(grad, x, packed, logscale, weight, table, need):
    return _fake_segments_gradients(packed, logscale, need)


def _fake_mixture_gradients(inputs, need):
    pairs = zip(inputs, wanted_gradients(need, len(inputs)), strict=True)
    return [torch.empty_like(t) for t, wanted in pairs if wanted]


@torch.library.register_fake("vae_kernels::mixture", lib=library)
@torch.library.register_fake("vae_kernels::triton_mixture", lib=library)
def _(z, loc, logvar, log_weight, need):
    out = [z.new_empty(z.shape[:1]), *(z.new_empty(z.shape[:1], dtype=torch.float64) for _ in range(2))]
    return out + _fake_mixture_gradients((z, loc, logvar, log_weight), need)


@torch.library.register_fake("vae_kernels::mixture_backward", lib=library)
@torch.library.register_fake("vae_kernels::triton_mixture_backward", lib=library)
def _(grad, z, loc, logvar, log_weight, peak, log_sum, need):
    return _fake_mixture_gradients((z, loc, logvar, log_weight), need)


@torch.library.register_fake("vae_kernels::decomposition", lib=library)
def _(z, mu, logvar, log_own, log_other):
    batch, dims = z.shape
    kept = z.new_empty((2, batch, 1 + dims), dtype=torch.float64)
    return [z.new_empty(batch), z.new_empty(batch), torch.empty_like(z), kept]


@torch.library.register_fake("vae_kernels::decomposition_backward", lib=library)
def _(information, correlation, each, z, mu, logvar, log_own, log_other, kept):
    return [torch.empty_like(t) for t in (z, mu, logvar)]
