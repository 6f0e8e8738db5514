"""The mixture's log density with autograd: the responsibilities are computed again in the backward pass."""

import torch

from ..formulas.mixture import mixture as reference
from .schemas import in_place

_OPS = torch.ops.vae_kernels


def mixture(z, loc, logvar, log_weight):
    """The arguments and results of formulas.mixture.mixture, with the ops; all contiguous."""
    apply = _Mixture.apply if torch.compiler.is_compiling() else _apply_mixture
    return apply(z, loc, logvar, log_weight)


class _Mixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *inputs):
        log_p, peak, log_sum = _OPS.mixture.default(*inputs)
        ctx.save_for_backward(*inputs, peak, log_sum)
        return log_p

    @staticmethod
    def backward(ctx, grad):
        *inputs, peak, log_sum = ctx.saved_tensors
        needed = ctx.needs_input_grad
        if torch.is_grad_enabled():  # a gradient of this gradient may be wanted
            wanted = [t for t, n in zip(inputs, needed, strict=True) if n]
            grads = torch.autograd.grad(reference(*inputs), wanted, grad, create_graph=True)
        else:
            need = sum([1 << i for i, n in enumerate(needed) if n])
            grads = _OPS.mixture_backward.default(grad, *inputs, peak, log_sum, need)
        return in_place(grads, needed)


_apply_mixture = super(torch.autograd.Function, _Mixture).apply  # as _apply_elbo
