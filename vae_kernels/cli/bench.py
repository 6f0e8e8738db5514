"""`vae-kernels bench`: reads the options, prints a table, and with --out writes a results file. vae_kernels/timing
measures."""

import sys
import warnings
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..formulas import ALL
from ..timing import results, suites
from ..timing.case import DIRECTIONS as WAYS
from ..timing.case import DTYPES, PARTS, Case, needed, parse_shape
from ..timing.check import WrongResult
from ..timing.clock import CPU, Gpu
from ..timing.contenders import OURS, known_modes
from ..timing.measure import Options, measure
from ..timing.table import LOSS, best_eager, cells, head, table
from . import UserError
from .audit import Likelihood

Suite = Enum("Suite", {name: name for name in (*suites.SUITES, "all")}, type=str)
Part = Enum("Part", {name: name for name in PARTS[:3]}, type=str)
Direction = Enum("Direction", {name: name for name in WAYS}, type=str)
Storage = Enum("Storage", {name: name for name in DTYPES if name != "uint8"}, type=str)
Target = Enum("Target", {name: name for name in DTYPES}, type=str)
Device = Enum("Device", {"cpu": "cpu", "cuda": "cuda"}, type=str)


_OWN, _HOW = {"rich_help_panel": "Your own case"}, {"rich_help_panel": "How to measure"}


def bench(
    context: typer.Context,
    suite: Annotated[Suite, typer.Argument(help="The suite to measure; all: every published result.")] = "shapes",
    shape: Annotated[
        list[str] | None,
        typer.Option(help="In place of a suite, batch x dims / latents: 128x784/20. Repeatable.", **_OWN),
    ] = None,
    likelihood: Annotated[Likelihood, typer.Option(help="Its likelihood.", **_OWN)] = "bernoulli",
    outputs: Annotated[
        int | None, typer.Option(min=1, help="How many of the likelihood's parameters the decoder gives.", **_OWN)
    ] = None,
    part: Annotated[
        Part, typer.Option(help="loss: without the sampling; nll: batch x dims alone.", **_OWN)
    ] = "objective",
    direction: Annotated[Direction, typer.Option(help="forward, backward, or both.", **_OWN)] = "both",
    incoming: Annotated[float, typer.Option(help="The gradient that reaches the loss.", **_OWN)] = 1.0,
    dtype: Annotated[Storage, typer.Option(help="Of the reconstruction and latents.", **_OWN)] = "float32",
    x: Annotated[Target, typer.Option(help="The dtype of the target.", **_OWN)] = "float32",
    seconds: Annotated[float, typer.Option(min=0.0, help="Seconds to measure each case.", **_HOW)] = 1.5,
    compile: Annotated[
        str | None, typer.Option(help="Modes of torch.compile, with commas, or none. Default: default.", **_HOW)
    ] = None,
    device: Annotated[Device, typer.Option(help="cpu or cuda.", **_HOW)] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: torch's number.", **_HOW)] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; the file of this device gets the rows.", **_HOW)
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only the cases that the file in --out lacks.", **_HOW)
    ] = False,
):
    """Time the objective beside eager PyTorch and torch.compile. Every result is checked before it is timed."""
    suite, likelihood, part = (str(getattr(o, "value", o)) for o in (suite, likelihood, part))
    direction, dtype, x, device = (str(getattr(o, "value", o)) for o in (direction, dtype, x, device))
    try:
        typed = {key for key in context.params if context.get_parameter_source(key).name == "COMMANDLINE"}
        _refuse_without_effect(typed, shape)
        if (names := suites.apart(suite)) and not shape:
            raise SystemExit(suites.run(names, [word for word in sys.argv[2:] if word != suite]))
        options = Options(Gpu() if device == "cuda" else CPU, seconds, modes=_modes(compile))
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: torch finds no CUDA device")
        if threads:
            torch.set_num_threads(threads)
        warnings.filterwarnings("ignore", "dynamo_pgo force disabled")
        torch.compiler.config.force_disable_caches = True  # so first_us includes a compilation, not a look-up
        settings = {"part": part, "likelihood": likelihood, "outputs": outputs or needed(likelihood)}
        settings |= {"direction": direction, "incoming": incoming, "dtype": dtype, "x": x}
        if missing and (shape or not out):
            raise UserError("--missing: has no effect without a suite and --out")
        name = torch.cuda.get_device_name() if device == "cuda" else None
        shared = results.where(" ".join(["vae-kernels", *sys.argv[1:]]), name)
        kept = results.of(results.file_of(out, shared["device"]), suite, shared["allocator"]) if missing else []
        known = {results.case(row) for row in kept}
        rows = _own(shape, settings, options) if shape else suites.rows_of(suite, options, known)
        show(rows, out, shared, kept)
    except (UserError, ValueError, WrongResult) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


WIDE = 1000  # columns: more than any table needs
SHAPE_OPTIONS = {"likelihood", "outputs", "part", "direction", "incoming", "dtype", "x"}


def _refuse_without_effect(typed, shape):
    """UserError for an option on the command line that would be ignored."""
    ignored = typed & ({"suite"} if shape else SHAPE_OPTIONS)
    if ignored:
        names = ", ".join(name if name == "suite" else f"--{name}" for name in sorted(ignored))
        raise UserError(f"{names}: has no effect {'with' if shape else 'without'} --shape")


def _modes(text):
    if text is None:
        return None
    modes = () if text == "none" else tuple(filter(None, text.split(",")))
    if unknown := set(modes) - set(known_modes()):
        expected = f"some of {', '.join(known_modes())}, or none"
        raise UserError(f"--compile: got {', '.join(sorted(unknown))}, expected {expected}")
    return modes


def _own(shapes, settings, options):
    if options.modes is None:
        options = replace(options, modes=("default",))
    cases = [replace(Case(*parse_shape(text, settings["part"])), **settings) for text in shapes]
    for case in cases:
        names = ALL[case.likelihood].PARAMETERS
        if not needed(case.likelihood) <= case.outputs <= len(names):
            raise UserError(f"--outputs: got {case.outputs}, but {case.likelihood} has {', '.join(names)}")
    return ([{"suite": "own"} | row for row in measure(case, options)] for case in cases)


def show(cases, out, shared, kept=()):
    """Print each case when it is measured. With --out, write its rows too, if other programs did not disturb.

    shared: the columns that all rows share (results.where). kept: the rows of the suite that stay in the file.
    """
    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
    where = f"{shared['device']}, PyTorch {shared['torch']}, malloc: {shared['allocator']}, {shared['commit']}"
    console.print(where, soft_wrap=not console.is_terminal)
    rows = list(kept)
    for case in cases:
        if console.is_terminal:
            console.print("", Text(head(case), "bold"), as_table(case, console.width), sep="\n", soft_wrap=False)
        else:
            console.print(table(case))
        if not results.quiet(case):
            most = max(row["disturbed"] or 0.0 for row in case)
            text = f"other programs disturbed up to {most:.0%} of the runs"
            console.print(text + ": not written; --missing measures this case again" * bool(out), style="yellow")
        elif out:  # after each case, so that an interrupted run keeps the cases before
            rows += [row | shared for row in case]
            results.merge(results.file_of(out, shared["device"]), rows)


def as_table(case, width):
    """The rows of a case as a table. The last columns are left out where `width` is too narrow for them."""
    best = best_eager(case)
    found = [cells(row, best) for row in case]
    columns = list(dict.fromkeys(name for row in found for name in row))
    for count in range(len(columns), 0, -1):
        made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name, side in (("", "left"), ("written as", "left"), *((name, "right") for name in columns[:count])):
            made.add_column(name, justify=side, no_wrap=True)
        for i, (row, texts) in enumerate(zip(case, found, strict=True)):
            kind = f"loss, {row['kind']}" if row["part"] == LOSS else row["kind"]
            same = i and (row["kind"], row["part"]) == (case[i - 1]["kind"], case[i - 1]["part"])
            style = "bold" if row["kind"] == OURS else "red" if row["median_us"] is None else ""
            made.add_row("" if same else kind, row["name"], *[texts.get(n, "") for n in columns[:count]], style=style)
        if Console(width=WIDE).measure(made).maximum <= width:
            break
    return made
