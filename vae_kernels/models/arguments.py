"""The checks of the arguments of VAE and FusedELBO, at construction: a first batch would find the mistake too late."""

from typing import get_args

import torch

from ..core import checks
from ..core.control import current
from ..core.objective import REDUCTIONS
from ..core.penalty import UNITS
from ..core.ranges import flag, ints, number
from ..formulas import LOG_TOTAL
from ..likelihoods import formula_of, name_of
from ..priors import ConditionalGaussian, Prior, VampPrior, pair_of
from ..typing import Backend


def loss(likelihood, obs_logvar, prior, beta, rec_weight, free_bits):
    """The settings that VAE and FusedELBO share."""
    checks.likelihood(likelihood)
    _variance(obs_logvar, likelihood)
    _prior(prior)
    _weight("beta", beta)
    _weight("rec_weight", rec_weight)
    if isinstance(current(rec_weight), torch.Tensor) and current(rec_weight).dim():
        raise ValueError(f"rec_weight: got shape {tuple(rec_weight.shape)}, expected a float or a 0-d tensor")
    if free_bits is not None:
        nats, unit = checks.free_bits(free_bits, UNITS)
        _weight("free_bits[0] (nats)", nats)
        if isinstance(prior, Prior) and not prior.closed_form and unit in ("per_dim", "per_group"):
            raise ValueError(
                f"free_bits: got {unit!r}, but the KL to {type(prior).__name__} is one number for all dims"
            )


def _variance(obs_logvar, likelihood):
    if obs_logvar is None:
        return
    if "logvar" not in formula_of(likelihood).PARAMETERS:
        raise ValueError(f"obs_logvar: has no effect with likelihood={likelihood!r}, which has no variance")
    value = current(obs_logvar)
    if isinstance(value, torch.Tensor):
        checks.tensor("obs_logvar", value)
    else:
        number("obs_logvar", value)


def _weight(name, value):
    value = current(value)
    if isinstance(value, torch.Tensor):
        checks.tensor(name, value)
        return
    number(name, value)
    if value < 0:
        raise ValueError(f"{name}: got {value}, expected a number >= 0")


def _prior(prior):
    """None, a pair of tensors or a module."""
    if prior is None or isinstance(prior, (Prior, ConditionalGaussian)):
        return
    if isinstance(prior, type):
        raise TypeError(f"prior: got the class {prior.__name__}, expected a prior, {prior.__name__}(...)")
    if not isinstance(prior, (tuple, list)) or len(prior) != 2:
        came = f"{len(prior)} parts" if isinstance(prior, (tuple, list)) else type(prior).__name__
        expected = "None or a pair (mu, logvar) of tensors, or a module of vae_kernels.priors"
        if isinstance(prior, torch.distributions.Distribution):
            expected += "; a Normal(mu, std) is the pair (mu, 2 * std.log())"
        raise TypeError(f"prior: got {came}, expected {expected}")
    for i, part in enumerate(prior):
        if not isinstance(part, torch.Tensor):
            raise TypeError(f"prior[{i}]: got {type(part).__name__}, expected a tensor or nn.Parameter")
        checks.tensor(f"prior[{i}]", part)


def model(latent_shape, autoregressive, integers, logvar_range, backend, prior, beta):
    """The settings that only VAE has. Gives latent_shape as a tuple, or None."""
    if isinstance(current(beta), torch.Tensor) and current(beta).dim():
        raise ValueError(f"beta: got shape {tuple(beta.shape)}, expected a float or a 0-d tensor")
    shape = None
    if latent_shape is not None:
        shape = ints("latent_shape", latent_shape, "an int or a tuple of positive ints: the shape of one z", True)
        _same_shape(prior, shape)
    flag("autoregressive", autoregressive)
    if integers is not None:
        flag("integers", integers)
    if logvar_range is not None:
        _range(logvar_range, prior)
    checks.choice("backend", backend, get_args(Backend))
    return shape


def total(value, likelihood):
    """total= of VAE."""
    if value is None:
        return
    if not isinstance(value, str) or value != "observed":
        raise ValueError(f"total: got {value!r}, expected None or 'observed'")
    if name_of(likelihood) not in LOG_TOTAL:
        listed = ", ".join(map(repr, LOG_TOTAL))
        raise ValueError(f"total: has no effect with likelihood={likelihood!r}; expected one of {listed}")


def fused(prior, reduction, backend):
    """The settings that only FusedELBO has."""
    pair_of(prior)  # an error if the KL of the prior has no closed form, or if the prior needs a condition
    checks.choice("reduction", reduction, REDUCTIONS)
    checks.choice("backend", backend, get_args(Backend))


def _same_shape(prior, shape):
    if isinstance(prior, Prior) and prior.shape != shape:
        raise ValueError(f"prior: is for z of shape {prior.shape}, but latent_shape is {shape}")
    for i, part in enumerate(prior if isinstance(prior, (tuple, list)) else ()):
        # a part may also have a row for each sample: with the batch in front
        checks.broadcasts(f"prior[{i}]", part.shape[-len(shape) :] if part.dim() > len(shape) else part.shape,
                          "latent_shape", shape)  # fmt: skip


def _range(pair, prior):
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"logvar_range: got {pair!r}, expected None or a pair of numbers (low, high)")
    for i, value in enumerate(pair):
        number(f"logvar_range[{i}]", value)
    if not pair[0] < pair[1]:
        raise ValueError(f"logvar_range: got {tuple(pair)}, expected low < high")
    if isinstance(prior, VampPrior):
        raise ValueError(
            "logvar_range: has no effect on the posteriors of a VampPrior; expected an encoder that bounds its logvar, "
            "for both"
        )
