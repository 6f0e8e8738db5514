"""What goes into the networks of a VAE, and what comes out of its encoder."""

import torch
from torch import nn

from ..core import gaussians
from ..likelihoods import formula_of


def read(x, likelihood, integers, dtype):
    """x as the encoder and an autoregressive decoder take it; `dtype` is that of the networks.

    With integers: int64, for an nn.Embedding. Otherwise floating point: x itself, or integers and bool as `dtype`.
    uint8 is then read as x/255, unless x has counts or is a table.
    """
    if integers:
        if x.is_floating_point():
            raise TypeError(f"x: got dtype {x.dtype}, expected integers: the encoder begins with an embedding of them")
        return x.long()
    if x.is_floating_point():
        return x
    formula = formula_of(likelihood)
    unit = x.dtype == torch.uint8 and formula.SUPPORT != "counts" and formula.KIND != "segments"
    return x.to(dtype) / (255 if unit else 1)


def begins_with_embedding(encoder):
    """Whether the first module with parameters of its own is an embedding."""
    if not isinstance(encoder, nn.Module):
        return False
    first = next((m for m in encoder.modules() if next(m.parameters(recurse=False), None) is not None), None)
    return isinstance(first, (nn.Embedding, nn.EmbeddingBag))


def posterior(out, x):
    """The output of the encoder for x, as a tuple: (moments,), one tensor [B, 2L, ...], or (mu, logvar)."""
    if isinstance(out, torch.Tensor) and out.dim() < 2 and x.dim() < 2:
        came = f"got shape {tuple(x.shape)}, for which the encoder gave {tuple(out.shape)}"
        raise ValueError(f"x: {came}; expected the batch as dimension 0: one sample is x[None]")
    found = gaussians.parts(out, "encoder", f" for x of shape {tuple(x.shape)}")
    if found[0].dim() == 0 or found[0].shape[0] != x.shape[0]:
        came = f"got shape {tuple(x.shape)}, for which the encoder gave {tuple(found[0].shape)}"
        raise ValueError(f"x: {came}; expected the batch as dimension 0 of both")
    return found
