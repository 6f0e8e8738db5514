"""Cases of the row kind: logits whose soft-max runs over a whole sample, and their truth in float64.

The truth is written by hand: log_softmax and the formula of an element, or lgamma for "multinomial". It shares no step
with the kernels' way, which computes a row of Poisson counts from its sum.
"""

import math

import cases
import numpy as np
import torch
from oracles import ORACLES

import vae_kernels as vk
from vae_kernels.formulas import ALL, LOG_TOTAL, ROW

NAMES = (*LOG_TOTAL, *ROW)
# one element and none, sizes around the short rows (128) and the blocks (512, 1024) of the loops, several blocks
SHAPES = [
    (1, 1),
    (1, 7),
    (5, 1),
    (4,),
    (0, 5),
    (3, 0),
    (2, 3, 5, 7),
    (70, 31),
    (9, 128),
    (9, 129),
    (3, 1031),
    (2, 4099),
]


def draw(likelihood, shape, dtypes=cases.DTYPES[0], form=None, seed=0, total=None):
    """(x, params, log_total) of this shape and these storage types; log_total [B] is None for "multinomial". The counts
    have a total of about `total`, or twice as many as elements. One logit of a sample is -inf, and its count is 0."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=shape)
    flat = logits.reshape(len(logits), -1) if logits.size else logits
    if logits.size and flat.shape[1] > 2:
        flat[-1, 1] = -np.inf
    others = ()
    if len(ALL[likelihood].PARAMETERS) > 1:
        of_form = cases.FORMS.get(form, form or (lambda s: s))(shape)
        others = ORACLES[likelihood]["sample_params"](rng, of_form)[1][1:]
        others = [np.clip(p, -6, 6) for p in others]
    shares = torch.from_numpy(logits).flatten(1).softmax(1).view(shape) if len(shape) > 1 else torch.ones(shape)
    total = total or 2 * max(1, int(np.prod(shape[1:])))
    x = torch.from_numpy(np.asarray(rng.poisson(shares.numpy() * total), dtype=np.float64))
    if dtypes[1] == torch.uint8:
        x = x.clamp(max=255)
    log_total = torch.from_numpy(np.log(total) + 0.3 * rng.normal(size=shape[:1])) if likelihood in LOG_TOTAL else None
    params = [torch.from_numpy(np.array(p)).to(dtypes[0]) for p in (logits, *others)]
    return x.to(dtypes[1]), params, None if log_total is None else log_total.to(dtypes[0])


def truth(likelihood, x, params, log_total=None, weight=None, dtype=torch.float64):
    """The nll [B] in this type, differentiable."""
    x, params = x.to(dtype), [p.to(dtype) for p in params]
    if weight is not None:
        weight = weight.to(dtype)
        x = torch.where(weight == 0, 0, x) if likelihood not in ROW or weight.dim() else x
        params[1:] = [torch.where(weight == 0, 0, p) for p in params[1:]]
    rows = (lambda t: t.flatten(1)) if x.dim() > 1 else (lambda t: t.unsqueeze(1))
    log_share = rows(params[0]).log_softmax(1)
    if likelihood in ROW:
        counts, n = rows(x), rows(x).sum(1)
        each = torch.lgamma(counts + 1) - torch.where(counts == 0, 0, counts * log_share)
        nll = each.sum(1) - torch.lgamma(n + 1)
        return nll if weight is None else nll * weight.reshape(-1).expand(len(nll))
    log_mean = (log_total.to(dtype).view(-1, 1) + log_share).view(x.shape)
    gone = (x == 0) & (log_mean == -torch.inf)
    if weight is not None:
        gone = gone | (weight == 0)
    each = ALL[likelihood].nll(x, torch.where(gone, 0, log_mean), *params[1:])
    each = torch.where(gone, 0, each if weight is None else weight * each)
    return rows(each).sum(1)


def outcome(nll, likelihood, x, params, log_total, incoming, **settings):
    """[nll, *gradients] of the parameters and of log_total, under an incoming gradient [B] or 0-d."""
    leaves = [t.detach().requires_grad_() for t in (*params, *(() if log_total is None else (log_total,)))]
    given = {} if log_total is None else {"log_total": leaves[-1]}
    value = nll(leaves[: len(params)], x, likelihood=likelihood, **given, **settings)
    grads = torch.autograd.grad(value, leaves, incoming.to(value.dtype))
    for t, g in zip(leaves, grads, strict=True):
        assert g.dtype == t.dtype and g.shape == t.shape
    return [value.detach(), *grads]


def by_hand(params, x, likelihood, dtype, log_total=None, weight=None, reduction="none"):
    nll = truth(likelihood, x, params, log_total, weight, dtype)
    return nll if reduction == "none" else getattr(nll, reduction)()


def compare(backend, likelihood, x, params, log_total, reduction="none", weight=None, poisoned=None):
    """Compares value and gradients with the truth; the budget is the error of plain PyTorch in the same types."""
    g = torch.Generator().manual_seed(7)
    incoming = torch.randn(len(x) if reduction == "none" else (), generator=g, dtype=torch.float64)
    given = x, params, log_total
    settings = {"reduction": reduction, "weight": weight}
    computed = torch.float64 if params[0].dtype == torch.float64 else torch.float32
    wide = x, [p.double() for p in params], None if log_total is None else log_total.double()
    true = outcome(by_hand, likelihood, *wide, incoming, dtype=torch.float64, **settings)
    theirs = outcome(by_hand, likelihood, *given, incoming, dtype=computed, **settings)
    ours = outcome(fused, likelihood, *(poisoned or given), incoming, backend=backend, **settings)
    # Gradients are differences of counts and means, or sums of such differences. A kernel has the log-mean as a number
    # of its type, whose last place is a part of the mean, and no mean below e^-87.
    means = _means(likelihood, x, params, log_total)
    each = x.double().abs() + means * (1 + means.clamp(min=1e-300).log().abs()) + 1e-31
    each = each * incoming.abs().expand(len(x)).view(-1, *[1] * (x.dim() - 1))
    names = ["nll", *ALL[likelihood].PARAMETERS[: len(params)], "log_total"]
    for name, *values in zip(names, ours, theirs, true, strict=False):
        size = each if values[0].shape == each.shape and name != "nll" else 0.0
        if name == "nll" and likelihood in ROW:  # less the value of the sum n as a count of mean n: 1/2 log 2 pi n
            size = math.log1p(float(x.double().sum()))
        if name == "log_total":
            size = each.flatten(1).sum(1) if x.dim() > 1 else each
        cases.check(*values, params[0].dtype, name, "poisson", size)
    return ours


def _means(likelihood, x, params, log_total):
    """The mean of each element, in float64."""
    if not x.numel():
        return x.double()
    total = x.double().flatten(1).sum(1) if log_total is None and x.dim() > 1 else x.double()
    total = total if log_total is None else log_total.double().exp()
    logits = params[0].double()
    share = logits.flatten(1).softmax(1).view(x.shape) if x.dim() > 1 else torch.ones_like(logits)
    return share * total.view(-1, *[1] * (x.dim() - 1))


def fused(params, x, **settings):
    return vk.nll(tuple(params), x, **settings)
