"""The mixture's log density with autograd."""

import torch

from ..formulas.mixture import mixture as reference
from .schemas import in_place

_OPS = torch.ops.vae_kernels


def mixture(z, loc, logvar, log_weight, *, ahead=True):
    """The arguments and results of formulas.mixture.mixture, with the ops; all contiguous.

    `ahead` says that the gradients may be computed while log p is, as if its sum were differentiated: the scores, half
    of the work, are not computed twice. In the backward pass they are multiplied, if all samples have one incoming
    gradient (a mean, a sum), and computed anew if not.
    """
    compiling = torch.compiler.is_compiling()
    few = len(loc) <= _MOST_COMPONENTS and loc.numel() <= _MOST_NUMBERS
    ahead = ahead and few and not compiling and torch.is_grad_enabled()
    return (_Mixture.apply if compiling else _apply_mixture)(ahead, z, loc, logvar, log_weight)


# One tile of components: csrc/cpu/mixture.h
_MOST_COMPONENTS, _MOST_NUMBERS = 512, 1 << 15


class _Mixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx, ahead, *inputs):
        need = sum([1 << i for i, wanted in enumerate(ctx.needs_input_grad[1:]) if wanted])
        log_p, peak, log_sum, *grads = _OPS.mixture.default(*inputs, need if ahead else 0)
        ctx.need, ctx.ahead = need, bool(grads)
        ctx.save_for_backward(*inputs, peak, log_sum, *grads)
        return log_p

    @staticmethod
    def backward(ctx, grad):
        z, loc, logvar, log_weight, peak, log_sum, *ahead = ctx.saved_tensors
        inputs, needed = (z, loc, logvar, log_weight), ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # a gradient of this gradient may be wanted
            wanted = [t for t, n in zip(inputs, needed, strict=True) if n]
            grads = torch.autograd.grad(reference(*inputs), wanted, grad, create_graph=True)
        elif ctx.ahead and _is_one_number(grad):
            grads = [g * grad[0] for g in ahead] if len(grad) else ahead
        else:
            grads = _OPS.mixture_backward.default(grad, *inputs, peak, log_sum, ctx.need)
        return None, *in_place(grads, needed)


def _is_one_number(grad):
    return grad.stride() == (0,) or torch.equal(grad, grad[:1].expand_as(grad))


_apply_mixture = super(torch.autograd.Function, _Mixture).apply  # as _apply_elbo
