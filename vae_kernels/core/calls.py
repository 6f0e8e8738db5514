"""Calls of the user's networks. If a call fails because of an argument that the user has given, the error names this
argument."""

import inspect
import itertools

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
        reason = _shape(name, network, given, error)
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
    """A sentence, if an argument has another floating dtype than the network."""
    held = own_tensor(network)
    if held is None:
        return None
    for argument, value in given.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != held.dtype:
            came = f"got dtype {value.dtype}, but the {name} is {held.dtype}"
            return f"{argument}: {came}; expected {argument}.to({held.dtype})"
    return None


_OF_SHAPES = ("shape", "size", "dim", "channels", "at least 1D")  # words in torch's errors of a wrong shape


def _shape(name, network, given, error):
    """A sentence, if the first argument has not the shape that the network says it needs, or torch speaks of shapes."""
    (argument, value), *_ = given.items()
    needed = getattr(network, "input_shape", None)
    if needed is not None and tuple(value.shape[1:]) != needed:
        return f"{argument}: got shape {tuple(value.shape)}, expected (B, {', '.join(map(str, needed))})"
    if type(error) in (RuntimeError, IndexError) and any(word in str(error) for word in _OF_SHAPES):
        one = f"; one sample without its batch is {argument}[None]" if value.dim() == 1 else ""
        return f"{argument}: got shape {tuple(value.shape)}, at which the {name} fails: {error}{one}"
    return None


def own_tensor(network):
    """The first floating-point parameter or buffer of a network, which tells its dtype and device; or None."""
    if isinstance(network, nn.Module):
        for tensor in itertools.chain(network.parameters(), network.buffers()):  # the first ends the walk
            if tensor.is_floating_point():
                return tensor
    return None
