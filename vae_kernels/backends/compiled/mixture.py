"""The mixture's log density with autograd."""

import math

import torch

from ...formulas.mixture import mixture as reference
from .autograd import Function, apply, in_place, mask, mode_of
from .schemas import KERNELS


def mixture(z, loc, logvar, log_weight, *, ahead=True, kernels="compiled"):
    """The arguments and results of formulas.mixture.mixture, by the ops. All tensors are contiguous.

    `ahead` says that the forward pass may compute the gradients of log_p.sum() too. The scores are half of the work,
    and are then not computed twice. The backward pass multiplies these gradients if all samples have one incoming
    gradient (a mean, a sum). Else it computes the gradients anew. On a GPU the forward pass computes no gradients,
    because the question which case this is would have to wait for the device.
    """
    mode = mode_of(kernels)
    few = len(loc) <= _MOST_COMPONENTS and loc.numel() <= _MOST_NUMBERS
    on_cpu = z.is_cpu and kernels == "compiled"
    ahead = ahead and few and on_cpu and not mode.compiling and torch.is_grad_enabled()
    return apply(_Mixture, mode, ahead, z, loc, logvar, log_weight)


# One tile of components: csrc/cpu/mixture.h
_MOST_COMPONENTS, _MOST_NUMBERS = 512, 1 << 15


class _Mixture(Function):
    @staticmethod
    def forward(ctx, *arguments):
        mode, ahead, *inputs = arguments
        need = mask(ctx.needs_input_grad[2:])
        log_p, peak, log_sum, *grads = KERNELS[mode.kernels]["mixture"](*inputs, need if ahead else 0)
        ctx.mode, ctx.need, ctx.ahead = mode, need, bool(grads)
        ctx.save_for_backward(*inputs, peak, log_sum, *grads)
        return log_p

    @staticmethod
    def backward(ctx, grad):
        z, loc, logvar, log_weight, peak, log_sum, *ahead = ctx.saved_tensors
        inputs, needed = (z, loc, logvar, log_weight), ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # a gradient of this gradient may be wanted
            wanted = [t for t, n in zip(inputs, needed, strict=True) if n]
            grads = torch.autograd.grad(reference(*inputs), wanted, grad, create_graph=True)
        elif ctx.ahead and not math.isnan(torch.ops.vae_kernels.one_number.default(grad)):
            grads = [g * grad[0] for g in ahead] if len(grad) else ahead
        else:
            mixture_backward = KERNELS[ctx.mode.kernels]["mixture_backward"]
            grads = mixture_backward(grad, *inputs, peak, log_sum, ctx.need)
        return None, None, *in_place(grads, needed)
