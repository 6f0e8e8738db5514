"""n_samples=: K draws of z for each x. recon [K, B, ...] becomes K B samples, and x stays [B, ...]: sample r of recon
stands beside sample r % B of x. No kernel copies x: row_of() in csrc/matrix.h and row_of_x() in
backends/triton/tiles.py find the sample. Plain torch makes the copies (`repeated`). The checks read shapes, dtypes and
devices only, as in checks.py."""

import torch

from ..formulas import ELEMENT, ROW
from ..likelihoods import by_name, labels_of
from . import checks, dtensor, layout
from .control import current


def flat(recon, x, n_samples, likelihood, obs_logvar):
    """recon, by the names of its parameters, and obs_logvar, of K B samples: see `stand_in`. Without n_samples both
    are as they came.

    The first parameter is [K, B, ...]. Another one broadcasts to [K, B, ...]: a parameter without these two dimensions
    stays as it is, and any other one has a number for each of the K B samples.
    """
    if n_samples is None:
        return recon, obs_logvar
    checks.tensor("x", x, checks.TARGETS)
    if x.dim() == 0:
        raise ValueError("x: got a 0-d tensor, expected the batch as dimension 0")
    checks.noise(n_samples, None, x, "x")
    name = checks.likelihood(likelihood)
    given = by_name(recon, likelihood)
    labels = labels_of(recon, given)
    tensors = [checks.tensor(labels[key], p) for key, p in given.items()]
    if dtensor.any_of((x, *tensors)):
        raise TypeError("n_samples: takes no DTensors; give each rank its own part of the batch, in plain tensors")
    (key, first), *others = given.items()
    _check_first(labels[key], first, x, n_samples, name)
    sizes = n_samples, *x.shape
    made = {key: first.flatten(0, 1)} | {other: _of_samples(labels[other], p, sizes) for other, p in others}
    obs_logvar = current(obs_logvar)
    if isinstance(obs_logvar, torch.Tensor):
        obs_logvar = _of_samples("obs_logvar", checks.tensor("obs_logvar", obs_logvar), sizes)
    return made, obs_logvar


def stand_in(x, n_samples):
    """A tensor like K copies of x, [K B, ...], for the checks. It takes no memory, and has no values."""
    if n_samples is None or not isinstance(x, torch.Tensor) or x.dim() == 0:
        return x
    return x.detach().new_empty(()).expand(n_samples * x.shape[0], *x.shape[1:])


def of_samples(t, n_samples):
    """t [B, ...] K times, one copy after the other, where t has one number for each sample."""
    return t if n_samples is None else layout.wide(t).expand(n_samples, *t.shape).flatten(0, 1)


def _check_first(label, first, x, n_samples, likelihood):
    whole = n_samples, *x.shape
    exact = likelihood in ELEMENT or likelihood in ROW
    if tuple(first.shape) == whole if exact else first.shape[:2] == whole[:2] and first.dim() >= 2:
        return
    expected = str(whole) if exact else f"({n_samples}, {x.shape[0]}, ...)"
    hint = ""
    if first.dim() and len(first) == n_samples * x.shape[0]:
        hint = f"; recon.unflatten(0, {whole[:2]}) has this shape"
    raise ValueError(
        f"{label}: got shape {tuple(first.shape)}, expected {expected}: n_samples={n_samples} draws for each sample of "
        f"x, {tuple(x.shape)}{hint}"
    )


def _of_samples(label, p, sizes):
    """A parameter that broadcasts to [K, B, ...], as [K B, ...], [1, ...] or without the dimensions K and B."""
    lead = p.dim() - (len(sizes) - 2)
    if lead <= 0:
        return p
    if lead > 2:
        raise ValueError(f"{label}: got shape {tuple(p.shape)}, expected one that broadcasts to {sizes}")
    checks.broadcasts(label, p.shape[:lead], "n_samples and the batch of x", sizes[:2])
    if p.shape[:lead].numel() == 1:
        return p.flatten(0, lead - 1)
    whole = (*sizes[:2], *p.shape[lead:])
    return (p if p.shape == whole else layout.wide(p).expand(whole)).flatten(0, 1)


def repeated(x, weight, rows):
    """x and the weight of its terms, where the parameters have K times as many samples: one copy for each draw. This is
    for plain torch, which reads one sample of x for each sample of the parameters."""
    if x.shape[0] == rows or not x.shape[0]:
        return x, weight
    k = rows // x.shape[0]
    by_sample = weight is not None and weight.dim() == x.dim() and weight.shape[0] == x.shape[0]
    return _copies(x, k), _copies(weight, k) if by_sample else weight


def _copies(t, k):
    """A gradient of 16 bits is the sum of those of the copies, and is rounded once."""
    return layout.copies(layout.wide(t) if t.requires_grad else t, k)
