"""The likelihood of a batch, and its gradients in the same pass.

The tensors of a request are matrices [B, N] in their order in memory, or broadcast to [B, N] (core/layout.py). On a CPU
the matrices are cut into blocks, so that what an operation leaves is in a cache when the next operation reads it. On
another device all elements are one block.

The gradient of a sample's nll is multiplied by the sample's incoming gradient in the backward pass. A parameter that is
one number for all elements of a sample, or of the batch, keeps only its sum over the elements of each sample.
"""

import functools
import itertools
import threading
from typing import Any, NamedTuple

import torch

from ...core import draws
from ...formulas import ELEMENT
from .. import reference
from ..compiled.autograd import Function, as_weight, by_reference, gradients_of
from .matrices import in_order_of, matrix, multiplied, of_parameters

_BLOCK = 1 << 17  # elements of a block for each of a few threads
_OF_THREAD = 1 << 15  # elements of a block for each of many threads: PyTorch gives no thread less
_KEPT = 1 << 20  # elements of the largest tensor whose memory a thread keeps
_SHAPES = 8  # shapes whose tensors a thread keeps
_WIDE = torch.float32, torch.float64  # the dtypes of computations
OF_SAMPLE, OF_BATCH = (1,), (0, 1)  # the dimensions of a matrix over which the terms are summed


class Term(NamedTuple):
    """A likelihood: its name and its options; the dimensions over which the terms are summed, OF_SAMPLE or OF_BATCH, or
    None where each term is wanted; and whether a backward pass may follow."""

    likelihood: str
    options: tuple
    over: tuple | None
    gradients: bool


def nll(x, params, likelihood, weight, dtype, log_total=None, options=()):
    """-log p of each sample of params, [B], from the weighted terms: the arguments are those of reference.nll."""
    if x.shape[0] != params[0].shape[0]:
        x, weight = draws.repeated(x, weight, params[0].shape[0])
    if log_total is not None or not is_lean(likelihood, x, weight):
        return reference.nll(x, params, likelihood, weight, dtype, log_total, options)
    return _Nll.apply_eager(Term(likelihood, options, OF_SAMPLE, torch.is_grad_enabled()), x, weight, *params)


def terms(likelihood, x, params, options):
    """-log p of each element, or None where this function does not compute the likelihood."""
    if not is_lean(likelihood, x, None):
        return None
    return _Nll.apply_eager(Term(likelihood, options, None, torch.is_grad_enabled()), x, None, *params)


def is_lean(likelihood, x, weight):
    """Whether the passes below compute the terms. They compute no gradient of x and of the weight."""
    return likelihood in ELEMENT and not (x.requires_grad or (weight is not None and weight.requires_grad))


class _Nll(Function):
    @staticmethod
    def forward(ctx, *arguments):
        term, x, weight, *params = arguments
        ctx.term = term
        ctx.save_for_backward(x, weight, *params)
        wanted = ctx.needs_input_grad[3:] if term.gradients else (False,) * len(params)
        out, ctx.grads = computed(term, x, weight, params, wanted)
        return out

    @staticmethod
    def backward(ctx, grad):
        if torch.is_grad_enabled():  # a second derivative may be wanted
            of_tensors = functools.partial(_reference, ctx.term)
            return None, *by_reference(of_tensors, ctx.saved_tensors, ctx.needs_input_grad[1:], (grad,))
        kept, keep = gradients_of(ctx)
        if not keep:
            ctx.grads = None
        params = ctx.saved_tensors[2:]
        each, first = ctx.term.over is None, params[0]
        incoming = matrix(as_weight(grad, first), first) if each else grad[:, None]
        made = multiplied(kept, incoming, keep)
        if each:  # 0 times a NaN is a NaN, and where nothing comes in, the gradient is 0
            made = [None if g is None else g.masked_fill_(incoming == 0, 0) for g in made]
        return None, None, None, *of_parameters(params, made)


def _reference(term, tensors):
    x, weight, *params = tensors
    if term.over is None:
        return (-reference.log_prob(term.likelihood, x, tuple(params), term.options),)
    dtype = reference.compute_dtype(*params)
    return (reference.nll(x, params, term.likelihood, weight, dtype, options=term.options),)


def sum_at_once(likelihood, x, params):
    """-log p of the batch, 0-d, from `lean_sum`; or None: for large tensors on a CPU, blocks are faster."""
    function, fits = getattr(ELEMENT[likelihood], "lean_sum", None), not x.is_cpu or x.numel() <= _BLOCK
    usual = fits and x.dtype in _WIDE and all(_is_like(x, t) for t in (x, *params))
    return function(x, *params) if function is not None and usual else None


def _is_like(like, t):
    return t.dtype is like.dtype and t.shape == like.shape and t.is_contiguous()


def at_once(term, x, weight, params, wanted):
    """What computed() gives for the batch, in the usual case, or None: full tensors of one dtype, one block, and no
    weight. For small tensors the calls of Python take most of the time, and this function has few."""
    like = params[0]
    dtype, shape = like.dtype, like.shape
    if weight is not None or dtype not in _WIDE or (like.is_cpu and like.numel() > _BLOCK):
        return None
    if not all(_is_like(like, t) for t in (x, *params)):
        return None
    x, *params = (x, *params) if len(shape) == 2 else [matrix(t, like) for t in (x, *params)]
    into = [torch.empty_like(x) if w else None for w in wanted]
    function = _function(term.likelihood, term.options, dtype, like.is_cpu)
    value, factor, constant = function.nll(x, *params, into=into, new=_scratch(dtype, like.device).of(x.shape))
    total = value.sum()
    if factor != 1:
        total.mul_(factor)
    return total.add_(constant * value.numel()) if constant else total, into


def computed(term, x, weight, params, wanted):
    """-log p of each sample [B], of the batch, 0-d, or of each term. And for each parameter None, or its derivatives:
    of each element [B, N], or the sum over the elements of a sample [B, 1], where the parameter is one number for these
    elements."""
    like, dtype, each = params[0], reference.compute_dtype(*params), term.over is None
    shape = rows, cols = like.shape[0], like.shape[1:].numel()
    pass_ = _Pass(_function(term.likelihood, term.options, dtype, like.is_cpu), term.over, _scratch(dtype, like.device))
    given = [None if t is None else matrix(t, like) for t in (x, weight, *params)]
    into: list[Any] = [None] * len(params)
    for i, p in enumerate(params):
        if wanted[i]:
            of_each = each or p is like or p.shape == like.shape or 0 < p.dim() < like.dim()
            into[i] = torch.empty(shape, dtype=dtype, device=like.device) if of_each else _SUM
    n = rows * cols
    if not like.is_cpu or n <= _BLOCK or n <= _limit():  # one part has all elements
        out, factor, constant, sums = pass_.compute(given, into)
        grads = [sums.pop(0) if t is _SUM else t for t in into] if sums else into
    else:
        out, factor, constant, grads = _in_parts(pass_, given, into, shape)
    if factor != 1:
        out = out.mul_(factor)
    if constant:
        out = out.add_(constant * (n / max(1, out.numel())))
    return in_order_of(like, out) if each else out.view((rows,) if term.over == OF_SAMPLE else ()), grads


def _in_parts(pass_, given, into, shape):
    """What `compute` gives, from parts of the matrices: the values, factor, constant, and all derivatives."""
    rows, cols = shape
    limit = _limit()
    zeros = functools.partial(torch.zeros, dtype=pass_.scratch.dtype)
    write = torch.Tensor.copy_ if pass_.over is None else torch.Tensor.add_
    out = zeros({None: shape, OF_SAMPLE: (rows, 1), OF_BATCH: (1, 1)}[pass_.over])
    grads = [zeros((rows, 1)) if t is _SUM else t for t in into]
    of_sums = [g for g, t in zip(grads, into, strict=True) if t is _SUM]
    n, m = len(given), len(given) + len(into)
    factor, constant = 1.0, 0.0
    matrices = (*given, *(None if t is _SUM else t for t in into), out, *of_sums)
    for parts in _parts(matrices, rows, cols, limit):
        marked = [_SUM if t is _SUM else part for t, part in zip(into, parts[n:m], strict=True)]
        found, factor, constant, sums = pass_.compute(parts[:n], marked)
        for total, more in zip(parts[m:], (found, *sums), strict=True):
            write(total, more)
    return out, factor, constant, grads


def _limit():
    """The most elements of a block, for all threads together."""
    return max(min(_BLOCK * (n := torch.get_num_threads()), _KEPT), _OF_THREAD * n)


_SUM: Any = "sum"  # in place of a tensor for the derivatives of each element: their sum over a sample is wanted


class _Pass(NamedTuple):
    """What all parts of the matrices share."""

    function: Any
    over: tuple | None
    scratch: Any

    def compute(self, given, into):
        """(the values [B, N], or their sums; factor; constant; the derivatives that are sums), of a part of the
        matrices: -log p is factor times the value, plus the constant. The other derivatives are written into `into`."""
        (x, weight, *params), dtype, over = given, self.scratch.dtype, self.over
        new = self.scratch.of(params[0].shape)
        if x.dtype != dtype:
            levels = x.dtype == torch.uint8 and self.function.levels
            x = new().copy_(x)
            if levels:
                x.div_(255)
        params = [p if p.dtype == dtype else p.to(dtype) for p in params]
        written = [new() if t is _SUM else t for t in into]
        value, factor, constant = self.function.nll(x, *params, into=written, new=new)
        if weight is not None or over is None:
            value = value.mul_(factor).add_(constant)
            factor, constant = 1.0, 0.0
        if weight is not None:
            missing, weight = weight == 0, None if weight.dtype == torch.bool else weight.to(dtype)
            for t in (value, *written):
                if t is not None:
                    (t if weight is None else t.mul_(weight)).masked_fill_(missing, 0)
        sums = [t.sum(1, keepdim=True) for t, how in zip(written, into, strict=True) if how is _SUM]
        return value.clone() if over is None else value.sum(over, keepdim=True), factor, constant, sums


class _Scratch:
    """Gives tensors without values. On a CPU they lie in memory that the thread keeps, because the memory of a new
    tensor of this size would come from the system each time, page by page."""

    def __init__(self, dtype, device):
        self.dtype, self.device = dtype, device
        self.buffers, self.views = [], {}

    def of(self, shape):
        """A function whose calls give tensors of this shape, each another one."""
        if self.device.type != "cpu" or shape.numel() > _KEPT or torch._C._len_torch_dispatch_stack():
            return functools.partial(torch.empty, shape, dtype=self.dtype, device=self.device)
        views = self.views.get(shape)
        if views is None:
            if len(self.views) >= _SHAPES:
                self.views.clear()
            views = self.views[shape] = []
        return itertools.chain(views, self._more(shape, views)).__next__

    def _more(self, shape, views):
        """Further views of this shape, each of one more buffer."""
        n = shape.numel()
        for i in range(len(views), 1 << 10):
            with torch.inference_mode(False):  # a tensor of inference mode cannot be written outside of it
                if i == len(self.buffers) or self.buffers[i].numel() < n:
                    self.buffers[i : i + 1] = [torch.empty(n, dtype=self.dtype)]
                    self.views = {shape: views}  # a view of another shape keeps the memory of a buffer that is gone
                views.append(self.buffers[i][:n].view(shape))
            yield views[i]


_of_thread = threading.local()


def _scratch(dtype, device):
    if device.type != "cpu":
        return _Scratch(dtype, device)
    kept = _of_thread.__dict__
    if dtype not in kept:
        kept[dtype] = _Scratch(dtype, device)
    return kept[dtype]


class _Evaluated(NamedTuple):
    """nll: a function like the `lean_nll` of a formula. levels: whether uint8 is read as x / 255."""

    nll: Any
    levels: bool


@functools.cache
def _function(likelihood, options, dtype, on_cpu):
    formula: Any = ELEMENT[likelihood]
    counts = formula.SUPPORT == "counts"
    lean = getattr(formula, "lean_nll", None)
    if counts and (dtype == torch.float64 or not on_cpu):  # formulas/counts.py: lean_nll computes counts in float64
        lean = None
    if lean is None:
        lean = functools.partial(_by_autograd, formula, options)
    elif options:
        lean = functools.partial(lean, options=options)
    return _Evaluated(lean, not counts)


def _by_autograd(formula, options, x, *params, into, new):
    """What `lean_nll` of a formula gives, from its `nll`."""
    wanted = [t is not None for t in into]
    leaves = [p.detach().expand(x.shape).requires_grad_(w) for p, w in zip(params, wanted, strict=True)]
    defaults = [x.new_full((), formula.DEFAULTS[name]) for name in formula.PARAMETERS[len(params) :]]
    with torch.enable_grad():
        value = formula.nll(x, *leaves, *defaults, *options)
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    grads = torch.autograd.grad(value, asked, torch.ones_like(value)) if asked else ()
    for t, grad in zip([t for t in into if t is not None], grads, strict=True):
        t.copy_(grad)
    return value.detach(), 1.0, 0.0


def _parts(matrices: Any, rows: int, cols: int, limit: int) -> Any:
    """The parts, of about `limit` elements, of matrices that broadcast to [rows, cols], or are None."""
    width = cols if cols <= _KEPT else limit
    height = max(1, limit // width)
    for r in range(0, rows, height):  # a matrix of one row belongs to all rows
        of_rows = [t if t is None or t.shape[0] == 1 else t[r : r + height] for t in matrices]
        for c in range(0, cols, width):
            yield [t if t is None or t.shape[1] == 1 else t[:, c : c + width] for t in of_rows]
