"""Diagonal Gaussians that a network gives, and their noise: for the encoder of a VAE, and for priors."""

import torch

from . import checks, noise


def parts(out, name, of="") -> tuple[torch.Tensor, ...]:
    """The output of a network, checked: (moments,), one tensor [B, 2L, ...], or (mu, logvar). name, of: the network,
    and what the network was given, for the error."""
    if isinstance(out, torch.Tensor):
        if out.dim() < 2 or out.shape[1] % 2:
            expected = "[B, 2L, ...]: mu, then logvar, along dim 1; or a pair (mu, logvar)"
            raise ValueError(f"{name}: gave shape {tuple(out.shape)}{of}, expected {expected}")
        return (out,)
    if not (isinstance(out, (tuple, list)) and len(out) == 2):
        raise TypeError(f"{name}: gave {type(out).__name__}, expected a tensor [B, 2L, ...] or a pair (mu, logvar)")
    mu, logvar = out
    for part in (mu, logvar):
        if not isinstance(part, torch.Tensor):
            raise TypeError(f"{name}: gave a pair with {type(part).__name__}, expected a pair of tensors (mu, logvar)")
    if mu.shape != logvar.shape:
        shapes = f"mu {tuple(mu.shape)} and logvar {tuple(logvar.shape)}"
        raise ValueError(f"{name}: gave {shapes}, expected equal shapes")
    return mu, logvar


def pair(out, name) -> tuple[torch.Tensor, torch.Tensor]:
    """(mu, logvar) of the output of a network."""
    found = parts(out, name)
    mu, logvar = halves(found)
    return mu, logvar


def halves(found):
    """(mu, logvar) of what parts() gives."""
    return found[0].chunk(2, 1) if len(found) == 1 else found


def normals(shape, like, generator):
    """Standard normals of the dtype and device of `like`."""
    checks.noise(None, generator, like, "the prior")
    return noise.normals(noise.new_rng(generator, like.device), shape, like.device).to(like.dtype)
