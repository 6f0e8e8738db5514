"""What the autograd functions of the ops share: how they are called, and which gradients they give."""

from typing import NamedTuple

import torch

from ...core import layout


class Mode(NamedTuple):
    """How an op is called.

    kernels    a key of schemas.KERNELS: who computes
    compiling  whether torch.compile traces the call
    """

    kernels: str
    compiling: bool


_EAGER = {name: Mode(name, False) for name in ("compiled", "triton")}
_COMPILING = {"compiled": Mode("compiled", True), "triton": Mode("triton ops", True)}


def mode_of(backend: str) -> Mode:
    """The mode of this call: the one place where eager mode and a compiler part."""
    return (_COMPILING if torch.compiler.is_compiling() else _EAGER)[backend]


class Function(torch.autograd.Function):
    """An autograd function whose first argument is a Mode.

    The arguments are one tuple, `forward(ctx, *arguments)`: where no gradient is needed, dynamo leaves ctx out
    if the signature has one name fewer than there are arguments (torch 2.13, AutogradFunctionVariable.call_apply).
    """

    def __init_subclass__(cls):
        # Without the part of apply that serves torch.func, where these functions are never used: a quarter of the time.
        cls.apply_eager = super(torch.autograd.Function, cls).apply  # pyright: ignore


def apply(function, mode: Mode, *arguments):
    return function.apply(mode, *arguments) if mode.compiling else function.apply_eager(mode, *arguments)


def mask(needed) -> int:
    """The number whose bit i says that input i needs a gradient."""
    bits = 0
    for wanted in reversed(needed):
        bits += bits + wanted
    return bits


def by_reference(function, tensors, needed, incoming):
    """The gradients of `tensors` at the places where one is needed, None at the others, by plain PyTorch.

    A kernel has no code for the gradients of targets and weights, nor for second derivatives. `function` gives the
    outputs of the op from its tensors. `incoming` has the gradient of each output, or None.
    """
    create_graph = torch.is_grad_enabled()
    if not create_graph:
        pairs = zip(tensors, needed, strict=True)
        tensors = [t if t is None else t.detach().requires_grad_(wanted) for t, wanted in pairs]
    with torch.enable_grad():
        outputs = function(tensors)
    pairs = [(o, g) for o, g in zip(outputs, incoming, strict=True) if g is not None]
    outputs, incoming = zip(*pairs, strict=True)
    wanted = [t for t, n in zip(tensors, needed, strict=True) if n and t is not None]
    grads = torch.autograd.grad(outputs, wanted, incoming, create_graph=create_graph, allow_unused=True)
    return in_place(grads, needed)


def gradients_of(ctx):
    """The gradients that the forward pass computed, ctx.grads; and whether the graph is kept for another backward pass.
    If the graph is not kept, set ctx.grads to None and give the gradients away."""
    if ctx.grads is None:
        ctx.saved_tensors  # noqa: B018 - freed as the gradients: this raises autograd's error on a second backward pass
        raise AssertionError("autograd kept the tensors of a graph whose gradients are gone")
    return ctx.grads, torch._C._autograd._get_current_graph_task_keep_graph()  # pyright: ignore


def in_place(grads, needed):
    """The gradients at the places where one is needed, None at the others."""
    grads = iter(grads)
    return tuple([next(grads) if wanted else None for wanted in needed])


def as_weight(grad, like):
    """The incoming gradient as the weight of the terms. A gradient that came from a sum is one number for each sample,
    or one for all samples: nobody writes out the copies."""
    if not torch.compiler.is_compiling() and grad.numel():
        if not any(grad.stride()):
            grad = grad[(0,) * grad.dim()]
        elif grad.dim() > 1 and not any(grad.stride()[1:]):
            grad = grad[(slice(None), *[slice(1)] * (grad.dim() - 1))]
    return layout.term_weight(grad, like)
