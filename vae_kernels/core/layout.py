"""Tensors into the layouts that the kernels read: as they are wherever that is possible, else one copy, differentiable.

A sample must fill one gapless run of memory, in any order of its dimensions (contiguous, channels_last, ...); samples
may lie apart (a slice of a wider tensor), or on each other (an expanded one).
"""

import math

import torch


def likelihood(x, params):
    """x and the parameters in the order of params[0]; a parameter that broadcasts becomes 0-d, or one row, or full."""
    like = params[0]
    if len(params) == 1 and like.is_contiguous() and x.is_contiguous():  # nearly always
        return x, params
    if like.dim() > x.dim():
        return _levels(x, like)
    if not _is_dense(like):
        like = like.contiguous()
    return _in_order(x, like, 1), (like, *(_parameter(p, like) for p in params[1:]))


def latent(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """mu, logvar and the prior with samples in row-major order, the prior expanded to mu; or the one KL."""
    mu = tensors[0]
    if len(tensors) == 2 and mu.is_contiguous() and tensors[1].is_contiguous():  # nearly always
        return tensors
    if len(tensors) == 1:  # a KL is no storage: the kernels read it as a weight
        return (mu.contiguous() if mu.dtype in (torch.float32, torch.float64) else mu.float().contiguous(),)
    return tuple(_row_major(_expanded(t, mu.shape)) for t in tensors)


def moments(t):
    """mu and logvar in one, [B, 2L, ...], in row-major order: then its halves are as latent() gives them."""
    return _row_major(t)


def halves(t):
    """mu and logvar out of such a tensor: views, of which no kernel needs a copy."""
    return _row_major(t).chunk(2, 1)


def elements(tensors):
    """What latent() gives, of mu [B, ...], as [N]: each element is then a sample of one dimension."""
    return tuple([t.reshape(-1) for t in tensors])


def weight(w, shape=()):
    """A weight tensor as float32 or float64, 0-d or of this shape; a number as it is."""
    if not isinstance(w, torch.Tensor):
        return w if type(w) is float else float(w)
    w = w if w.dtype in (torch.float32, torch.float64) else w.float()
    return w.reshape(()) if w.numel() == 1 else w.expand(shape).contiguous()


def empty_in_order(t):
    """What a kernel writes the gradient of t into: the order of t, its samples one after another."""
    strides = (math.prod(t.shape[1:]), *t.stride()[1:]) if t.dim() else ()
    return torch.empty_strided(t.shape, strides, dtype=t.dtype, device=t.device)


def empty_packed(mu):
    """A new gradient of a tensor [B, 2L, ...] whose halves are mu and logvar, and its halves."""
    both = mu.new_empty((mu.shape[0], 2 * mu.shape[1], *mu.shape[2:]))
    return both, *both.chunk(2, 1)


def _levels(x, logits):
    """x [B, ...] and logits [B, K, ...] in one order of their positions, the levels outermost or innermost."""
    sizes, strides = logits.shape[1:], logits.stride()[1:]
    order = [d for d in _outer_first(strides) if sizes[d] > 1]
    if not _is_dense(logits) or (0 in order[1:-1]):
        logits = logits.contiguous()
        strides = logits.stride()[1:]
    inside = sizes[0] > 1 and strides[0] == 1
    wanted = [s // sizes[0] if inside else s for s in strides[1:]]
    return _to_order(x, wanted, 1), (logits,)


def _parameter(p, like):
    if p.shape == like.shape:
        return _in_order(p, like, 1)
    if p.numel() == 1:
        return p.reshape(())
    if p.dim() == like.dim() and p.shape[0] == 1:
        p = p[0]
    if p.dim() < like.dim():  # one row for all samples: its gradient is summed over them in the kernel
        return _in_order(_expanded(p, like.shape[1:]), like, 0)
    return _in_order(_expanded(p, like.shape), like, 1)


def _expanded(t, shape):
    """t broadcast to this shape, 16 bits widened before: else each term of the sum that is its gradient is rounded to
    them, and where large terms cancel nothing is right."""
    as_it_is = t.shape == shape or t.dtype in (torch.float32, torch.float64)
    return (t if as_it_is else t.float()).expand(shape)


def _is_dense(t):
    if t.is_contiguous():
        return True
    dims = [d for d in _outer_first(t.stride()) if d > 0]
    run = 1
    for d in reversed(dims):
        if t.shape[d] > 1 and t.stride(d) != run:
            return False
        run *= t.shape[d]
    return True


def _outer_first(strides):
    """The dimensions by falling stride. Not by sorted(), through which symbolic strides do not trace."""
    order = []
    for i, stride in enumerate(strides):
        order.insert(sum([strides[j] >= stride for j in order]), i)
    return order


def _in_order(t, like, first):
    """t with its dimensions from `first` on in the memory order of like's dimensions from 1 on."""
    return _to_order(t, like.stride()[1:] if like.numel() else _row_major_strides(like.shape[1:]), first)


def _row_major_strides(shape):
    """Those of an empty tensor lead to nothing, and may be any."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def _to_order(t, wanted, first):
    """t with its dimensions from `first` on in the order of these strides; as it is if it has them."""
    if all(a == b or n <= 1 for a, b, n in zip(t.stride()[first:], wanted, t.shape[first:], strict=True)):
        return t
    order = [*range(first), *(i + first for i in _outer_first(wanted))]
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return t.permute(order).contiguous().permute(inverse)


def _row_major(t):
    if t.is_contiguous():
        return t
    run = 1
    for stride, size in zip(reversed(t.stride()[1:]), reversed(t.shape[1:]), strict=True):
        if size > 1 and stride != run:
            return t.contiguous()
        run *= size
    return t
