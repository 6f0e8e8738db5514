"""The columns of a table for `--likelihood mixed`: of which kind a column is, and the way from a table to numbers and
back.

A column of text is categorical, and so is a column of at most FEW different integers. A column of 0 and 1 is bernoulli.
All other numbers are gaussian. `--columns` names another kind. A column with one value has no kind: it is "constant",
and the table that is written gets its value.
"""

import csv
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import UserError
from . import memory

FEW = 12  # different integers: at most so many are categories
LARGEST = 2**24  # of a count: float32 holds every integer up to here
NAMES = 50  # different texts: with more of them, a column whose rows are mostly different holds names
SCALED, COUNTS = ("gaussian", "laplace"), ("poisson", "negative_binomial")
KINDS = (*SCALED, *COUNTS, "bernoulli", "categorical", "skip")


def _said(value):
    """A name or a value in a message: on one line, and short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _option(name, kind):
    """The option that gives a column this kind."""
    plain = name.isprintable() and "," not in name and len(name) <= 60
    return f"--columns {name}={kind}" if plain else f"--columns with {kind} for this column"


class Column(NamedTuple):
    """A column of the training's table.

    kind        a name in KINDS but "skip", or "constant"
    categories  the values of a categorical, bernoulli or constant column; the code of a value is its place here
    mean, deviation  of a gaussian or laplace column in the rows to train on; the model sees (x - mean) / deviation
    whole       whether all numbers of the column are integers
    """

    name: str
    kind: str
    categories: tuple[Any, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0
    whole: bool = False

    @property
    def width(self) -> int:
        """How many numbers of a row belong to this column."""
        return {"categorical": len(self.categories), "constant": 0}.get(self.kind, 1)


def of_config(table):
    """The columns that config.json has."""
    return tuple(Column(**column | {"categories": tuple(column["categories"])}) for column in table)


def is_table(table):
    """Whether this is None, or the columns of a table as config.json has them."""
    return table is None or (isinstance(table, list) and bool(table) and all(map(_is_column, table)))


def _is_column(column):
    if not isinstance(column, dict) or column.keys() != set(Column._fields):
        return False
    values, kind = column["categories"], column["kind"]
    plain = isinstance(values, list) and all(isinstance(v, (str, int, float)) for v in values)
    plain = plain and len(set(values)) == len(values) and isinstance(column["whole"], bool)
    least, most = {"categorical": (2, math.inf), "bernoulli": (2, 2), "constant": (1, 1)}.get(kind, (0, 0))
    numbers = all(type(column[key]) in (int, float) and abs(column[key]) < 1e300 for key in ("mean", "deviation"))
    known = kind in (*KINDS, "constant") and kind != "skip" and isinstance(column["name"], str)
    return known and plain and least <= len(values) <= most and numbers and column["deviation"] > 0


def likelihood(columns):
    """The likelihood of these columns."""
    from ...likelihoods import Mixed

    return Mixed(tuple((c.kind, len(c.categories)) if c.kind == "categorical" else c.kind for c in modelled(columns)))


def modelled(columns):
    """The columns that are part of the model."""
    return tuple(column for column in columns if column.width)


def asked(text):
    """{column: kind} of --columns, such as 'visits=poisson,id=skip'. A name with a comma is in double quotes."""
    found = {}
    for cell in next(csv.reader([text or ""], skipinitialspace=True), []):
        name, sign, kind = cell.rpartition("=")
        if not sign or kind.strip() not in KINDS:
            kinds = ", ".join(KINDS)
            raise UserError(f"--columns: got {_said(cell)}, expected name=kind, where a kind is one of {kinds}")
        if name.strip() in found:
            raise UserError(f"--columns: got {_said(name.strip())} twice")
        found[name.strip()] = kind.strip()
    return found


# ---------------------------------------------------------------- which kind a column is


def recognised(frame, kinds: Mapping[str, str], train, source):
    """The columns of a table. kinds: those that --columns names. train: the places of the rows to train on."""
    names = list(map(str, frame.columns))
    if unknown := sorted(kinds.keys() - set(names)):
        has = ", ".join(map(_said, names[:9]))
        raise UserError(f"--columns: {source} has no column {_said(unknown[0])}; it has {has}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{source}: has two columns {_said(twice[0])}; expected a name for each column")
    pairs = [(name, frame.iloc[:, i]) for i, name in enumerate(names) if kinds.get(name) != "skip"]
    found = tuple(_column(name, series, kinds.get(name), train, source) for name, series in pairs)
    if not modelled(found):
        raise UserError(f"{source}: has no column that varies")
    return found


def _column(name, series, kind, train, source):
    where, values, skip = f"{source}: column {_said(name)}", _plain(series), _option(name, "skip")
    numbers = series.dtype.kind in "biuf"
    if series.dtype.kind not in "biufOUS" and str(series.dtype) not in ("category", "string", "str"):
        raise UserError(f"{where} has dtype {series.dtype}; turn it into numbers or text, or {skip}")
    if numbers and (empty := sum(v == "" for v in values)):
        raise UserError(f"{where} has {empty} empty cells; fill them or leave out their rows, or {skip}")
    if numbers and not np.isfinite(series.to_numpy(np.float64)).all():
        raise UserError(f"{where} has infinite numbers, expected finite ones")
    if other := [v for v in values if not isinstance(v, (str, int, float))]:
        raise UserError(f"{where} holds {_said(other[0])}, expected numbers or texts; {skip} leaves it out")
    categories = tuple(sorted(set(values), key=lambda v: (isinstance(v, str), v)))
    whole = numbers and all(v == math.floor(v) for v in categories)
    if kind is None:
        kind = _kind(categories, numbers, whole, len(values), name, where)
    if kind == "constant":
        return Column(name, kind, categories, whole=whole)
    if kind == "bernoulli":
        categories = (0, 1) if set(categories) <= {0, 1} and len(categories) == 1 else categories
        if len(categories) != 2:
            raise UserError(f"{_option(name, kind)}: {where} has {len(categories)} values, expected two")
        return Column(name, kind, categories, whole=whole)
    if kind == "categorical":
        if len(categories) < 2:
            raise UserError(f"{_option(name, kind)}: {where} has one value, expected at least two")
        return Column(name, kind, categories, whole=whole)
    if not numbers:
        raise UserError(f"{_option(name, kind)}: {where} holds text, expected numbers")
    if kind in COUNTS:
        if not whole or not 0 <= categories[0] <= categories[-1] <= LARGEST:
            raise UserError(f"{_option(name, kind)}: {where} holds other numbers than counts from 0 to {LARGEST}")
        return Column(name, kind, whole=True)
    rows = series.to_numpy(np.float64)[train]
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = float(rows.std())
    if not 0 < deviation < math.inf:
        came = "one value in the rows to train on" if deviation == 0 else "too large numbers"
        raise UserError(f"{where} has {came}; {skip} leaves it out")
    return Column(name, kind, mean=float(rows.mean()), deviation=deviation, whole=whole)


def _kind(categories, numbers, whole, rows, name, where):
    if len(categories) == 1:
        return "constant"
    if numbers and categories == (0, 1):
        return "bernoulli"
    if numbers:
        return "categorical" if whole and len(categories) <= FEW else "gaussian"
    if len(categories) > max(NAMES, rows / 2):
        skip, take = _option(name, "skip"), _option(name, "categorical")
        remedy = f"{skip} leaves the column out, and {take} takes it"
        raise UserError(
            f"{where} has {len(categories)} different texts in {rows} rows, which look like names; {remedy}"
        )
    return "categorical"


def _plain(series):
    """The values of a column as numbers, texts and "" for an empty cell."""
    empty = series.isna().to_numpy()
    values = series.to_numpy(object)
    return ["" if e else v.item() if hasattr(v, "item") else v for v, e in zip(values, empty, strict=True)]


# ---------------------------------------------------------------- from a table to numbers and back


def encoded(frame, columns, source):
    """(x, before): the rows as the model sees them, and with numbers that are not scaled; float32, [N, width]."""
    names = list(map(str, frame.columns))
    if missing := [c.name for c in modelled(columns) if c.name not in names]:
        raise UserError(f"{source}: has no column {_said(missing[0])}, which the training had")
    width = sum(column.width for column in columns)
    if (size := 8 * len(frame) * width) > memory():
        raise UserError(f"{source}: unpacks to {size:.3g} bytes, more than this machine has memory; skip a column")
    x, at = np.zeros((len(frame), width), np.float32), 0
    scaled = x.copy()
    for column in modelled(columns):
        part = slice(at, at + column.width)
        with np.errstate(over="ignore"):
            x[:, part] = _numbers(frame.iloc[:, names.index(column.name)], column, source)
        scaled[:, part] = x[:, part]
        if column.kind in SCALED:
            exact = frame.iloc[:, names.index(column.name)].to_numpy(np.float64)[:, None]
            with np.errstate(over="ignore", invalid="ignore"):
                scaled[:, part] = (exact - column.mean) / column.deviation
        if not np.isfinite(x[:, part] + scaled[:, part]).all():
            raise UserError(f"{source}: column {_said(column.name)} has numbers that float32 does not hold")
        at = part.stop
    return scaled, x


def _numbers(series, column, source):
    """[N, width]"""
    where = f"{source}: column {_said(column.name)}"
    if column.kind in (*SCALED, *COUNTS):
        numbers = series.to_numpy(np.float64) if series.dtype.kind in "biuf" else np.full(len(series), np.nan)
        good = np.isfinite(numbers)
        if column.kind in COUNTS:
            good &= (numbers >= 0) & (numbers == np.floor(numbers))
        if not good.all():
            expected = "counts" if column.kind in COUNTS else "finite numbers"
            came = _said(_plain(series)[int(np.argmin(good))]).replace("''", "an empty cell")
            raise UserError(f"{where} holds {came}, expected {expected}, as in the training")
        return numbers[:, None]
    code = {value: i for i, value in enumerate(column.categories)}
    values = _plain(series)
    if unknown := [value for value in values if value not in code]:
        raise UserError(f"{where} holds {_said(unknown[0])}, which the training's table has not")
    codes = np.array([code[value] for value in values])
    return codes[:, None] if column.kind == "bernoulli" else np.eye(len(code), dtype=np.float32)[codes]


def decoded(x, columns):
    """Rows [N, width] as a table with the columns and the values of the training's table: of several categories the
    one with the largest number. Where the training had integers only, numbers are rounded."""
    import pandas

    x, found, at = np.asarray(x, np.float64), {}, 0
    for column in columns:
        part, at = x[:, at : at + column.width], at + column.width
        if column.kind in (*SCALED, *COUNTS):
            numbers = part[:, 0] * column.deviation + column.mean
            found[column.name] = np.rint(numbers).astype(np.int64) if column.whole else numbers
            continue
        codes = {"constant": lambda part: np.zeros(len(part), int), "bernoulli": lambda part: part[:, 0] >= 0.5}
        code = codes.get(column.kind, lambda part: part.argmax(1))(part).astype(int)
        values = [column.categories[i] for i in code]
        found[column.name] = [int(v) for v in values] if column.whole and not isinstance(values[0], bool) else values
    return pandas.DataFrame(found)


def labels_of(frame, columns, names):
    """(int64 [N], the classes as texts) of the first column with one of these names that has categories; (None, [])
    without one. The column stays a part of the data."""
    import torch

    for column in columns:
        if column.name.lower() in names and column.kind in ("categorical", "bernoulli"):
            series = frame.iloc[:, list(map(str, frame.columns)).index(column.name)]
            codes = _numbers(series, column, "")
            codes = codes.argmax(1) if column.kind == "categorical" else codes[:, 0]
            return torch.from_numpy(codes.astype(np.int64)), list(map(str, column.categories))
    return None, []


def described(columns):
    """(kind, a text with the names of its columns) for each kind."""
    for kind in dict.fromkeys(column.kind for column in columns):
        mine = [column for column in columns if column.kind == kind]
        sizes = kind == "categorical"
        yield kind, ", ".join(f"{c.name} ({len(c.categories)})" if sizes else c.name for c in mine)
