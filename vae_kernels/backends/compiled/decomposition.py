"""The parts of the KL of a data set with autograd."""

import functools

import torch

from ...formulas.decomposition import by_mixtures
from ...formulas.decomposition import decomposition as reference
from .autograd import Function, apply, by_reference, mode_of
from .mixture import mixture
from .schemas import KERNELS


def decomposition(z, mu, logvar, log_own, log_other, kernels="compiled"):
    """The arguments and results of formulas.decomposition.decomposition. All tensors are contiguous.

    The CPU has an op for the whole. A GPU has only the kernels of the mixture.
    """
    if kernels == "compiled" and z.is_cpu:
        return apply(_Decomposition, mode_of(kernels), log_own, log_other, z, mu, logvar)
    log_density = functools.partial(mixture, ahead=False, kernels=kernels)
    return by_mixtures(z, mu, logvar, log_own, log_other, log_density)


class _Decomposition(Function):
    @staticmethod
    def forward(ctx, *arguments):
        mode, log_own, log_other, *inputs = arguments
        *parts, kept = KERNELS[mode.kernels]["decomposition"](*inputs, log_own, log_other)
        ctx.mode, ctx.weights = mode, (log_own, log_other)
        ctx.save_for_backward(*inputs, kept)
        return tuple(parts)

    @staticmethod
    def backward(ctx, *incoming):
        *inputs, kept = ctx.saved_tensors
        needed = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():  # a gradient of this gradient may be wanted
            parts = lambda tensors: reference(*tensors, *ctx.weights)  # noqa: E731
            return None, None, None, *by_reference(parts, inputs, needed, incoming)
        information, correlation, each = incoming
        decomposition_backward = KERNELS[ctx.mode.kernels]["decomposition_backward"]
        grads = decomposition_backward(information, correlation, each.contiguous(), *inputs, *ctx.weights, kept)
        return None, None, None, *(g if n else None for g, n in zip(grads, needed, strict=True))
