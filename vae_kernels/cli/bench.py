"""`vae-kernels bench`: options in, a table out, and with --out a results file. What measures is vae_kernels/timing."""

import sys
import warnings
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from ..formulas import ALL
from ..timing import results, suites
from ..timing.case import DIRECTIONS as WAYS
from ..timing.case import DTYPES, PARTS, Case, needed, parse_shape
from ..timing.check import WrongResult
from ..timing.clock import CPU, Gpu
from ..timing.measure import Options, measure
from ..timing.table import table
from . import UserError

Suite = Enum("Suite", {name: name for name in (*suites.SUITES, "all")}, type=str)
Likelihood = Enum("Likelihood", {name: name for name in ALL}, type=str)
Part = Enum("Part", {name: name for name in PARTS[:3]}, type=str)
Direction = Enum("Direction", {name: name for name in WAYS}, type=str)
Storage = Enum("Storage", {name: name for name in DTYPES if name != "uint8"}, type=str)
Target = Enum("Target", {name: name for name in DTYPES}, type=str)
Device = Enum("Device", {"cpu": "cpu", "cuda": "cuda"}, type=str)


def bench(
    context: typer.Context,
    suite: Annotated[Suite, typer.Argument(help="What to show; all: the published results.")] = "shapes",
    shape: Annotated[
        list[str] | None, typer.Option(help="Your own, batch x dims / latents: 128x784/20. Repeatable; no suite then.")
    ] = None,
    likelihood: Annotated[Likelihood, typer.Option(help="Of --shape.")] = "bernoulli",
    outputs: Annotated[int | None, typer.Option(min=1, help="How many of its parameters the decoder gives.")] = None,
    part: Annotated[
        Part, typer.Option(help="Of --shape; loss: without the sampling; nll: batch x dims alone.")
    ] = "objective",
    direction: Annotated[Direction, typer.Option(help="Of --shape.")] = "both",
    incoming: Annotated[float, typer.Option(help="Gradient that reaches the loss, of --shape.")] = 1.0,
    dtype: Annotated[Storage, typer.Option(help="Of the reconstruction and the latents, of --shape.")] = "float32",
    x: Annotated[Target, typer.Option(help="Of the target, of --shape.")] = "float32",
    seconds: Annotated[float, typer.Option(min=0.0, help="Of measuring, for each case.")] = 1.5,
    compile: Annotated[
        str | None, typer.Option(help="Modes of torch.compile, by commas; none leaves it out. Default: default.")
    ] = None,
    device: Annotated[Device, typer.Option()] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: what torch takes.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; its file of this device gets the rows.")] = None,
):
    """Time the objective beside eager PyTorch and torch.compile. Every result is checked before it is timed."""
    suite, likelihood, part = (str(getattr(o, "value", o)) for o in (suite, likelihood, part))
    direction, dtype, x, device = (str(getattr(o, "value", o)) for o in (direction, dtype, x, device))
    try:
        given = {key for key in context.params if context.get_parameter_source(key).name == "COMMANDLINE"}
        _without_effect(given, shape)
        if (names := suites.apart(suite)) and not shape:
            raise SystemExit(suites.run(names, [word for word in sys.argv[2:] if word != suite]))
        options = Options(Gpu() if device == "cuda" else CPU, seconds, modes=_modes(compile))
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: torch finds no CUDA device")
        if threads:
            torch.set_num_threads(threads)
        warnings.filterwarnings("ignore", "dynamo_pgo force disabled")
        torch.compiler.config.force_disable_caches = True  # first_us is of a compilation, not of a look-up
        settings = {"part": part, "likelihood": likelihood, "outputs": outputs or needed(likelihood)}
        settings |= {"direction": direction, "incoming": incoming, "dtype": dtype, "x": x}
        rows = _own(shape, settings, options) if shape else suites.rows_of(suite, options)
        show(rows, out, device)
    except (UserError, ValueError, WrongResult) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


OF_SHAPE = {"likelihood", "outputs", "part", "direction", "incoming", "dtype", "x"}


def _without_effect(given, shape):
    """An option that would be ignored is an error."""
    lost = given & ({"suite"} if shape else OF_SHAPE)
    if lost:
        names = ", ".join(name if name == "suite" else f"--{name}" for name in sorted(lost))
        raise UserError(f"{names}: has no effect {'with' if shape else 'without'} --shape")


def _modes(text):
    if text is None:
        return None
    known = ("default", "reduce-overhead", "max-autotune")
    modes = tuple(filter(None, text.replace("none", "").split(",")))
    if unknown := set(modes) - set(known):
        raise UserError(f"--compile: got {', '.join(sorted(unknown))}, expected some of {', '.join(known)}, or none")
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


def show(cases, out, device):
    """Print each case when it is measured, and write it if there is a place for it."""
    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
    name = torch.cuda.get_device_name() if device == "cuda" else None
    shared = results.where(" ".join(["vae-kernels", *sys.argv[1:]]), name)
    console.print(f"{shared['device']}, PyTorch {shared['torch']}, malloc: {shared['allocator']}, {shared['commit']}")
    rows = []
    for case in cases:
        rows += [row | shared for row in case]
        console.print(table(case))
        if out:  # after each case: an interrupted run keeps what it has
            results.merge(results.file_of(out, shared["device"]), rows)
