"""The parts of the KL of a data set with autograd."""

import math

import torch

from ...formulas import gaussian
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
    return by_mixtures(z, mu, logvar, log_own, log_other, kernels)


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


def by_mixtures(z, mu, logvar, log_own, log_other, kernels):
    """The same, by one mixture for all dimensions together and one mixture for each dimension.

    A component of a mixture has one weight for all samples. So the weight of each sample's own posterior is corrected
    after the sum. The correction is a difference of two sums, and is computed in float64.
    """
    dtype = z.dtype
    z, mu, logvar = (t.double() for t in (z, mu, logvar))
    own, equal = -gaussian.nll(z, mu, logvar), z.new_zeros(len(z))

    def log_q(own, *tensors):
        log_sum = mixture(*(t.contiguous() for t in tensors), equal, ahead=False, kernels=kernels)
        return log_other + log_sum + torch.log1p(math.expm1(log_own - log_other) * torch.exp(own - log_sum))

    joint = log_q(own.sum(1), z, mu, logvar)
    columns = zip(own.unbind(1), *(t.split(1, 1) for t in (z, mu, logvar)), strict=True)
    each = torch.stack([log_q(*column) for column in columns], 1)
    return tuple(t.to(dtype) for t in (own.sum(1) - joint, joint - each.sum(1), each))
