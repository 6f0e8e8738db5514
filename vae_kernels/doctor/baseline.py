"""The trivial model: every sample has the same distribution, whose mean is the data's own mean of each feature.

A model that gives the data no higher likelihood has learned nothing about a sample. The constants have closed forms
(maximum likelihood or moments) for the parameters of these names; a family of one parameter has the mean of the data.
"""

import torch

from .. import functional
from ..core.control import Control, current
from ..core.weights import filled
from ..likelihoods import formula_of
from . import columns
from .look import read

REACH = 80.0  # the parameter of a family of one parameter is searched in [-80, 80]
HALVINGS = 60
NO_DROPOUT = -30.0
SHIFTS = torch.arange(-1.5, 0.51, 0.25, dtype=torch.float64).tolist()  # of a log scale from the log of the deviation


def baseline(model, x, fit=None, weight=None, levels=None, given=(), log_total=None):
    """nll [N] of x under the trivial model, in nats, float64, on the CPU. None if a parameter of the likelihood has no
    constant here.

    fit: the data whose means are taken, [M, ...] like x; None: x itself. weight: the mask of x. given: the names of the
    parameters that the decoder gives. log_total: None, or that of x: all samples then have the same shares. A scale
    that is not trained keeps its value. A scale that is trained, or comes from the decoder, is the data's: one for each
    feature if the model has one for each feature and each feature varies, else one for all features.
    """
    data, mask = (x, weight) if fit is None else (fit, None)
    constants = _constants(model, data, mask, levels, given)
    if constants is None:
        return None
    fixed = {} if "logvar" in constants else {"obs_logvar": current(model.obs_logvar)}
    if log_total is not None:
        fixed["log_total"] = log_total
    return _nll(model, constants, x, weight, fixed).double().cpu()


def _nll(model, constants, x, weight, fixed):
    """The nll [N] of parameters [1, ...]."""
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    recon = {name: t.to(dtype).expand(len(x), *t.shape[1:]) for name, t in constants.items()}
    return functional.nll(recon, x, weight=weight, likelihood=model.likelihood, backend="auto", **fixed)


def _constants(model, x, weight, levels, given):
    """{parameter: [1, ...], float64}, or None."""
    formula = formula_of(model.likelihood)
    if formula.KIND == "position":
        return None if levels is None else {formula.PARAMETERS[0]: _histogram(x, weight, levels)}
    if formula.KIND == "pixel":
        return None
    if formula.KIND == "segments":
        return columns.constants(model.likelihood, x, weight, given)
    data = read(x, model.likelihood).double()
    mean, variance = _moments(data, weight)
    if formula.KIND == "row":  # logits of shares
        return {formula.PARAMETERS[0]: mean.log()}
    if len(formula.PARAMETERS) == 1:
        return {formula.PARAMETERS[0]: _of_mean(formula, mean)}
    names = [name for name in formula.PARAMETERS if name not in formula.DEFAULTS or _is_trained(model, name, given)]
    makers = {
        "loc": lambda: mean,
        "logvar": lambda: _scale(model, variance, given).log(),
        "logscale": lambda: 0.5 * _scale(model, variance, given).log(),
        "log_mean": lambda: mean.log(),
        "log_inverse_dispersion": lambda: (mean.square() / (variance - mean).clamp_min(1e-9)).log().clamp(-20, 20),
        "dropout_logits": lambda: torch.full_like(mean, NO_DROPOUT),
    }
    if any(name not in makers for name in names):
        return None
    constants = {name: makers[name]().expand(mean.shape) for name in names}
    return _fitted_scale(model, constants, x, weight) if "logscale" in constants else constants


def _is_trained(model, name, given):
    """Whether a parameter that has a default comes from the decoder, or is trained beside it."""
    return name in given or (name == "logvar" and is_learned(model.obs_logvar))


def is_learned(obs_logvar):
    """Whether the variance of the model is no constant: a Parameter, or a control that follows the residuals."""
    return isinstance(obs_logvar, (torch.nn.Parameter, Control))


def _moments(data, weight):
    """(mean, variance) of each feature, [1, ...]. One sample that has the mean of all features is added, so that no
    value is impossible that has not been seen."""
    seen = torch.ones_like(data[:1]) * len(data) if weight is None else weight.double().sum(0, keepdim=True)
    sums = filled(data, weight).sum(0, keepdim=True)
    of_all = sums.sum() / seen.sum()
    mean = (sums + of_all) / (seen + 1)
    squares = filled((data - mean).square(), weight).sum(0, keepdim=True)
    return mean, squares / seen.clamp_min(1)


def _scale(model, variance, given):
    """The variance of each feature [1, ...], or of all features."""
    own = model.obs_logvar if isinstance(model.obs_logvar, torch.Tensor) else None
    for_each = bool({"logvar", "logscale"} & set(given)) or (own is not None and own.numel() > 1)
    if for_each and (variance > 0).all():
        return variance
    return variance.mean().clamp_min(1e-12).expand(variance.shape)


def _fitted_scale(model, constants, x, weight):
    """The constants, with the shift of the log scale that fits best: a deviation is no scale of every family."""
    shifted = [constants | {"logscale": constants["logscale"] + shift} for shift in SHIFTS]
    return min(shifted, key=lambda c: _nll(model, c, x, weight, {}).double().sum().item())


def _of_mean(formula, mean):
    """The parameter at which a family of one parameter has this mean, by bisection: the mean rises with it."""
    low, high = torch.full_like(mean, -REACH), torch.full_like(mean, REACH)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = formula.mean(middle) < mean
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _histogram(x, weight, levels):
    """log shares [1, K, ...] of the levels at each place, where each level is seen once more by all places together."""
    x = x.long().clamp(0, levels - 1)
    ones = torch.ones_like(x, dtype=torch.float64) if weight is None else weight.double()
    counts = torch.zeros(1, levels, *x.shape[1:], dtype=torch.float64, device=x.device)
    counts[0].scatter_add_(0, x, ones)
    counts += 1 / levels
    return (counts / counts.sum(1, keepdim=True)).log()
