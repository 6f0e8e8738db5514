"""What goes into the networks of a VAE, and what comes out of its encoder."""

import torch
from torch import nn

from ..likelihoods import formula_of


def read(x, likelihood, integers, dtype):
    """x as the encoder and an autoregressive decoder take it.

    With integers: int64, for an nn.Embedding. Otherwise floating point: x itself, or integers and bool as `dtype`.
    uint8 is then read as x/255, unless x has counts.
    """
    if integers:
        if x.is_floating_point():
            raise TypeError(f"x: got dtype {x.dtype}, expected integers: the encoder begins with an embedding of them")
        return x.long()
    if x.is_floating_point():
        return x
    unit = x.dtype == torch.uint8 and formula_of(likelihood).SUPPORT != "counts"
    return x.to(dtype) / (255 if unit else 1)


def begins_with_embedding(encoder):
    """Whether the first module with parameters of its own is an embedding."""
    if not isinstance(encoder, nn.Module):
        return False
    first = next((m for m in encoder.modules() if next(m.parameters(recurse=False), None) is not None), None)
    return isinstance(first, (nn.Embedding, nn.EmbeddingBag))


def posterior(out, x):
    """The output of the encoder for x, as a tuple: (moments,), one tensor [B, 2L, ...], or (mu, logvar)."""
    if isinstance(out, torch.Tensor):
        if out.dim() < 2 or out.shape[1] % 2:
            raise ValueError(
                f"encoder: gave shape {tuple(out.shape)} for x of shape {tuple(x.shape)}, expected [B, 2L, ...]: mu, "
                "then logvar, along dim 1"
            )
        found = (out,)
    else:
        if not (isinstance(out, (tuple, list)) and len(out) == 2):
            raise TypeError(
                f"encoder: gave {type(out).__name__}, expected a tensor [B, 2L, ...] or a pair (mu, logvar)"
            )
        found = mu, logvar = out
        for name, part in zip(("mu", "logvar"), found, strict=True):
            if not isinstance(part, torch.Tensor):
                raise TypeError(f"encoder: gave {name} of type {type(part).__name__}, expected a tensor")
        if mu.shape != logvar.shape:
            raise ValueError(
                f"encoder: gave mu {tuple(mu.shape)} and logvar {tuple(logvar.shape)}, expected equal shapes"
            )
    if found[0].dim() == 0 or len(found[0]) != len(x):
        raise ValueError(
            f"x: got shape {tuple(x.shape)}, for which the encoder gave {tuple(found[0].shape)}; expected the batch as "
            "dimension 0 of both"
        )
    return tuple(found)
