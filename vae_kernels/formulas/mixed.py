"""Likelihood of a table with columns of different kinds, in nats: the columns are independent, given the parameters.

    -log p(x | packed, logscale) = sum_c -log p_c(x_c | packed_c, logscale_c)

packed [B, W] has the numbers that the decoder gives for each column, one column after the other: K logits for a
categorical column, and one number for every other column. logscale [C] or [B, C] has one number for each column:

    column               p_c                                     packed_c    logscale_c
    gaussian             N(loc, exp(2 logscale))                 loc         log of the standard deviation
    laplace              Laplace(loc, exp(logscale))             loc         log of the scale
    poisson              Poisson(exp(log_rate))                  log_rate    not read; its gradient is 0
    negative_binomial    as in negative_binomial.py              log_mean    log_inverse_dispersion
    bernoulli            Bernoulli(sigmoid(logits))              logits      not read; its gradient is 0
    categorical          softmax(logits) of the K categories     K logits    not read; its gradient is 0

With "tanh" the location is tanh(packed_c), for data that is scaled to [-1, 1] (the decoder of TVAE does so: Xu et al.
2019, "Modeling tabular data using conditional GAN", arXiv:1907.00503, appendix). The formulas of the columns are those
of the files with their names.

x has one number for each column and the code 0..K-1 of a category; or x is one-hot: K numbers for a categorical column,
of which one is 1 and the others are 0. Where a code is no category, or no number or several numbers are hot, the value
of this column and the gradient of its logits are NaN.
"""

from typing import TYPE_CHECKING

import torch

from . import bernoulli, categorical, gaussian, laplace, negative_binomial, poisson
from .columns import Columns, Group

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

KIND = "segments"
PARAMETERS = ("packed", "logscale")
DEFAULTS = {"logscale": 0.0}
SUPPORT = None

# the formula of each kind of one number, of x, the number and its logscale
_NLL = {
    "gaussian": lambda x, p, s: gaussian.nll(x, p, 2 * s),
    "laplace": laplace.nll,
    "poisson": lambda x, p, s: poisson.nll(x, p),
    "negative_binomial": negative_binomial.nll,
    "bernoulli": lambda x, p, s: bernoulli.nll(x, p),
}
_WITH_SCALE = "gaussian", "laplace", "negative_binomial"
_MEAN = {
    "gaussian": gaussian.mean,
    "laplace": laplace.mean,
    "poisson": poisson.mean,
    "negative_binomial": negative_binomial.mean,
    "bernoulli": bernoulli.mean,
}


def nll(x, packed, logscale, columns: Columns, keep=None):
    """-log p of each column in nats, [B, C]. x [B, C] or [B, W], packed [B, W] and logscale [C] or [B, C] have one
    floating dtype. keep [B, C] or None: False is a missing cell, whose value is that of x = 0 and parameters of 0: it
    may be a NaN times 0 for nobody."""
    each = [_nll_of(group, x, packed, logscale, columns, keep) for group in columns.groups]
    if not any(group.name in _WITH_SCALE for group in columns.groups):  # nobody reads logscale; its gradient is 0
        each[0] = each[0] + torch.where(torch.zeros_like(logscale, dtype=torch.bool), logscale, 0).sum(-1, keepdim=True)
    return torch.cat(each, 1)[:, columns.order(packed.device)]


def _nll_of(group, x, packed, logscale, columns, keep):
    """-log p of the columns of one kind, [B, columns of this group]."""
    places = columns.places(group.columns, packed.device)
    keep = None if keep is None else keep[:, places]
    numbers = columns.places(group.numbers, packed.device)
    p = packed[:, numbers].unflatten(1, (-1, group.width))
    if group.is_categorical:
        code = _codes(group, x, columns)
        if keep is not None:
            code, p = torch.where(keep, code, 0), torch.where(keep.unsqueeze(2), p, 0)
        return categorical.nll(code, p.movedim(2, 1))
    p, x = p.squeeze(2), x[:, places if columns.codes else numbers]
    s = logscale[..., places].expand(p.shape)
    if keep is not None:
        x, p, s = (torch.where(keep, t, 0) for t in (x, p, s))
    return _NLL[group.name](x, torch.tanh(p) if group.is_tanh else p, s)


def _codes(group: Group, x, columns):
    """The code of each categorical column, int64; -1 where x is no category."""
    if columns.codes:
        code = x[:, columns.places(group.columns, x.device)]
        possible = (code >= 0) & (code < group.width) & (code == code.floor())
        return torch.where(possible, code, -1).long()
    given = x[:, columns.places(group.numbers, x.device)].unflatten(1, (-1, group.width))
    possible = ((given == 1).sum(2) == 1) & ((given != 0).sum(2) == 1)
    return torch.where(possible, (given == 1).long().argmax(2), -1)


def mean(packed, columns: Columns):
    """E[x], of the shape of x. Of a categorical column: the probabilities, which are the mean of a one-hot x; with
    codes the code of the most probable category, because a mean of codes means nothing."""
    return _joined([_mean_of(group, packed, columns) for group in columns.groups], columns)


def _mean_of(group, packed, columns):
    p = packed[:, columns.places(group.numbers, packed.device)]
    if group.is_categorical:
        logits = p.unflatten(1, (-1, group.width))
        return logits.argmax(2).to(p.dtype) if columns.codes else logits.softmax(2).flatten(1)
    return _MEAN[group.name](torch.tanh(p) if group.is_tanh else p)


def sample(packed, logscale, columns: Columns, generator=None):
    """One draw of x for each row, of the shape of x."""
    return _joined([_sample_of(group, packed, logscale, columns, generator) for group in columns.groups], columns)


def _sample_of(group, packed, logscale, columns, generator):
    p = packed[:, columns.places(group.numbers, packed.device)]
    if group.is_categorical:
        probabilities = p.reshape(-1, group.width).softmax(1)
        code = torch.multinomial(probabilities, 1, generator=generator).view(-1, p.shape[1] // group.width)
        if columns.codes:
            return code.to(p.dtype)
        return torch.nn.functional.one_hot(code, group.width).flatten(1).to(p.dtype)
    s = logscale[..., columns.places(group.columns, packed.device)].expand(p.shape)
    if group.name == "bernoulli":
        return torch.bernoulli(torch.sigmoid(p), generator=generator)
    if group.name == "poisson":
        return torch.poisson(torch.exp(p), generator=generator)
    if group.name == "negative_binomial":  # a Poisson rate that has a gamma distribution
        gamma = torch._standard_gamma(s.exp(), generator=generator)  # pyright: ignore
        return torch.poisson(gamma * torch.exp(p - s), generator=generator)
    loc = torch.tanh(p) if group.is_tanh else p
    if group.name == "gaussian":
        return loc + s.exp() * torch.randn(p.shape, generator=generator, dtype=p.dtype, device=p.device)
    first, second = (torch.empty_like(p).exponential_(generator=generator) for _ in range(2))
    return loc + s.exp() * (first - second)


def _joined(parts, columns):
    """The parts of all groups, each [B, numbers of this group], in the order of x."""
    return torch.cat(parts, 1)[:, columns.order_of_x]


def triton_column(kind, x, number, logscale):
    """The value of a column of one number, and its derivatives by the number and by logscale. kind: its place in
    columns.KINDS, a scalar."""
    location, slope = number, number * 0.0 + 1.0
    if kind >= 5:
        location, slope = triton_tanh(number)
    value, by_number, by_logscale = location, location, number * 0.0
    if kind == 0 or kind == 5:
        value, by_number, by_logvar = gaussian.triton_nll(x, location, 2.0 * logscale)
        by_logscale = 2.0 * by_logvar
    if kind == 1 or kind == 6:
        value, by_number, by_logscale = laplace.triton_nll(x, location, logscale)
    if kind == 2:
        value, by_number = poisson.triton_nll(x, number)
    if kind == 3:
        value, by_number, by_logscale = negative_binomial.triton_nll(x, number, logscale)
    if kind == 4:
        value, by_number = bernoulli.triton_nll(x, number)
    return value, by_number * slope, by_logscale


def triton_tanh(x):
    """tanh(x) and its derivative, each to full relative accuracy."""
    twice = -2.0 * tl.abs(x)
    e = maths.exp_or_zero(twice)
    inverse = maths.reciprocal(1.0 + e)
    # far from 0 what 1 lacks is small, so nearly nothing is rounded but the difference
    size = tl.where(e < 0.25, 1.0 - 2.0 * e * inverse, -maths.expm1_nonpositive(twice) * inverse)
    return tl.where(x < 0.0, -size, size), 4.0 * e * inverse * inverse


def triton_category(top, total, logit):
    """The value of a categorical column, from the logit of x."""
    return categorical.triton_value(top, total, logit)


def triton_softmax(logits, top, scale):
    """The softmax of a categorical column, times a number; scale is this number divided by total."""
    return categorical.triton_softmax(logits, top, scale)
