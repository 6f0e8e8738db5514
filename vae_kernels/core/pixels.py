"""Likelihoods of the pixel kind: the checks of x and of the decoder's output, which read shapes, dtypes and devices
only, as in checks.py."""

import torch

from ..formulas import PIXEL
from ..likelihoods import Likelihood, by_name, labels_of, name_of, options_of
from . import checks


def parameter(recon, x, likelihood, obs_logvar):
    """The one parameter, [B, P, ...], checked against x, [B, C, ...]."""
    name = name_of(likelihood)
    channels, numbers = PIXEL[name].sizes(*options_of(likelihood))
    _target(x, channels, name)
    given = by_name(recon, likelihood)
    (label,), (packed,) = labels_of(recon, given).values(), given.values()
    checks.tensor(label, packed)
    checks.on_device_of("x", x, label, packed)
    expected = (x.shape[0], numbers, *x.shape[2:])
    if tuple(packed.shape) != expected:
        raise ValueError(
            f"{label}: got shape {tuple(packed.shape)}, expected {expected}: the shape of x, with {numbers} numbers "
            f"for each pixel along dimension 1, as {_shown(likelihood)} has them"
        )
    if obs_logvar is not None:
        raise ValueError(f"obs_logvar: has no effect with likelihood={name!r}, whose scales are in recon")
    return packed


def _shown(likelihood):
    """A likelihood as an object, which shows its options."""
    return repr(Likelihood.from_dict({"name": likelihood}) if isinstance(likelihood, str) else likelihood)


def _target(x, channels, name):
    checks.tensor("x", x, checks.TARGETS)
    if not (x.dtype.is_floating_point or x.dtype == torch.uint8):
        raise TypeError(f"x: got dtype {x.dtype}, expected uint8 for levels, or floats, with likelihood={name!r}")
    if x.dim() < 2 or x.shape[1] != channels:
        raise ValueError(
            f"x: got shape {tuple(x.shape)}, expected (B, {channels}, ...): dimension 1 has the channels, of which "
            f"likelihood={name!r} has {channels}"
        )
