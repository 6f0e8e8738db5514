"""The columns of a table: what the model knows of each column, in comparison with the distribution of the column
alone."""

import math
from dataclasses import dataclass
from itertools import groupby

import torch

from .. import densities, functional
from ..likelihoods import Mixed
from . import quantities

SCALED = "gaussian", "laplace"
FEW = 2.0  # standard errors: a gain below so many is no gain


@dataclass(frozen=True)
class ColumnFit:
    """A column of a table, measured with one draw of the posterior of each row. Nats are per row.

    number   the place of the column in the table, from 0
    kind     the likelihood of the column: "gaussian", ...
    nll      -log p of the column, given z
    alone    -log p of the column under the trivial model: one distribution, which is the same for all rows
    error    the standard error of the difference over the rows
    """

    number: int
    kind: str
    nll: float
    alone: float
    error: float

    @property
    def gain(self) -> float:
        """What z tells about the column, in nats."""
        return self.alone - self.nll

    @property
    def explained(self) -> bool:
        """Whether the model knows more of the column than its distribution."""
        return self.gain > FEW * self.error


def kinds_of(likelihood: Mixed) -> list[str]:
    """The likelihood of each column."""
    return [column if isinstance(column, str) else column[0] for column in likelihood.columns]


def numbers_of(likelihood: Mixed) -> list[int]:
    """The places in x of the columns on the whole line, whose scales can be compared."""
    kinds = kinds_of(likelihood)
    return [place for place, column in enumerate(likelihood.plan.column_of_x) if kinds[column] in SCALED]


def constants(likelihood, x, weight, given):
    """{"packed": [1, W], "logscale": [1, C]} of the trivial model, in float64: the distribution of each column alone,
    by maximum likelihood or by moments. One row is added, so that no value is impossible that was not seen. logscale is
    left out if the model has none. weight: None, or the mask of x in the shape of x."""
    packed, scales, at = [], [], 0
    for kind, column, (_, width, _) in zip(kinds_of(likelihood), likelihood.columns, likelihood.plan.rows, strict=True):
        wide = 1 if likelihood.codes else width
        values, at = x[:, at : at + wide].double(), at + wide
        if weight is not None:
            values = values[weight[:, at - 1]]
        first, scale = _constants(kind, values, width)
        tanh = isinstance(column, tuple) and column[1] == "tanh"
        packed.append(torch.atanh(first.clamp(-0.999, 0.999)) if tanh else first)
        scales.append(scale)
    found = {"packed": torch.cat(packed)[None]}
    return found | ({"logscale": torch.stack(scales)[None]} if "logscale" in given else {})


def _constants(kind, values, width):
    """(the decoder's numbers [width], logscale []) of one column from its values [n, 1], or [n, K] of a category."""
    zero, n = values.new_zeros(()), max(1, len(values))
    if kind == "categorical":
        seen = values.sum(0) if values.shape[1] == width else torch.bincount(values[:, 0].long(), minlength=width)
        return ((seen + 1 / width) / (n + 1)).log().to(values), zero
    values = values[:, 0] if len(values) else values.new_zeros(1)
    if kind == "bernoulli":
        return torch.logit((values.sum() + 0.5) / (n + 1))[None], zero
    if kind in SCALED:
        middle = values.median() if kind == "laplace" else values.mean()
        away = (values - middle).abs().mean() if kind == "laplace" else values.std(correction=0)
        return middle[None], away.clamp(min=1e-6).log()
    mean = (values.sum() + 0.5) / (n + 1)
    more = (values.var(correction=0) - mean).clamp(min=1e-9)
    return mean.log()[None], (mean.square() / more).log().clamp(-20, 20)


def measured(model, x, train, batch_size, generator, given):
    """A ColumnFit for each column of a table x [N, ...]; () for another likelihood. train: the rows of the trivial
    model, or None for x itself."""
    if not isinstance(model.likelihood, Mixed):
        return ()
    options = {"likelihood": model.likelihood, "backend": model.backend}
    parts = []
    for rows in x.split(batch_size):
        z = functional.reparameterize(*model.encode(rows), generator=generator, backend=model.backend)
        parts.append(-densities.log_prob(model.decode(z), rows, **options).double())
    own = torch.cat(parts)
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    trivial = constants(model.likelihood, x if train is None else train, None, given)
    recon = {name: t.to(dtype).expand(len(x), -1) for name, t in trivial.items()}
    alone = -densities.log_prob(recon, x, **options).double()
    errors = (alone - own).std(0) / math.sqrt(len(x))
    columns = zip(
        kinds_of(model.likelihood), own.mean(0).tolist(), alone.mean(0).tolist(), errors.tolist(), strict=True
    )
    return tuple(ColumnFit(number, *values) for number, values in enumerate(columns))


def by_kind(columns, names=()):
    """[(kind, [the texts of row() for each column])], the least explained column of a kind first. names: those of all
    columns, or () for numbers."""
    found = []
    for kind, mine in groupby(sorted(columns, key=lambda c: (c.kind, c.gain)), key=lambda c: c.kind):
        found.append((kind, [row(column, names) for column in mine]))
    return found


def row(column, names):
    """The texts of a column: name, nats, nats alone, gain, verdict."""
    name = names[column.number] if names else f"column {column.number}"
    gain = quantities.plain(f"{column.gain:+.3f} +- {column.error:.3f}")
    return name, f"{column.nll:.3f}", f"{column.alone:.3f}", gain, "" if column.explained else "not explained"


def least(columns, names, most=5):
    """A sentence on the columns of which the model knows nothing, or ""."""
    poor = sorted((c for c in columns if not c.explained), key=lambda c: c.gain)
    if not poor:
        return ""
    shown = ", ".join(row(column, names)[0] for column in poor[:most]) + (", ..." if len(poor) > most else "")
    return f"{len(poor)} of {len(columns)} columns are explained no better than by their own distribution: {shown}"
