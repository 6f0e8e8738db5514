"""Tensors in the layouts that the kernels read. A tensor is copied only where the kernels cannot read it as it is.

A kernel reads a dense sample: the sample fills one run of memory without gaps, in any order of its dimensions
(contiguous, channels_last, ...). Samples may lie apart (a slice of a wider tensor) or on each other (an expanded
tensor). The copies are differentiable.
"""

import math

import torch

# The types of targets that no kernel reads, and a type with the same values. A level is never as large as 2^63.
_READ_AS = {
    torch.int8: torch.int16,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
    torch.uint64: torch.float64,
}


def likelihood(x, params):
    """x and the parameters in the order of params[0]. A parameter that broadcasts gets one of the Layouts against x."""
    like = params[0]
    if x.dtype in _READ_AS:
        levels = x.dtype == torch.uint64 and like.dim() > x.dim()
        x = x.to(torch.int64) if levels else readable(x)
    if len(params) == 1 and like.is_contiguous() and x.is_contiguous():  # nearly always
        return x, params
    if like.dim() > x.dim():
        return _levels(x, like)
    if has_pixels(x, like):
        return _pixels(x, like)
    if not _is_dense(like):
        like = like.contiguous()
    return _in_order(x, like, 1), (like, *(_against(p, like) for p in params[1:]))


def has_pixels(x, like):
    """Whether the first parameter has numbers for each pixel of x (a likelihood of the pixel kind)."""
    return x.dim() > 1 and like.dim() == x.dim() and like.shape[1] != x.shape[1]


def terms_like(x, params):
    """x, or a tensor like it that has the shape of the terms and their order in memory."""
    if not has_pixels(x, params[0]):
        return x
    of_terms = x[:, :1]
    if not is_inner(params[0]):
        return of_terms
    return of_terms.as_strided(of_terms.shape, (x.stride(0), *_pixel_strides(params[0], 1)))


def readable(x):
    """x in a type that the kernels read."""
    return x.to(_READ_AS[x.dtype]) if x.dtype in _READ_AS else x


def row_major(t):
    """t [B, N], of which a row lies in one run of memory. The rows may lie apart."""
    return t if t.shape[1] <= 1 or t.stride(1) == 1 else t.contiguous()


def term_weight(w, like):
    """The weight of the terms of `like`, mu or what terms_like() gives, in one of the Layouts, and in the order of
    `like`. None stays None.

    A weight that broadcasts in another way, such as [B, 1, H, W] beside [B, C, H, W], is expanded. A mask stays a mask
    of bytes.
    """
    return w if w is None else _against(w, like)


def latent(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """mu, logvar and the prior in row-major order, the prior expanded to mu; or the KL that was given."""
    mu = tensors[0]
    if len(tensors) == 2 and mu.is_contiguous() and tensors[1].is_contiguous():  # nearly always
        return tensors
    if len(tensors) == 1:  # a KL has a compute dtype, float32 or float64, and no storage dtype
        return (mu.contiguous() if mu.dtype in (torch.float32, torch.float64) else mu.float().contiguous(),)
    return tuple(_row_major(_expanded(t, mu.shape)) for t in tensors)


def moments(t):
    """mu and logvar in one tensor, [B, 2L, ...], in row-major order. Its halves are then as latent() gives them."""
    return _row_major(t)


def halves(t):
    """mu and logvar as views of the one tensor. No kernel needs a copy of these views."""
    return _row_major(t).chunk(2, 1)


def elements(tensors):
    """The tensors of latent() as [N]: each element becomes a sample with one latent dimension."""
    return tuple([t.reshape(-1) for t in tensors])


def element_weight(w, like):
    """The weight of the KL as [N], beside elements()."""
    return w if w is None else w.expand(like.shape).reshape(-1)


def weight(w, shape=()):
    """A weight: a tensor becomes float32 or float64, 0-d or of this shape; a number becomes a float."""
    if not isinstance(w, torch.Tensor):
        return w if type(w) is float else float(w)
    w = w if w.dtype in (torch.float32, torch.float64) else w.float()
    return w.reshape(()) if w.numel() == 1 else w.expand(shape).contiguous()


def copies(t, k):
    """t [B, ...] k times, one copy after the other, each in the memory order of t."""
    order = [0, *(i + 1 for i in outer_first(t.stride()[1:]))]
    inverse = sorted(range(len(order)), key=order.__getitem__)
    t = t.permute(order)
    return t.expand(k, *t.shape).flatten(0, 1).permute(inverse)


def empty_in_order(t, dtype=None):
    """A new tensor of the shape of t, such as its gradient: in the memory order of t, its samples without gaps between
    them."""
    strides = (math.prod(t.shape[1:]), *t.stride()[1:]) if t.dim() else ()
    return torch.empty_strided(t.shape, strides, dtype=dtype or t.dtype, device=t.device)


def empty_packed(mu):
    """A new gradient for a tensor [B, 2L, ...] whose halves are mu and logvar; and the two halves of the gradient."""
    both = mu.new_empty((mu.shape[0], 2 * mu.shape[1], *mu.shape[2:]))
    return both, *both.chunk(2, 1)


def _levels(x, logits):
    """x [B, ...] and logits [B, K, ...] with their positions in one order. The levels lie outermost or innermost."""
    sizes, strides = logits.shape[1:], logits.stride()[1:]
    order = [d for d in outer_first(strides) if sizes[d] > 1]
    if not _is_dense(logits) or (0 in order[1:-1]):
        logits = logits.contiguous()
        strides = logits.stride()[1:]
    inside = sizes[0] > 1 and strides[0] == 1
    wanted = [s // sizes[0] if inside else s for s in strides[1:]]
    return _to_order(x, wanted, 1), (logits,)


def _pixels(x, packed):
    """x [B, C, ...] and the numbers of its pixels, [B, P, ...], with the pixels in one order. The channels of both lie
    outermost or innermost."""
    sizes, strides = packed.shape[1:], packed.stride()[1:]
    order = [d for d in outer_first(strides) if sizes[d] > 1]
    if not _is_dense(packed) or 0 in order[1:-1]:
        packed = packed.contiguous()
    return _to_order(x, _pixel_strides(packed, x.shape[1]), 1), (packed,)


def _pixel_strides(packed, channels):
    """The strides, without that of the batch, of a tensor [B, channels, ...] in the order of the numbers of its
    pixels."""
    strides = packed.stride()[1:]
    if not packed.numel():
        return _row_major_strides((channels, *packed.shape[2:]))
    if is_inner(packed):
        return [1, *(s // packed.shape[1] * channels for s in strides[1:])]
    return [math.prod(packed.shape[2:]), *strides[1:]]


def is_inner(packed):
    """Whether the numbers of a pixel lie side by side. Otherwise each number lies beside that of the next pixel."""
    return packed.stride(1) == 1 and packed.shape[2:].numel() > 1


def _against(t, like):
    """A tensor that broadcasts to `like`, in one of the Layouts against it, and in the order of `like`."""
    if t.shape == like.shape:
        return _in_order(t, like, 1)
    if t.dim() == like.dim() and t.shape[0] == 1 != like.shape[0]:  # one row. Of a batch of 1, it is that sample's row
        t = t[0]
    if t.numel() == 1 and t.dim() < like.dim():
        return t.reshape(())
    if t.dim() < like.dim():  # one row for all samples: the kernel sums its gradient over the samples
        return _in_order(_expanded(t, like.shape[1:]), like, 0)
    if t.numel() == t.shape[0]:  # one number for each sample: the kernel sums its gradient over the sample
        return t
    return _in_order(_expanded(t, like.shape), like, 1)


def _expanded(t, shape):
    """t broadcast to this shape. A 16-bit tensor becomes float32 before.

    The gradient of t is a sum of terms. In 16 bits each term would be rounded, and large terms that cancel would leave
    nothing but rounding.
    """
    return t if t.shape == shape else wide(t).expand(shape)  # an expand() of the same shape would cost 3 us


def wide(t):
    """A tensor of 16 bits as float32."""
    return t if t.dtype in (torch.float32, torch.float64, torch.bool) else t.float()


def _is_dense(t):
    if t.is_contiguous():
        return True
    dims = [d for d in outer_first(t.stride()) if d > 0]
    run = 1
    for d in reversed(dims):
        if t.shape[d] > 1 and t.stride(d) != run:
            return False
        run *= t.shape[d]
    return True


def outer_first(strides):
    """The dimensions by falling stride. sorted() would not do: a compiler cannot trace it with symbolic strides."""
    order = []
    for i, stride in enumerate(strides):
        order.insert(sum([strides[j] >= stride for j in order]), i)
    return order


def _in_order(t, like, first):
    """t with its dimensions from `first` on in the memory order of like's dimensions from 1 on."""
    return _to_order(t, like.stride()[1:] if like.numel() else _row_major_strides(like.shape[1:]), first)


def _row_major_strides(shape):
    """The strides of an empty tensor may be any numbers, because nobody follows them."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def _to_order(t, wanted, first):
    """t with its dimensions from `first` on in the order of these strides. t itself, if t has this order."""
    if all(a == b or n <= 1 for a, b, n in zip(t.stride()[first:], wanted, t.shape[first:], strict=True)):
        return t
    order = [*range(first), *(i + first for i in outer_first(wanted))]
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
