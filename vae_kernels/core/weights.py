"""weight and latent_weight: their checks, which read shape, dtype and device alone, as in checks.py, and `filled`."""

import torch

from . import checks


def check(name, w, like, like_name, factor):
    """The weight of the terms of `like`: a bool or floating tensor that broadcasts to `like`. `factor` is the name of
    the argument that takes one number for all terms."""
    if not isinstance(w, torch.Tensor):
        raise TypeError(
            f"{name}: got {type(w).__name__}, expected a tensor, bool or floating, that broadcasts to {like_name}; "
            f"{factor} takes a number"
        )
    if not w.dtype.is_floating_point and w.dtype != torch.bool:
        raise TypeError(
            f"{name}: got dtype {w.dtype}, expected a mask, {name}.bool(), or weights of a floating point type"
        )
    checks.tensor(name, w, (*checks.FLOATS, torch.bool))
    checks.on_device_of(like_name, like, name, w)
    by_sample = len(w.shape) == 1 and like.dim() > 1 and len(w) == len(like) and len(w) not in (1, like.shape[-1])
    if by_sample:  # the likeliest mistake: torch broadcasts the last dimensions
        ones = ", 1" * (like.dim() - 1)
        raise ValueError(
            f"{name}: got shape {tuple(w.shape)}, expected one that broadcasts to {like_name}, {tuple(like.shape)}; a "
            f"weight for each sample has the shape ({len(w)}{ones})"
        )
    checks.broadcasts(name, w.shape, like_name, like.shape)


def check_mask(name, w, like, like_name):
    """The mask of the observed elements of `like`, where other weights would mean nothing."""
    if isinstance(w, torch.Tensor) and w.dtype != torch.bool:
        raise TypeError(f"{name}: got dtype {w.dtype}, expected a mask, torch.bool: True where {like_name} is observed")
    check(name, w, like, like_name, "no argument here")


def filled(t, weight):
    """t, with 0 where the weight is 0, so that a NaN there reaches nothing. Without a weight, t itself."""
    return t if weight is None else torch.where(weight != 0, t, t.new_zeros(()))


def check_positions(w, levels):
    """Refuse a weight for each level, which torch.nn.functional.cross_entropy takes."""
    if isinstance(w, torch.Tensor) and tuple(w.shape) == (levels,) and levels > 1:
        raise ValueError(
            f"weight: got shape ({levels},), one number for each level; expected a weight for each position, which "
            "broadcasts to x. Write weight[x] for the weight of each level, or weight[None] for one row of positions"
        )
