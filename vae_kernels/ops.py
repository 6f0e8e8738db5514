"""The ops: schemas, fakes, autograd. The only file that knows torch.library.

The schemas are defined here; csrc/ops.cpp attaches the C++ kernels when the compiled library is loaded. Ops are pure:
they mutate nothing, draw nothing, and read weights on the device. Their arguments were checked by functional.py.

    elbo             the loss, its terms, and the gradients that `need` asks for, in one pass:
                     [loss, *terms, *gradients], with terms: nll if params, kl if latent, kl_per_dim if it has dims
    elbo_backward    those gradients alone, for an incoming gradient of the shape of the loss
    sample           [z, kl if with_kl]
    sample_backward  the gradients that `need` asks for

x           [B, ...] target, or None with params = []: no likelihood term
params      the likelihood's parameters: of the shape of x, or x.shape[1:] (one row for all samples), or 0-d; the first
            has the shape of x; trailing ones that are left out are 0. All in one dense order of their dimensions.
latent      [], [kl], [mu, logvar] or [mu, logvar, prior_mu, prior_logvar]
rec_weight  0-d, or None; the weight is this times rec_weight_factor. Likewise beta, also one for each latent dimension.
need        bit i: the gradient of input i of (*params, *latent); in sample: of (mu, logvar, *prior)
packed      mu and logvar are the halves of one tensor, [B, 2L, ...], and get one gradient, of its shape
rng         int64 [2]: seed and offset of the noise (philox.py)
"""

import math

import torch

from .formulas import elbo as reference
from .layout import empty_in_order, empty_packed

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}

_library = torch.library.Library("vae_kernels", "DEF")
_OBJECTIVE = (
    "Tensor? x, Tensor[] params, str likelihood, Tensor[] latent, Tensor? rec_weight, Tensor? beta, "
    "float rec_weight_factor, float beta_factor, int reduction, int need"
)
_SAMPLE = "Tensor mu, Tensor logvar, Tensor[] prior, Tensor rng, int n_samples"
_SCHEMAS = {
    "elbo": f"({_OBJECTIVE}, bool terms) -> Tensor[]",
    "elbo_backward": f"(Tensor grad, {_OBJECTIVE}) -> Tensor[]",
    "sample": f"({_SAMPLE}, bool with_kl) -> Tensor[]",
    "sample_backward": f"(Tensor? grad_z, Tensor? grad_kl, {_SAMPLE}, int need, bool packed) -> Tensor[]",
}
for _prefix in ("", "triton_"):  # C++, by the device; Triton
    for _name, _schema in _SCHEMAS.items():
        # exact strides: the kernels run in storage order, which Inductor must not change behind their back
        tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)
        _library.define(f"{_prefix}{_name}{_schema}", tags=tags)

# CUDA alone. rescale_: times the 0-d factor, in place; the kernel reads it, and does nothing if it is 1
_library.define("rescale_(Tensor(a!)[] tensors, Tensor factor) -> ()")
_library.define("runs_on(int device) -> bool")
_library.define("set_pool_limit(int bytes) -> ()")
_library.define("pool_bytes() -> int")


def _overloads(prefix):
    return {name: getattr(torch.ops.vae_kernels, prefix + name).default for name in _SCHEMAS}


# Who computes. "triton" is its functions, without the dispatcher, which takes longer than a launch, and "triton ops"
# what a compiler may see of them.
_KERNELS = {
    "compiled": _overloads("") | {"rescale_": torch.ops.vae_kernels.rescale_.default},
    "triton ops": _overloads("triton_"),
}


def attach_triton(kernels, key):
    """The functions of vae_kernels/triton/kernels.py, for tensors of this dispatch key."""
    _KERNELS["triton"] = {name: getattr(kernels, name) for name in (*_SCHEMAS, "rescale_")}
    for name in _SCHEMAS:
        _library.impl(f"triton_{name}", getattr(kernels, name), key)


# ---------------------------------------------------------------- fakes: shapes, dtypes and strides without the work


def _fake_gradients(params, latent, need):
    dtype = reference.compute_dtype(*params, *latent)
    for i, t in enumerate((*params, *latent)):
        if need >> i & 1:
            summed = i < len(params) and t.dim() < params[0].dim()
            yield t.new_empty_strided(t.shape, t.stride(), dtype=dtype) if summed else empty_in_order(t)


@torch.library.register_fake("vae_kernels::elbo", lib=_library)
@torch.library.register_fake("vae_kernels::triton_elbo", lib=_library)
def _(x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction, need, terms):
    like = (*params, *latent)[0]
    dtype = reference.compute_dtype(*params, *latent)
    per_sample = like.new_empty(like.shape[:1], dtype=dtype)
    out = [torch.empty_like(per_sample) if reduction == REDUCTIONS["none"] else like.new_empty((), dtype=dtype)]
    out += [torch.empty_like(per_sample) for part in (params, latent) if part and terms]
    if terms and latent and latent[0].dim() > 1:
        out.append(like.new_empty(latent[0].shape[1:], dtype=dtype))
    return [*out, *_fake_gradients(params, latent, need)]


@torch.library.register_fake("vae_kernels::elbo_backward", lib=_library)
@torch.library.register_fake("vae_kernels::triton_elbo_backward", lib=_library)
def _(grad, x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction, need):
    return list(_fake_gradients(params, latent, need))


@torch.library.register_fake("vae_kernels::sample", lib=_library)
@torch.library.register_fake("vae_kernels::triton_sample", lib=_library)
def _(mu, logvar, prior, rng, n_samples, with_kl):
    out = [mu.new_empty((n_samples, *mu.shape) if n_samples else mu.shape)]
    if with_kl:
        out.append(mu.new_empty(mu.shape[:1], dtype=reference.compute_dtype(mu, logvar, *prior)))
    return out


@torch.library.register_fake("vae_kernels::sample_backward", lib=_library)
@torch.library.register_fake("vae_kernels::triton_sample_backward", lib=_library)
def _(grad_z, grad_kl, mu, logvar, prior, rng, n_samples, need, packed):
    inputs = (mu, logvar, *prior)
    both = [empty_packed(mu)[0]] if packed else []
    return both + [empty_in_order(t) for i, t in enumerate(inputs) if need >> i & 1 and not (packed and i < 2)]


# ---------------------------------------------------------------- autograd


def elbo(x, params, likelihood, latent, rec_weight, beta, reduction, terms, kernels="compiled"):
    """The arguments and results of formulas.elbo.elbo, with the ops; shapes and layouts are those of the schema."""
    weight, weight_factor = (rec_weight, 1.0) if isinstance(rec_weight, torch.Tensor) else (None, rec_weight)
    weight_beta, beta_factor = (beta, 1.0) if isinstance(beta, torch.Tensor) else (None, beta)
    code = REDUCTIONS[reduction]
    compiling = torch.compiler.is_compiling()
    never = _NEVER_AHEAD[compiling]
    ahead = code != 0
    for t in (*params, *latent):
        ahead = ahead and t.dtype not in never
    if compiling and kernels == "triton":
        kernels = "triton ops"
    settings = (kernels, likelihood, len(params), weight_factor, beta_factor, code, terms, ahead, compiling)
    out = (_Elbo.apply if compiling else _apply_elbo)(settings, x, weight, weight_beta, *params, *latent)
    if not terms:
        return out, None, None, None
    out = iter(out)
    return next(out), next(out) if params else None, next(out) if latent else None, next(out, None)


# Storage types whose gradients are never computed ahead, in eager mode and while compiling. In eager mode a bfloat16
# gradient is, because an incoming gradient of 1, or of another power of two, does not round it again.
_NEVER_AHEAD = {False: (torch.float16,), True: (torch.float16, torch.bfloat16)}


class _Elbo(torch.autograd.Function):
    """With a scalar loss the gradients are computed while the loss is, for an incoming gradient of 1, and rescaled
    in the backward pass if it is another. Else they are computed in the backward pass: with a loss per sample; with
    float16 storage, where an unscaled gradient underflows; with bfloat16 storage, where rescaling would round twice."""

    @staticmethod
    def forward(ctx, settings, x, rec_weight, beta, *tensors):
        kernels, likelihood, n, rec_weight_factor, beta_factor, reduction, terms, ahead, compiling = settings
        _, of_x, of_rec_weight, of_beta, *wanted = ctx.needs_input_grad
        need = 0
        for of_input in reversed(wanted):
            need += need + of_input
        if of_x or of_rec_weight or of_beta:  # those gradients come through the reference, and so may the others
            ahead = False
        params, latent = tensors[:n], tensors[n:]
        objective = (x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction)
        out = _KERNELS[kernels]["elbo"](*objective, need if ahead else 0, terms)
        n_terms = 1 if not terms else 1 + bool(params) + bool(latent) + bool(latent and latent[0].dim() > 1)
        # Saved tensors are not given up before the graph is; attributes can be, so that in eager mode the gradient that
        # leaves the backward pass has one owner, who need not copy it.
        grads = out[n_terms:]
        ctx.settings, ctx.need, ctx.ahead, ctx.compiling = settings, need, bool(grads), compiling
        if compiling:
            ctx.save_for_backward(x, rec_weight, beta, *tensors, *grads)
        else:
            ctx.save_for_backward(x, rec_weight, beta, *tensors)
            ctx.grads = grads
        if not terms:
            return out[0]
        ctx.mark_non_differentiable(*out[1:n_terms])
        return tuple(out[:n_terms])

    @staticmethod
    def backward(ctx, grad, *_):
        create_graph = torch.is_grad_enabled()
        grads = _rescaled(ctx, grad) if ctx.ahead and not create_graph else None
        needed = ctx.needs_input_grad
        if grads is None:
            x, rec_weight, beta, *tensors = ctx.saved_tensors[: len(needed) - 1]
            if create_graph or needed[1] or needed[2] or needed[3]:
                return None, *_reference_gradients(ctx, grad, x, rec_weight, beta, tensors)
            kernels, likelihood, n, rec_weight_factor, beta_factor, reduction, *_ = ctx.settings
            objective = (x, tensors[:n], likelihood, tensors[n:], rec_weight, beta)
            elbo_backward = _KERNELS[kernels]["elbo_backward"]
            grads = elbo_backward(grad, *objective, rec_weight_factor, beta_factor, reduction, ctx.need)
        return _in_place(grads, needed)


# In eager mode without the part of apply that serves torch.func, where these functions are never used: a quarter of it.
_apply_elbo = super(torch.autograd.Function, _Elbo).apply


def _in_place(grads, needed):
    """The gradients at the places where one is needed, None at the others."""
    grads = iter(grads)
    return tuple([next(grads) if wanted else None for wanted in needed])


def _rescaled(ctx, grad):
    """The gradients that forward() computed, times the incoming one; None if that would round a bfloat16 twice."""
    if ctx.compiling:
        saved = ctx.saved_tensors[len(ctx.needs_input_grad) - 1 :]
        return [(grad * g).to(g.dtype) for g in saved]
    grads = ctx.grads
    if grads is None:
        ctx.saved_tensors  # noqa: B018 - freed with them: this raises what autograd says of a second backward pass
    keep = torch._C._autograd._get_current_graph_task_keep_graph()
    if grad.is_cuda:  # never a sync: a second rounding of a bfloat16 is less than that costs
        if keep:
            return [g * grad for g in grads]
        ctx.grads = None
        _KERNELS[ctx.settings[0]]["rescale_"](grads, grad)
        return grads
    scale = grad.item()
    if scale != 1:
        power_of_two = math.frexp(scale)[0] in (0.0, 0.5)
        if not power_of_two and any(g.dtype == torch.bfloat16 for g in grads):
            return None
    if keep:
        return [g * scale for g in grads]
    ctx.grads = None
    return grads if scale == 1 else [g.mul_(scale) for g in grads]


def _reference_gradients(ctx, grad, x, rec_weight, beta, tensors):
    """All gradients through the plain-torch formulas: for x, rec_weight and beta, and for a gradient of a gradient."""
    create_graph, needed = torch.is_grad_enabled(), ctx.needs_input_grad[1:]
    _, likelihood, n, rec_weight_factor, beta_factor, reduction, *_ = ctx.settings
    inputs = [x, rec_weight, beta, *tensors]
    if not create_graph:
        pairs = zip(inputs, needed, strict=True)
        inputs = [t if t is None else t.detach().requires_grad_(wanted) for t, wanted in pairs]
    x, rec_weight, beta, *tensors = inputs
    with torch.enable_grad():
        loss, *_ = reference.elbo(
            x,
            tensors[:n],
            likelihood,
            tensors[n:],
            rec_weight=rec_weight_factor if rec_weight is None else rec_weight,
            beta=beta_factor if beta is None else beta,
            reduction=next(name for name, code in REDUCTIONS.items() if code == reduction),
        )
    wanted = [t for t, n in zip(inputs, needed, strict=True) if n]
    grads = iter(torch.autograd.grad(loss, wanted, grad, create_graph=create_graph, allow_unused=True))
    return [next(grads) if n else None for n in needed]


def sample_kl(mu, logvar, prior, rng, n_samples, with_kl, kernels="compiled"):
    """The arguments and results of formulas.elbo.sample_kl, with the ops."""
    compiling = torch.compiler.is_compiling()
    if compiling and kernels == "triton":
        kernels = "triton ops"
    z, *kl = (_Sample.apply if compiling else _apply_sample)(kernels, rng, n_samples or 0, with_kl, mu, logvar, *prior)
    return z, kl[0] if with_kl else None


class _Sample(torch.autograd.Function):
    """The noise is not stored: the backward pass draws it again."""

    @staticmethod
    def forward(ctx, kernels, rng, n_samples, with_kl, mu, logvar, *prior):
        ctx.kernels, ctx.n_samples = kernels, n_samples
        ctx.save_for_backward(rng, mu, logvar, *prior)
        ctx.set_materialize_grads(False)
        mu, logvar = reference.halves(mu, logvar)
        return tuple(_KERNELS[kernels]["sample"](mu, logvar, prior, rng, n_samples, with_kl))

    @staticmethod
    def backward(ctx, grad_z, grad_kl=None):
        rng, mu, logvar, *prior = ctx.saved_tensors
        needed = ctx.needs_input_grad[4:]
        if grad_z is None and grad_kl is None:
            return (None,) * (4 + len(needed))
        if torch.is_grad_enabled():
            z, kl = reference.sample_kl(mu, logvar, prior, rng, ctx.n_samples or None, grad_kl is not None)
            outputs, incoming = zip(*[(o, g) for o, g in ((z, grad_z), (kl, grad_kl)) if g is not None], strict=True)
            wanted = [t for t, n in zip((mu, logvar, *prior), needed, strict=True) if n]
            grads = torch.autograd.grad(outputs, wanted, incoming, create_graph=True, allow_unused=True)
        else:
            need = sum([1 << i for i, n in enumerate(needed) if n])
            packed = logvar is None and needed[0]
            mu, logvar = reference.halves(mu, logvar)
            grad_z = None if grad_z is None else grad_z.contiguous()
            sample_backward = _KERNELS[ctx.kernels]["sample_backward"]
            grads = sample_backward(grad_z, grad_kl, mu, logvar, prior, rng, ctx.n_samples, need, packed)
        return None, None, None, None, *_in_place(grads, needed)


_apply_sample = super(torch.autograd.Function, _Sample).apply  # as _apply_elbo
