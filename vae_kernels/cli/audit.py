"""`vae-kernels audit FILE.py:FUNCTION`: which objective a loss in a file computes."""

import importlib
import importlib.util
import math
import operator
import sys
import traceback
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import auditing
from ..formulas import ALL
from ..timing.case import Case, draw, needed
from . import UserError

Likelihood = Enum("Likelihood", {name: name for name in ALL}, type=str)
COLOURS = {"wrong": "bold red", "note": "yellow", "fine": "green"}
_EXAMPLE = {"rich_help_panel": "The example"}


def audit(
    loss: Annotated[
        str, typer.Argument(help="FILE.py:FUNCTION or MODULE:FUNCTION, a function of recon, x, mu and logvar.")
    ],
    shape: Annotated[
        str, typer.Option(help="Batch x dims / latents; images: 16x1x28x28/20.", **_EXAMPLE)
    ] = "16x784/20",
    likelihood: Annotated[
        Likelihood, typer.Option(help="What recon and x are like; bernoulli: logits, and x of 0 and 1.", **_EXAMPLE)
    ] = "bernoulli",
    outputs: Annotated[
        int | None, typer.Option(min=1, help="How many of the likelihood's parameters recon has.", **_EXAMPLE)
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="recon is in [0, 1], after a sigmoid.", **_EXAMPLE)
    ] = False,
    example: Annotated[
        str | None,
        typer.Option(
            help="Yours: a tuple (recon, x, mu, logvar) in the file, or a function that gives one.", **_EXAMPLE
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(help="A function step(loss) in the file that trains for one step: the share and the gain there."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page to this file.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the random values.")] = 0,
):
    """Say which objective a loss of yours computes, effective beta included. The exit code is 1 if something is wrong.

    The file is run as Python, and the loss is called about fifty times. With --step, the model of the file trains for
    some hundred steps.
    """
    try:
        found = _find(loss)
        tensors = drawn(shape, str(getattr(likelihood, "value", likelihood)), outputs, probabilities, seed)
        if example is not None:
            tensors = _guarded(lambda: _own(_attribute(found[0], example, "--example")), found[0])
        train = None if step is None else _attribute(found[0], step, "--step")
        result = _guarded(lambda: auditing.audit(found[1], tensors, step=train, seed=seed), found[0])
        if html is not None:
            _write(html, result.html(f"Audit of {loss.rpartition(':')[2]}"))
    except (UserError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    show(result, Console(highlight=False, soft_wrap=True, emoji=False, markup=False))
    raise SystemExit(int(any(level == "wrong" for level, _ in result.findings)))


def drawn(shape, likelihood="bernoulli", outputs=None, probabilities=False, seed=0):
    """Random (recon, x, mu, logvar) of this shape, in the range that they have in a model in training."""
    try:
        left, latents = shape.split("/")
        batch, *dims = map(int, left.split("x"))
        if not dims or min(batch, *dims, int(latents)) < 1:
            raise ValueError
    except ValueError:
        raise UserError(f"--shape: got {shape!r}, expected batch x dims / latents: 16x784/20, 16x1x28x28/20") from None
    names, least = ALL[likelihood].PARAMETERS, needed(likelihood)
    outputs = least if outputs is None else outputs
    if not least <= outputs <= len(names):
        raise UserError(f"--outputs: got {outputs}, but {likelihood} has {', '.join(names)}")
    if probabilities and likelihood != "bernoulli":
        raise UserError(f"--probabilities: has no effect with --likelihood {likelihood}, expected bernoulli")
    levels = "uint8" if ALL[likelihood].SUPPORT == "levels" else "float32"
    found = draw(Case(batch, math.prod(dims), int(latents), "objective", likelihood, outputs, x=levels), seed)
    x = found.x.round() if likelihood == "bernoulli" else found.x
    whole = lambda t: t.reshape(*t.shape[:-1], *dims) if t.shape[-1:] == (math.prod(dims),) else t  # noqa: E731
    recon = tuple(whole(t.sigmoid() if probabilities else t) for t in found.params)
    return recon[0] if len(recon) == 1 else recon, whole(x), found.mu, found.logvar


def show(result, console):
    """Print an Audit: as its own text, and on a terminal as a table."""
    text = str(result)
    if not console.is_terminal:
        console.print(text)
        return
    head, *lines = text.splitlines()
    console.print(head, style="bold", soft_wrap=False)
    table = Table.grid(padding=(0, 2), pad_edge=False)
    for level, sentence in result.findings:
        table.add_row(Text(f"  {level}", COLOURS[level]), sentence)
    console.print("", table, sep="\n", soft_wrap=False)
    for line in lines[1 + len(result.findings) :]:
        console.print(Text(line, "cyan" if line.startswith(" ") else ""), soft_wrap=line.startswith(" "))


def _find(loss):
    """(the module, the function) that "FILE.py:FUNCTION" or "MODULE:FUNCTION" names."""
    place, _, name = loss.rpartition(":")
    if not place or not name:
        raise UserError(f"loss: got {loss!r}, expected FILE.py:FUNCTION or MODULE:FUNCTION")
    file = place.endswith(".py")
    if file and not Path(place).is_file():
        raise UserError(f"loss: {place}: no such file")
    sys.path.insert(0, str(Path(place).resolve().parent if file else Path.cwd()))  # as Python does with a script
    module = _guarded(lambda: _run(place) if file else importlib.import_module(place), place)
    found = _attribute(module, name, "loss")
    if not callable(found):
        raise UserError(f"loss: {name} is a {type(found).__name__}, expected a function of recon, x, mu and logvar")
    return module, found


def _run(place):
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as an import does: a dataclass looks for its module there
    spec.loader.exec_module(module)
    return module


def _attribute(module, name, argument):
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        raise UserError(f"{argument}: {module.__file__} has no {name}") from None


def _write(path, page):
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html: {path}: {error.strerror}") from None


def _own(example):
    return example() if callable(example) else example


def _guarded(work, source):
    """The result of work(). An error of the user's code is one sentence with its line."""
    try:
        return work()
    except UserError:
        raise
    except Exception as error:
        place = Path(getattr(source, "__file__", source)).resolve()
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == place]
        if not lines:  # vk.audit refuses the example or the result
            raise UserError(f"{type(error).__name__}: {error}") from error
        hint = "; is the example like yours? --shape, --likelihood, --probabilities, --example"
        hint = hint if isinstance(source, type(sys)) else ""
        raise UserError(f"{place.name}:{lines[-1]}: {type(error).__name__}: {error}{hint}") from error
