"""The columns of a table: what each column is, and where its numbers lie. formulas/mixed.py has the maths.

A column is the name of a likelihood, or a pair of this name and an option:

    "gaussian", "laplace", "poisson", "negative_binomial", "bernoulli"      one number of the decoder's output
    ("gaussian", "tanh"), ("laplace", "tanh")                               one number; the location is its tanh
    ("categorical", K)                                                      K numbers, the logits of K categories
"""

from collections.abc import Iterable
from numbers import Integral
from typing import Any, NamedTuple, TypeAlias

import torch

Column: TypeAlias = str | tuple[str, str | int]
"""One column, as the user writes it."""

# The number of a kind is its place here. The kernels read these numbers (csrc/formulas/mixed.h).
KINDS: tuple[Column, ...] = (
    "gaussian",
    "laplace",
    "poisson",
    "negative_binomial",
    "bernoulli",
    ("gaussian", "tanh"),
    ("laplace", "tanh"),
    "categorical",
)
_CATEGORICAL = len(KINDS) - 1
_MOST = 1 << 24  # categories: float32 holds every code

_EXPECTED = (
    'one of "gaussian", "laplace", "poisson", "negative_binomial", "bernoulli", ("gaussian", "tanh"), '
    '("laplace", "tanh"), ("categorical", K)'
)


def parsed(columns: Iterable[Any]) -> tuple[Column, ...]:
    """The columns as a tuple of names and pairs. Lists, as json makes them, become tuples. ValueError or TypeError for
    what is no column."""
    if isinstance(columns, (str, torch.Tensor)) or not isinstance(columns, Iterable):
        raise TypeError(f"columns: got {type(columns).__name__}, expected a sequence of columns, each {_EXPECTED}")
    found = tuple(_column(i, column) for i, column in enumerate(columns))
    if not found:
        raise ValueError("columns: got no column, expected at least one")
    return found


def _column(i, column):
    column = tuple(column) if isinstance(column, (tuple, list)) else column
    if isinstance(column, str) and column != "categorical" and column in KINDS:
        return column
    if isinstance(column, tuple) and len(column) == 2:
        name, option = column
        if name == "categorical":
            if isinstance(option, bool) or not isinstance(option, Integral):
                raise TypeError(f"columns[{i}]: got {column!r}, expected an integer, the number of categories")
            if not 2 <= int(option) <= _MOST:
                raise ValueError(f"columns[{i}]: got {column!r}, expected 2 to {_MOST} categories")
            return name, int(option)
        if isinstance(name, str) and isinstance(option, str) and column in KINDS:
            return column
    raise ValueError(f"columns[{i}]: got {column!r}, expected {_EXPECTED}")


class Group(NamedTuple):
    """All columns of one kind and width.

    kind     a place in KINDS
    columns  the places of the columns in the table
    numbers  the places of their numbers in the decoder's output, and in x where x has them one-hot
    """

    kind: int
    width: int
    columns: tuple[int, ...]
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the likelihood of one column."""
        kind = KINDS[self.kind]
        return kind if isinstance(kind, str) else kind[0]

    @property
    def is_categorical(self) -> bool:
        return self.kind == _CATEGORICAL

    @property
    def is_tanh(self) -> bool:
        return isinstance(KINDS[self.kind], tuple)


class Columns:
    """The plan of a table: an object of vae_kernels.likelihoods.Mixed makes it once.

    given    the columns, as parsed() gives them
    codes    whether x has one number for each column, the code of a category among them
    count    how many columns there are: C
    width    how many numbers the decoder gives: W
    x_width  how many numbers x has: C with codes, else W
    groups   the columns by kind and width
    most_categories  the largest number of categories of a column, or 0
    column_of_x      for each number of a row of x the column that it belongs to
    order_of_x       for each number of a row of x its place in the order of the groups
    """

    likelihood = "mixed"

    def __init__(self, given: tuple[Column, ...], codes: bool) -> None:
        self.given, self.codes, self.count = given, codes, len(given)
        self.rows: list[tuple[int, int, int]] = []
        at = 0
        for column in given:
            categorical = isinstance(column, tuple) and column[0] == "categorical"
            width = int(column[1]) if categorical else 1
            self.rows.append((_CATEGORICAL if categorical else KINDS.index(column), width, at))
            at += width
        self.width = at
        self.x_width = self.count if codes else at
        self.groups = self._grouped()
        self.most_categories = max((group.width for group in self.groups if group.is_categorical), default=0)
        self.column_of_x = [c for c, (_, width, _) in enumerate(self.rows) for _ in range(1 if codes else width)]
        places = [place for group in self.groups for place in group.columns]
        self._order = sorted(range(self.count), key=places.__getitem__)
        places = [place for group in self.groups for place in (group.columns if codes else group.numbers)]
        self.order_of_x = sorted(range(self.x_width), key=places.__getitem__)
        self._tensors: dict[Any, torch.Tensor] = {}

    def _grouped(self):
        found: dict[tuple[int, int], list[int]] = {}
        for place, (kind, width, _) in enumerate(self.rows):
            found.setdefault((kind, width), []).append(place)
        numbers = {of: tuple(self.rows[c][2] + k for c in cs for k in range(of[1])) for of, cs in found.items()}
        return tuple(Group(*of, tuple(places), numbers[of]) for of, places in found.items())

    def table(self, device: torch.device) -> torch.Tensor:
        """int64 [C, 3], what the kernels read of each column: kind, width, and the place of its first number."""
        return self._kept("table", self.rows, device)

    def order(self, device: torch.device) -> torch.Tensor:
        """For each column its place in the order of the groups: int64 [C]."""
        return self._kept("order", self._order, device)

    def places(self, of: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """The places `columns` or `numbers` of a group, as a tensor."""
        return self._kept(of, of, device)

    def _kept(self, key, values, device):
        """The values as a tensor that is made once for each device: a copy to a GPU would wait."""
        if torch.compiler.is_compiling():
            return torch.tensor(values, dtype=torch.int64, device=device)
        found = self._tensors.get((key, device))
        if found is None:
            with torch.inference_mode(False):
                found = self._tensors[key, device] = torch.tensor(values, dtype=torch.int64, device=device)
        return found
