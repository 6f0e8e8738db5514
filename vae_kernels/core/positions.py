"""Likelihoods of the position kind: the checks of x and of the logits, which read shapes, dtypes and devices
only, as in checks.py."""

from ..likelihoods import by_name, labels_of
from . import checks


def parameter(recon, x, likelihood, obs_logvar):
    """The logits of a distribution over levels, [B, K, ...] for x [B, ...]."""
    checks.tensor("x", x, checks.LEVELS)
    if x.dim() == 0:
        raise ValueError("x: got a 0-d tensor, expected the batch as dimension 0")
    given = by_name(recon, likelihood)
    (label,), (logits,) = labels_of(recon, given).values(), given.values()
    checks.tensor(label, logits)
    checks.on_device_of("x", x, label, logits)
    batch, *dims = x.shape
    if logits.dim() != x.dim() + 1 or (logits.shape[0], *logits.shape[2:]) != (batch, *dims):
        expected = ", ".join(map(str, (batch, "K", *dims)))
        raise ValueError(
            f"{label}: got shape {tuple(logits.shape)}, expected ({expected}): that of x, {tuple(x.shape)}, with the "
            "logits of the K levels along dimension 1"
        )
    if logits.shape[1] == 0:
        raise ValueError(f"{label}: got shape {tuple(logits.shape)}, expected at least one level along dimension 1")
    if obs_logvar is not None:
        raise ValueError(f"obs_logvar: has no effect with likelihood={likelihood!r}, which has no variance")
    return logits
