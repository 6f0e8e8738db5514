"""`vae-kernels doctor RUN`: what is well and what is ill with a run of `vae-kernels train`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..diagnose import diagnose
from . import UserError, checkpoint
from .build import build
from .data import load
from .options import check_options

COLOURS = {"healthy": "green", "watch": "yellow", "ill": "red"}


def doctor(
    run: Annotated[Path, typer.Argument(help="A folder that `vae-kernels train` has made.")],
    samples: Annotated[int, typer.Option(min=2, help="How many held-out samples to look at.")] = 1000,
):
    """Judge a trained model: collapse, holes, blur, effective beta. The exit code is 1 if something is ill."""
    try:
        diagnosis = examine(run, samples)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    show(diagnosis, run)
    raise SystemExit(int(diagnosis.level == "ill"))


def examine(run, samples):
    """The Diagnosis of a run, on its held-out data, on the CPU."""
    config = checkpoint.load_config(run)
    check_options(config, run / checkpoint.CONFIG)
    try:
        data = load(config["data"], config["likelihood"])
        model = build(config | {"backend": "auto"}, data)
        model.load_state_dict(load_file(run / checkpoint.MODEL))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise UserError(f"{run} cannot be read as a run ({str(error).splitlines()[0]})") from error
    if data.describe() != config.get("found"):
        raise UserError(f"{data.source} has changed since {run} was trained")
    try:
        return diagnose(model, data.images[data.split()[1][:samples]])
    except ValueError as error:
        raise UserError(str(error)) from error


def show(diagnosis, run):
    console = Console(highlight=False, emoji=False)
    m = diagnosis.measures
    table = Table(title=f"{run}: {m.samples} held-out samples, {m.latents} latents", title_justify="left")
    for column in ("symptom", "verdict", "evidence, cause, and what to try"):
        table.add_column(column)
    for v in diagnosis.verdicts:
        text = v.evidence + (f"\ncause: {v.cause}\ntry: {v.advice}" if v.cause else "")
        table.add_row(v.symptom, f"[{COLOURS[v.level]}]{v.level}[/]", text.replace("[", r"\["), end_section=True)
    console.print(table)
