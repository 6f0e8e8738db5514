"""The sinks of Monitor: a CSV file, TensorBoard, a callable. A sink is a function that takes a row."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol


class Writer(Protocol):
    """A SummaryWriter of TensorBoard, or another object with this method."""

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None) -> object: ...


Sink = str | Path | Writer | Callable[[dict[str, Any]], object]


def sinks(to):
    """The list of functions for Monitor's `to`."""
    several = to if isinstance(to, (list, tuple)) else [to]
    return [_sink(one) for one in several]


def _sink(to):
    if isinstance(to, (str, Path)):
        if Path(to).suffix != ".csv":
            raise ValueError(f"to: got {str(to)!r}, expected a path that ends in .csv")
        return Csv(to)
    if hasattr(to, "add_scalar"):
        return lambda row: tensorboard(to, row)
    if callable(to):
        return to
    raise TypeError(f"to: got {type(to).__name__}, expected a .csv path, a SummaryWriter, a callable, or a list")


NEEDED = ("step", "loss", "nll", "kl")  # every row has these
SOMETIMES = ("active_units", "logvar_min", "logvar_max", "saturated", "problem")


LISTS = {"kl_per_dim": "kl_dim", "kl_per_group": "kl_group"}  # the name in a row -> that of its columns in a file


class Csv:
    """Appends rows to a file. kl_per_dim has one column for each dimension, and kl_per_group one for each group.

    A row that lacks a column of the file has an empty field there. A row with a figure that the first row lacked, such
    as active_units, adds a column. ValueError if the file has other columns; the file is then not changed.
    """

    def __init__(self, path):
        self.path = Path(path)

    def __call__(self, row):
        flat = {name: value for name, value in row.items() if name not in LISTS}
        for name, column in LISTS.items():
            flat |= {f"{column}_{i}": value for i, value in enumerate(row.get(name, ()))}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            header = next(csv.reader(file), None)
            if header is not None:
                new = [name for name in flat if name not in header]
                if not set(NEEDED) <= set(header) or not set(new) <= set(SOMETIMES):
                    raise ValueError(
                        f"to: {self.path} has other columns, {header}; expected {list(flat)}, or a new file"
                    )
                if new:
                    header = self._widened(header + new)
            writer = csv.DictWriter(file, header or flat, restval="", lineterminator="\n")
            if header is None:
                writer.writeheader()
            writer.writerow(flat)

    def _widened(self, header):
        """Write the file again, with more columns."""
        with open(self.path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with open(self.path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return header


def tensorboard(writer, row):
    """Write vae/<name> for each number, vae/kl_per_dim/<i> for each dimension, vae/kl_per_group/<i> for each group, and
    the sentences as text."""
    for name, value in row.items():
        if name in LISTS:
            for i, nats in enumerate(value):
                writer.add_scalar(f"vae/{name}/{i}", nats, row["step"])
        elif name in ("first_nonfinite", "problem"):
            if value and hasattr(writer, "add_text"):
                writer.add_text(f"vae/{name}", value, row["step"])
        elif name != "step":
            writer.add_scalar(f"vae/{name}", value, row["step"])
