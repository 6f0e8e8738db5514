"""The ops: schemas, fakes, autograd. The only file that knows torch.library.

The schemas are defined here; csrc/ops.cpp attaches the C++ kernels when the compiled library is loaded. Ops are pure:
they mutate nothing, draw nothing, and read weights on the device. Their arguments were checked by functional.py.

    elbo             the loss, its terms, and the gradients that `need` asks for, in one pass:
                     [loss, nll if params, kl if latent, kl_per_dim if per_dim, *gradients]
    elbo_backward    those gradients alone, for an incoming gradient of the shape of the loss
    sample           [z, kl if with_kl]
    sample_backward  the gradients that `need` asks for

x           [B, ...] target, or None with params = []: no likelihood term
params      the likelihood's parameters: of the shape of x, or x.shape[1:] (one row for all samples), or 0-d; the first
            has the shape of x; trailing ones that are left out are 0. All in one dense order of their dimensions.
latent      [], [kl], [mu, logvar] or [mu, logvar, prior_mu, prior_logvar]
rec_weight  0-d, or None; the weight is this times rec_weight_factor. Likewise beta, also of the shape of the latent dims.
need        bit i: the gradient of input i of (*params, *latent); in sample: of (mu, logvar, *prior)
rng         int64 [2]: seed and offset of the noise (philox.py)
"""

import math
from typing import NamedTuple

import torch

from .formulas import elbo as reference

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}

_library = torch.library.Library("vae_kernels", "DEF")
_OBJECTIVE = (
    "Tensor? x, Tensor[] params, str likelihood, Tensor[] latent, Tensor? rec_weight, Tensor? beta, "
    "float rec_weight_factor, float beta_factor, int reduction, int need"
)
_SAMPLE = "Tensor mu, Tensor logvar, Tensor[] prior, Tensor rng, int n_samples"
for _schema in (
    f"elbo({_OBJECTIVE}, bool per_dim) -> Tensor[]",
    f"elbo_backward(Tensor grad, {_OBJECTIVE}) -> Tensor[]",
    f"sample({_SAMPLE}, bool with_kl) -> Tensor[]",
    f"sample_backward(Tensor? grad_z, Tensor? grad_kl, {_SAMPLE}, int need) -> Tensor[]",
):
    # exact strides: the kernels run in storage order, which Inductor must not change behind their back
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides))

_elbo = torch.ops.vae_kernels.elbo.default
_elbo_backward = torch.ops.vae_kernels.elbo_backward.default
_sample = torch.ops.vae_kernels.sample.default
_sample_backward = torch.ops.vae_kernels.sample_backward.default


# ---------------------------------------------------------------- fakes: shapes, dtypes and strides without the work


def _in_order(t):
    """What the kernels allocate for a gradient: the order of t, its samples one after another."""
    strides = (t[0].numel() if t.dim() > 1 else 1, *t.stride()[1:]) if t.dim() else ()
    return torch.empty_strided(t.shape, strides, dtype=t.dtype, device=t.device)


def _fake_gradients(params, latent, need):
    dtype = reference.compute_dtype(*params, *latent)
    for i, t in enumerate((*params, *latent)):
        if not need >> i & 1:
            continue
        if i >= len(params):
            yield _in_order(t)
        elif t.dim() == params[0].dim():
            yield _in_order(t)
        else:
            yield torch.empty_strided(t.shape, t.stride(), dtype=dtype, device=t.device)


@torch.library.register_fake("vae_kernels::elbo", lib=_library)
def _(x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction, need, per_dim):
    like = (*params, *latent)[0]
    dtype = reference.compute_dtype(*params, *latent)
    per_sample = like.new_empty(like.shape[:1], dtype=dtype)
    out = [torch.empty_like(per_sample) if reduction == REDUCTIONS["none"] else like.new_empty((), dtype=dtype)]
    out += [torch.empty_like(per_sample) for part in (params, latent) if part]
    if per_dim:
        out.append(like.new_empty(latent[0].shape[1:], dtype=dtype))
    return [*out, *_fake_gradients(params, latent, need)]


@torch.library.register_fake("vae_kernels::elbo_backward", lib=_library)
def _(grad, x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction, need):
    return list(_fake_gradients(params, latent, need))


@torch.library.register_fake("vae_kernels::sample", lib=_library)
def _(mu, logvar, prior, rng, n_samples, with_kl):
    out = [mu.new_empty((n_samples, *mu.shape) if n_samples else mu.shape)]
    if with_kl:
        out.append(mu.new_empty(mu.shape[:1], dtype=reference.compute_dtype(mu, logvar, *prior)))
    return out


@torch.library.register_fake("vae_kernels::sample_backward", lib=_library)
def _(grad_z, grad_kl, mu, logvar, prior, rng, n_samples, need):
    return [_in_order(t) for i, t in enumerate((mu, logvar, *prior)) if need >> i & 1]


# ---------------------------------------------------------------- autograd


class Objective(NamedTuple):
    """What of an objective is not a tensor."""

    likelihood: str
    n_params: int
    rec_weight: float
    beta: float
    reduction: str
    per_dim: bool


def elbo(x, params, likelihood, latent, rec_weight, beta, reduction, per_dim):
    """The arguments and results of formulas.elbo.elbo, with the ops; shapes and layouts are those of the schema."""
    tensor_weight, factor = (rec_weight, 1.0) if isinstance(rec_weight, torch.Tensor) else (None, rec_weight)
    tensor_beta, beta_factor = (beta, 1.0) if isinstance(beta, torch.Tensor) else (None, beta)
    objective = Objective(likelihood, len(params), factor, beta_factor, reduction, per_dim)
    out = iter(_Elbo.apply(objective, x, tensor_weight, tensor_beta, *params, *latent))
    return (
        next(out),
        next(out) if params else None,
        next(out) if latent else None,
        next(out) if per_dim else None,
    )


class _Elbo(torch.autograd.Function):
    """With a scalar loss the gradients are computed while the loss is, for an incoming gradient of 1, and rescaled in the
    backward pass if it is another. Else they are computed in the backward pass: with a loss per sample; with float16
    storage, where an unscaled gradient underflows; with bfloat16 storage, where rescaling would round a second time."""

    @staticmethod
    def forward(ctx, objective, x, rec_weight, beta, *tensors):
        n = objective.n_params
        params, latent = tensors[:n], tensors[n:]
        need = sum(1 << i for i, needed in enumerate(ctx.needs_input_grad[4:]) if needed)
        ctx.compiling = torch.compiler.is_compiling()
        one_pass = objective.reduction != "none" and all(t.dtype not in _TWO_PASSES[ctx.compiling] for t in tensors)
        ctx.objective, ctx.need = objective, need
        out = _elbo(
            x,
            params,
            objective.likelihood,
            latent,
            rec_weight,
            beta,
            objective.rec_weight,
            objective.beta,
            REDUCTIONS[objective.reduction],
            need if one_pass else 0,
            objective.per_dim,
        )
        n_terms = 1 + bool(params) + bool(latent) + objective.per_dim
        terms, grads = out[:n_terms], out[n_terms:]
        # Saved tensors are not given up before the graph is; attributes can be, so that in eager mode the gradient that
        # leaves the backward pass has one owner, who need not copy it.
        ctx.one_pass = one_pass and need != 0
        ctx.grads = None if ctx.compiling else grads
        ctx.save_for_backward(x, rec_weight, beta, *tensors, *(grads if ctx.compiling else ()))
        ctx.mark_non_differentiable(*terms[1:])
        return tuple(terms)

    @staticmethod
    def backward(ctx, grad, *_):
        objective, needed = ctx.objective, ctx.needs_input_grad
        through_reference = any(needed[1:4]) or torch.is_grad_enabled()
        grads = _rescaled(ctx, grad) if ctx.one_pass and not through_reference else None
        if grads is None:
            x, rec_weight, beta, *tensors = ctx.saved_tensors[: len(needed) - 1]
            if through_reference:
                return (None, *_reference_gradients(ctx, grad, x, rec_weight, beta, tensors))
            n = objective.n_params
            grads = _elbo_backward(
                grad,
                x,
                tensors[:n],
                objective.likelihood,
                tensors[n:],
                rec_weight,
                beta,
                objective.rec_weight,
                objective.beta,
                REDUCTIONS[objective.reduction],
                ctx.need,
            )
        grads = iter(grads)
        return (None, None, None, None, *(next(grads) if wanted else None for wanted in needed[4:]))


# Storage types whose gradients are never kept, in eager mode and while compiling. In eager mode a bfloat16 gradient is
# kept, because an incoming gradient of 1 or of another power of two does not round it again.
_TWO_PASSES = {False: (torch.float16,), True: (torch.float16, torch.bfloat16)}


def _rescaled(ctx, grad):
    """The gradients that forward() computed, times the incoming one; None if that would round a bfloat16 twice."""
    if ctx.compiling:
        saved = ctx.saved_tensors[len(ctx.needs_input_grad) - 1 :]
        return [(grad * g).to(g.dtype) for g in saved]
    grads = ctx.grads
    if grads is None:
        ctx.saved_tensors  # noqa: B018 - freed with them: this raises what autograd says of a second backward pass
    scale = grad.item()
    power_of_two = math.frexp(scale)[0] in (0.0, 0.5)
    if not power_of_two and any(g.dtype == torch.bfloat16 for g in grads):
        return None
    if torch._C._autograd._get_current_graph_task_keep_graph():
        return [g * scale for g in grads]
    ctx.grads = None
    return [g.mul_(scale) for g in grads] if scale != 1 else grads


def _reference_gradients(ctx, grad, x, rec_weight, beta, tensors):
    """All gradients through the plain-torch formulas: for x, rec_weight and beta, and for a gradient of the gradient."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = [x, rec_weight, beta, *tensors]
        if not create_graph:
            inputs = [
                t if t is None else t.detach().requires_grad_(n)
                for t, n in zip(inputs, ctx.needs_input_grad[1:], strict=True)
            ]
        x, rec_weight, beta, *tensors = inputs
        n, o = ctx.objective.n_params, ctx.objective
        loss, *_ = reference.elbo(
            x,
            tensors[:n],
            o.likelihood,
            tensors[n:],
            rec_weight=o.rec_weight if rec_weight is None else rec_weight,
            beta=o.beta if beta is None else beta,
            reduction=o.reduction,
        )
    wanted = [t for t, needed in zip(inputs, ctx.needs_input_grad[1:], strict=True) if needed]
    grads = iter(torch.autograd.grad(loss, wanted, grad, create_graph=create_graph, allow_unused=True))
    return [next(grads) if needed else None for needed in ctx.needs_input_grad[1:]]


def sample_kl(mu, logvar, prior, rng, n_samples, with_kl):
    """The arguments and results of formulas.elbo.sample_kl, with the ops."""
    z, *kl = _Sample.apply(rng, n_samples or 0, with_kl, mu, logvar, *prior)
    return z, kl[0] if with_kl else None


class _Sample(torch.autograd.Function):
    """The noise is not stored: the backward pass draws it again."""

    @staticmethod
    def forward(ctx, rng, n_samples, with_kl, mu, logvar, *prior):
        ctx.n_samples = n_samples
        ctx.save_for_backward(rng, mu, logvar, *prior)
        ctx.set_materialize_grads(False)
        return tuple(_sample(mu, logvar, prior, rng, n_samples, with_kl))

    @staticmethod
    def backward(ctx, grad_z, grad_kl=None):
        rng, mu, logvar, *prior = ctx.saved_tensors
        needed = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            z, kl = reference.sample_kl(mu, logvar, prior, rng, ctx.n_samples or None, grad_kl is not None)
            pairs = [(o, g) for o, g in ((z, grad_z), (kl, grad_kl)) if g is not None]
            wanted = [t for t, n in zip((mu, logvar, *prior), needed, strict=True) if n]
            grads = torch.autograd.grad(*zip(*pairs, strict=True), wanted, create_graph=True, allow_unused=True)
        else:
            need = sum(1 << i for i, n in enumerate(needed) if n)
            grad_z = None if grad_z is None else grad_z.contiguous()
            grads = _sample_backward(grad_z, grad_kl, mu, logvar, prior, rng, ctx.n_samples, need)
        grads = iter(grads)
        return (None, None, None, *(next(grads) if n else None for n in needed))
