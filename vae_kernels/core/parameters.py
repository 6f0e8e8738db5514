"""The parameters of a likelihood, checked against x. Each kind has its own checks; segments.py has those of a table."""

from ..formulas import PIXEL, POSITION
from ..likelihoods import name_of
from . import checks, pixels, positions


def checked(recon, x, likelihood, obs_logvar):
    """The tuple of the likelihood's parameters from recon and obs_logvar, checked against x."""
    name = name_of(likelihood)
    if name in POSITION:
        return (positions.parameter(recon, x, name, obs_logvar),)
    if name in PIXEL:
        return (pixels.parameter(recon, x, likelihood, obs_logvar),)
    return checks.parameters(recon, x, likelihood, obs_logvar)
