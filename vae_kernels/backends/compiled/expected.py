"""The incoming gradient of a loss per sample: what the forward pass expects, and what came.

`(nll(recon, x) + kl).mean()` is how most people write the loss. mean() sends 1/B back to each sample, and sum() sends
1. So the forward pass computes the gradients for such a number, in the same pass as the values. The backward pass
compares. If another number came, or other numbers for some samples, the backward pass computes the gradients. The
expectation changes no bit of a result, only when the work is done.

The expectation is 1/B at first. On the CPU it is then what came last for a batch of this size: a number, or None where
the samples had different numbers. With None no gradient is computed ahead. On a GPU it is always 1/B: to read what came
would wait for the device. There the kernel of the backward pass compares, and corrects the gradients where another
number came.
"""

import math
import struct

import torch

from .autograd import gradients_of
from .schemas import KERNELS, flat

_one_number = torch.ops.vae_kernels.one_number.default
_MOST = 1024  # sizes of batches that are remembered
_last: dict[tuple[str, int, bool], float | None] = {}


def of(settings, params, mode, row):
    """The expected incoming gradient of each sample, or None: compute no gradient ahead. row: is_row() of the request,
    whose gradients no GPU corrects in place."""
    if mode.compiling or not settings.ahead or not params:  # without a likelihood there is little to compute
        return None
    first = params[0]
    rows = first.shape[0]  # len() of a tensor is a function in Python
    if rows == 0:
        return None
    if mode.kernels == "triton" or first.is_cuda:
        sums = row or settings.floor or any(p.requires_grad and p.shape != first.shape for p in params)
        return None if sums else _mean(rows, first.dtype == torch.float64)
    key = settings.likelihood, rows, first.dtype == torch.float64
    if key in _last:
        return _last.get(key)  # None if another thread has cleared the memory since
    if len(_last) >= _MOST:
        _last.clear()
    _last[key] = mean = _mean(*key[1:])
    return mean


def _mean(rows, float64):
    """What mean() sends back to each sample, in the dtype of the loss."""
    return 1 / rows if float64 else struct.unpack("f", struct.pack("f", 1 / rows))[0]


def ahead(ctx, grad, correct=None):
    """The gradients that forward() computed, or None if they are not those of this incoming gradient. On a GPU
    correct(ctx, grads, grad) corrects them in place; None: by correct_."""
    possible = not ctx.mode.compiling and ctx.settings.ahead and ctx.settings.likelihood
    if not possible or type(grad) is not torch.Tensor:  # another type: a fake tensor, which has no value to compare
        return None
    if ctx.mode.kernels == "triton" or grad.is_cuda:
        return None if ctx.incoming is None else _corrected(ctx, grad, correct)
    came = _one_number(grad)
    if came == ctx.incoming:
        grads, keep = gradients_of(ctx)
        if keep:
            return [g.clone() for g in grads]
        ctx.grads = None
        return grads
    _last[ctx.settings.likelihood, grad.shape[0], grad.dtype == torch.float64] = None if math.isnan(came) else came
    return None


def _corrected(ctx, grad, correct=None):
    """The gradients of forward(), with the rows computed anew where another number came than was expected."""
    grads, keep = gradients_of(ctx)
    if keep:
        grads = [g.clone() for g in grads]
    else:
        ctx.grads = None
    (correct or _correct)(ctx, grads, grad)
    return grads


def _correct(ctx, grads, grad):
    tensors = flat(ctx.settings, ctx.saved_tensors)
    KERNELS[ctx.mode.kernels]["correct_"](grads, grad, ctx.incoming, *tensors, ctx.need)
