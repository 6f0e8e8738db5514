"""The objective with autograd: the gradients are computed while the loss is."""

import math

import torch

from ..formulas import elbo as reference
from ..terms import PackedTerms
from .schemas import KERNELS, REDUCTIONS, in_place


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
        return out
    return PackedTerms(*out, (len(params) > 0, len(latent) > 0, latent[0].shape if latent else x.shape[:1]))


# Storage types whose gradients are never computed ahead, in eager mode and while compiling. In eager mode a bfloat16
# gradient is, because an incoming gradient of 1, or of another power of two, does not round it again.
_NEVER_AHEAD = {False: (torch.float16,), True: (torch.float16, torch.bfloat16)}


class _Elbo(torch.autograd.Function):
    """With a scalar loss the gradients are computed while the loss is, for an incoming gradient of 1, and rescaled
    in the backward pass if it is another. Else they are computed in the backward pass: with a loss per sample; with
    float16 storage, where an unscaled gradient underflows; with bfloat16 storage, where rescaling would round twice."""

    @staticmethod
    def forward(ctx, *arguments):
        # Not by name: without a gradient to compute, dynamo leaves ctx out where a signature has one name fewer than
        # there are arguments (torch 2.13, AutogradFunctionVariable.call_apply).
        settings, x, rec_weight, beta, *tensors = arguments
        kernels, likelihood, n, rec_weight_factor, beta_factor, reduction, terms, ahead, compiling = settings
        _, of_x, of_rec_weight, of_beta, *wanted = ctx.needs_input_grad
        need = 0
        for of_input in reversed(wanted):
            need += need + of_input
        if of_x or of_rec_weight or of_beta:  # those gradients come through the reference, and so may the others
            ahead = False
        params, latent = tensors[:n], tensors[n:]
        objective = (x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction)
        out = KERNELS[kernels]["elbo"](*objective, need if ahead else 0, terms)
        # Saved tensors are not given up before the graph is; attributes can be, so that in eager mode the gradient that
        # leaves the backward pass has one owner, who need not copy it.
        grads = out[1 + terms :]
        ctx.settings, ctx.need, ctx.ahead, ctx.compiling = settings, need, bool(grads), compiling
        if compiling:
            ctx.save_for_backward(x, rec_weight, beta, *tensors, *grads)
        else:
            ctx.save_for_backward(x, rec_weight, beta, *tensors)
            ctx.grads = grads
        if not terms:
            return out[0]
        ctx.mark_non_differentiable(out[1])
        if not compiling:
            ctx.set_materialize_grads(False)  # else zeros are made for them in the backward pass
        return out[0], out[1]

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
            elbo_backward = KERNELS[kernels]["elbo_backward"]
            grads = elbo_backward(grad, *objective, rec_weight_factor, beta_factor, reduction, ctx.need)
        return in_place(grads, needed)


# In eager mode without the part of apply that serves torch.func, where these functions are never used: a quarter of it.
_apply_elbo = super(torch.autograd.Function, _Elbo).apply


def _rescaled(ctx, grad):
    """The gradients that forward() computed, times the incoming one; None if that would round a bfloat16 twice."""
    if ctx.compiling:
        saved = ctx.saved_tensors[len(ctx.needs_input_grad) - 1 :]
        return [(grad * g).to(g.dtype) for g in saved]
    grads = ctx.grads
    if grads is None:
        ctx.saved_tensors  # noqa: B018 - freed with them: this raises what autograd says of a second backward pass
    keep = torch._C._autograd._get_current_graph_task_keep_graph()
    if type(grad) is not torch.Tensor:  # one of torch's fake tensors, which have no value to read
        return [g * grad for g in grads]
    if grad.is_cuda:  # never a sync: a second rounding of a bfloat16 is less than that costs
        if keep:
            return [g * grad for g in grads]
        ctx.grads = None
        KERNELS[ctx.settings[0]]["rescale_"](grads, grad)
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
        loss = reference.elbo(
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
