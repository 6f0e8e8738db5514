"""Calls of the user's networks. If a call fails because of an argument of the VAE, the error names this argument."""

import inspect

import torch
from torch import nn


def call(name, network, given):
    """network(*given.values()). `name` is "encoder" or "decoder"; given: {name of the argument: value}.

    A network may take any dtype, shape and number of arguments. So nothing is checked before the call, and only a call
    that fails is looked into.
    """
    if torch.compiler.is_compiling():
        return network(*given.values())
    try:
        return network(*given.values())
    except (TypeError, RuntimeError, IndexError) as error:
        reason = _arguments(name, network, given) or _dtype(name, network, given)
        if reason is not None:
            raise TypeError(reason) from error
        reason = _shape(name, network, given)
        if reason is not None:
            raise ValueError(reason) from error
        raise


def _arguments(name, network, given):
    """A sentence, if the network takes another number of arguments."""
    try:
        signature = inspect.signature(network.forward if isinstance(network, nn.Module) else network)
    except (TypeError, ValueError):  # a callable without a signature
        return None
    if _takes(signature, len(given)):
        return None
    kind, call = type(network).__name__, f"{name}({', '.join(given)})"
    if "condition" in given and _takes(signature, len(given) - 1):
        came = "a condition" if len(given) == 2 else "one"
        return f"condition: got {came}, but the {name} ({kind}) takes none; expected a module that is called as {call}"
    if "condition" not in given and _takes(signature, len(given) + 1):
        also = ", or autoregressive=True if its second argument is x" if tuple(given) == ("z",) else ""
        return f"condition: got None, but the {name} ({kind}) takes more than {call}; expected a condition{also}"
    return f"{name}: got {kind}, whose forward has the arguments {signature}; expected a module called as {call}"


def _takes(signature, n):
    try:
        signature.bind(*[None] * n)
    except TypeError:
        return False
    return True


def _dtype(name, network, given):
    """A sentence, if the first argument has another floating dtype than the network."""
    (argument, value), *_ = given.items()
    held = own_tensor(network)
    if held is None or not value.is_floating_point() or value.dtype == held.dtype:
        return None
    return f"{argument}: got dtype {value.dtype}, but the {name} is {held.dtype}; expected {argument}.to({held.dtype})"


def _shape(name, network, given):
    """A sentence, if the first argument has not the shape that the network says it needs, or has one dimension only."""
    (argument, value), *_ = given.items()
    needed = getattr(network, "input_shape", None)
    if needed is not None and tuple(value.shape[1:]) != needed:
        return f"{argument}: got shape {tuple(value.shape)}, expected (B, {', '.join(map(str, needed))})"
    if value.dim() == 1:
        came = f"got shape {tuple(value.shape)}, at which the {name} fails"
        return f"{argument}: {came}; expected the batch as dimension 0: one sample is {argument}[None]"
    return None


def own_tensor(network):
    """The first floating-point parameter or buffer of a network, which tells its dtype and device; or None."""
    if isinstance(network, nn.Module):
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                return tensor
    return None
