"""Tensors of a request as matrices [B, N], and gradients that are matrices as tensors."""


def matrix(t, like):
    """A tensor in one of the Layouts against `like` [B, ...] as a matrix that broadcasts to [B, N]."""
    if t.dim() == 0:
        return t.view(1, 1)
    if t.dim() < like.dim():
        return _flat(t[None])
    return _flat(t) if t.shape == like.shape else t.reshape(-1, 1)


def _flat(t):
    """t [B, ...] as [B, N]. A sample fills one run of memory."""
    if t.dim() == 2 and t.is_contiguous():
        return t
    shape = t.shape[0], t.shape[1:].numel()
    return t.view(shape) if t.is_contiguous() else t.as_strided(shape, (t.stride(0), 1))


def in_order_of(t, values):
    """A matrix [B, N] as a tensor of the shape of t, in the order of t."""
    if t.is_contiguous():
        return values if t.dim() == 2 else values.view(t.shape)
    return values.as_strided(t.shape, (values.shape[1], *t.stride()[1:]))


def multiplied(grads, incoming, keep):
    """The gradients times what comes in, a number or a matrix; in place unless the gradients are kept."""
    return [None if g is None else g * incoming if keep else g.mul_(incoming) for g in grads]


def of_parameters(params, grads):
    """The gradients of the parameters, or None, from their parts [B, N] or [B, 1]."""
    return [None if g is None else _of(p, params[0], g) for p, g in zip(params, grads, strict=True)]


def _of(p, like, grad):
    """The gradient of the parameter p, from its parts [B, N] or [B, 1]."""
    if p.shape == like.shape:
        return in_order_of(p, grad).to(p.dtype)
    if p.dim() == 0:
        return grad.sum().to(p.dtype)
    if p.dim() == like.dim():
        return grad.sum(1).view(p.shape).to(p.dtype)
    return in_order_of(p[None], grad.sum(0, keepdim=True))[0].to(p.dtype)
