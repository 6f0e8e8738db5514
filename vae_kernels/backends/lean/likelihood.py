"""The likelihood of a batch, and its gradients in the same pass.

The tensors of a request are matrices [B, N] in their order in memory, or broadcast to [B, N] (core/layout.py). On a CPU
the matrices are cut into blocks, so that what an operation leaves is in a cache when the next operation reads it. On
another device all elements are one block.

The gradient of a sample's nll is multiplied by the sample's incoming gradient in the backward pass. A parameter that is
one number for all elements of a sample, or of the batch, keeps only its sum over the elements of each sample.
"""

import functools
from typing import Any, NamedTuple

import torch

from ...core import draws, layout
from ...formulas import ELEMENT
from .. import reference
from ..compiled.autograd import Function, as_weight, by_reference, gradients_of

_BLOCK = 1 << 16  # elements of a block, for each thread of the CPU


class Term(NamedTuple):
    """A likelihood: its name and its options; whether each term is wanted, and not the sum over a sample; and whether
    a backward pass may follow."""

    likelihood: str
    options: tuple
    each: bool
    gradients: bool


def nll(x, params, likelihood, weight, dtype, log_total=None, options=()):
    """-log p of each sample of params, [B], from the weighted terms: the arguments are those of reference.nll."""
    x, weight = draws.repeated(x, weight, params[0].shape[0])
    if log_total is not None or not _is_lean(likelihood, x, weight):
        return reference.nll(x, params, likelihood, weight, dtype, log_total, options)
    return _Nll.apply_eager(Term(likelihood, options, False, torch.is_grad_enabled()), x, weight, *params)


def terms(likelihood, x, params, options):
    """-log p of each element, or None where this function does not compute the likelihood."""
    if not _is_lean(likelihood, x, None):
        return None
    return _Nll.apply_eager(Term(likelihood, options, True, torch.is_grad_enabled()), x, None, *params)


def _is_lean(likelihood, x, weight):
    """Whether the passes below compute the terms. They compute no gradient of x and of the weight."""
    return likelihood in ELEMENT and not (x.requires_grad or (weight is not None and weight.requires_grad))


class _Nll(Function):
    @staticmethod
    def forward(ctx, *arguments):
        term, x, weight, *params = arguments
        ctx.term = term
        ctx.save_for_backward(x, weight, *params)
        wanted = ctx.needs_input_grad[3:] if term.gradients else (False,) * len(params)
        out, ctx.grads = _computed(term, x, weight, params, wanted)
        return out

    @staticmethod
    def backward(ctx, grad):
        if torch.is_grad_enabled():  # a second derivative may be wanted
            of_tensors = functools.partial(_reference, ctx.term)
            return None, *by_reference(of_tensors, ctx.saved_tensors, ctx.needs_input_grad[1:], (grad,))
        kept, keep = gradients_of(ctx)
        if not keep:
            ctx.grads = None
        first, *others = ctx.saved_tensors[2:]
        incoming = _matrix(as_weight(grad, first), first) if ctx.term.each else grad[:, None]
        made = [None if g is None else g * incoming if keep else g.mul_(incoming) for g in kept]
        if ctx.term.each:  # 0 times a NaN is a NaN, and where nothing comes in, the gradient is 0
            made = [None if g is None else g.masked_fill_(incoming == 0, 0) for g in made]
        pairs = zip((first, *others), made, strict=True)
        return None, None, None, *(None if g is None else _of(p, first, g) for p, g in pairs)


def _reference(term, tensors):
    x, weight, *params = tensors
    if term.each:
        return (-reference.log_prob(term.likelihood, x, tuple(params), term.options),)
    dtype = reference.compute_dtype(*params)
    return (reference.nll(x, params, term.likelihood, weight, dtype, options=term.options),)


def _computed(term, x, weight, params, wanted):
    """-log p of each sample [B], or of each term. And for each parameter None, or its derivatives: of each element
    [B, N], or the sum over the elements of a sample [B, 1], where the parameter is one number for these elements."""
    like, dtype = params[0], reference.compute_dtype(*params)
    rows, cols = like.shape[0], like.shape[1:].numel()
    function = _function(term, dtype, like.is_cpu)
    matrices = [None if t is None else _matrix(t, like) for t in (x, weight, *params)]
    whole = [term.each or p.shape == like.shape or 0 < p.dim() < like.dim() for p in params]
    blocks = _blocks(rows, cols, like.is_cpu)
    if len(blocks) == 1:
        out, grads = _block(function, term.each, dtype, *matrices, wanted=wanted, whole=whole)
    else:
        zeros, empty = (functools.partial(f, dtype=dtype) for f in (like.new_zeros, like.new_empty))
        out = empty((rows, cols)) if term.each else zeros((rows, 1))
        of_each = [empty((rows, cols)) if w else zeros((rows, 1)) for w in whole]
        grads = [g if n else None for g, n in zip(of_each, wanted, strict=True)]
        for block in blocks:
            parts = [None if t is None else _part(t, block) for t in matrices]
            values, of_params = _block(function, term.each, dtype, *parts, wanted=wanted, whole=whole)
            for total, part in zip((out, *grads), (values, *of_params), strict=True):
                if part is not None:
                    place = _part(total, block)
                    place.copy_(part) if total.shape[1] == cols else place.add_(part)
    return _in_order_of(like, out) if term.each else out.view(rows), grads


def _block(function, each, dtype, x, weight, *params, wanted, whole):
    """What _computed() gives, for a part of the matrices: the values are a matrix too, [B, N] or [B, 1]."""
    levels = x.dtype == torch.uint8 and function.levels
    x = x.to(dtype) / 255 if levels else x.to(dtype)
    value, factor, constant, grads = function.nll(x, *(p.to(dtype) for p in params), wanted=wanted)
    if each or weight is not None:
        value = value.mul_(factor).add_(constant)
        factor, constant = 1.0, 0.0
    if weight is not None:
        missing, weight = weight == 0, None if weight.dtype == torch.bool else weight.to(dtype)
        for t in (value, *grads):
            if t is not None:
                (t if weight is None else t.mul_(weight)).masked_fill_(missing, 0)
    grads = [g if g is None or w else g.sum(1, keepdim=True) for g, w in zip(grads, whole, strict=True)]
    if not each:
        value = value.sum(1, keepdim=True).mul_(factor).add_(constant * value.shape[1])
    return value, grads


class _Evaluated(NamedTuple):
    """nll(x, *params, wanted): (value, factor, constant, derivatives) as `lean_nll` of a formula gives them. levels:
    whether uint8 is read as x / 255."""

    nll: Any
    levels: bool


def _function(term, dtype, on_cpu):
    formula: Any = ELEMENT[term.likelihood]
    counts = formula.SUPPORT == "counts"
    lean = getattr(formula, "lean_nll", None)
    if counts and (dtype == torch.float64 or not on_cpu):  # formulas/counts.py: lean_nll computes counts in float64
        lean = None
    if lean is None:
        lean = functools.partial(_by_autograd, formula, term.options)
    elif term.options:
        lean = functools.partial(lean, options=term.options)
    return _Evaluated(lean, not counts)


def _by_autograd(formula, options, x, *params, wanted):
    """What `lean_nll` of a formula gives, from its `nll`."""
    leaves = [p.detach().expand(x.shape).requires_grad_(w) for p, w in zip(params, wanted, strict=True)]
    defaults = [x.new_full((), formula.DEFAULTS[name]) for name in formula.PARAMETERS[len(params) :]]
    with torch.enable_grad():
        value = formula.nll(x, *leaves, *defaults, *options)
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    found = iter(torch.autograd.grad(value, asked, torch.ones_like(value)) if asked else ())
    return value.detach(), 1.0, 0.0, [next(found).clone() if w else None for w in wanted]


def _blocks(rows, cols, on_cpu):
    """The parts of a matrix [rows, cols]: pairs of slices."""
    limit = _BLOCK * torch.get_num_threads()
    if not on_cpu or rows * cols <= 2 * limit:
        return [(slice(None), slice(None))]
    width = cols if cols <= 2 * limit else limit
    height = max(1, limit // width)
    return [(slice(r, r + height), slice(c, c + width)) for r in range(0, rows, height) for c in range(0, cols, width)]


def _part(t, block):
    """The part of a matrix that broadcasts to [B, N]."""
    rows, cols = (part if n > 1 else slice(None) for part, n in zip(block, t.shape, strict=True))
    return t[rows, cols]


def _matrix(t, like):
    """A tensor in one of the Layouts against `like` [B, ...] as a matrix that broadcasts to [B, N]."""
    if t.dim() == 0:
        return t.view(1, 1)
    if t.dim() < like.dim():
        return _flat(t[None])
    return _flat(t) if t.shape == like.shape else t.reshape(-1, 1)


def _flat(t):
    """t [B, ...] as [B, N]. A sample fills one run of memory."""
    shape = t.shape[0], t.shape[1:].numel()
    return t.view(shape) if t.is_contiguous() else t.as_strided(shape, (t.stride(0), 1))


def _in_order_of(t, matrix):
    """A matrix [B, N] as a tensor of the shape of t, in the order of t."""
    if t.is_contiguous():
        return matrix.view(t.shape)
    return matrix.as_strided(t.shape, (matrix.shape[1], *t.stride()[1:]))


def _of(p, like, grad):
    """The gradient of the parameter p, from its parts [B, N] or [B, 1]."""
    if p.shape == like.shape:
        return _in_order_of(p, grad).to(p.dtype)
    if p.dim() == 0:
        return grad.sum().to(p.dtype)
    if p.dim() == like.dim():
        return grad.sum(1).view(p.shape).to(p.dtype)
    return _in_order_of(p[None], grad.sum(0, keepdim=True))[0].to(p.dtype)
