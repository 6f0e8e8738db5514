"""`vae-kernels doctor RUN`: judges a run of `vae-kernels train`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..doctor import beside, columns, diagnose, words
from ..doctor.report import page
from . import UserError, checkpoint
from .facts import facts_of
from .restore import data_of, model_of, options_of

REPORT, BESIDE, SAMPLES = "report.html", "beside.html", 1000
COLOURS = {"healthy": "green", "watch": "yellow", "ill": "red"}


def doctor(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN [RUN]", help="A folder that `vae-kernels train` has made; two are compared."),
    ],
    data: Annotated[
        str | None, typer.Option(help="Where the data of the run lie now. Default: where the training found the data.")
    ] = None,
    samples: Annotated[int, typer.Option(min=2, help="How many held-out samples to look at.")] = SAMPLES,
    html: Annotated[
        Path | None,
        typer.Option(help="Where the report goes. Default: report.html in the run; for two runs, beside.html."),
    ] = None,
):
    """Judge a trained model: collapse, holes, blur, effective beta. The exit code is 1 if something is ill."""
    try:
        if len(runs) > 2:
            raise UserError(f"RUN: got {len(runs)} folders, expected one, or two to compare")
        judged = [_judged(run, samples, data) for run in runs]
        if len(judged) == 2:
            html = runs[0] / BESIDE if html is None else html
            facts = [facts_of(run, diagnosis) for run, diagnosis in zip(runs, judged, strict=True)]
            checkpoint.write(html, beside.page(judged, _names(runs), facts))
        else:
            html = runs[0] / REPORT if html is None else html
            write(html, judged[0], runs[0])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"report with figures: {html}")
    raise SystemExit(int(any(diagnosis.level == "ill" for diagnosis in judged)))


def _judged(run, samples, data):
    """The Diagnosis of a run, which is also printed. Exit code 1 if the model is not finite: it has no figures."""
    diagnosis, epochs = examine(run, samples, data)
    if not diagnosis.finite:
        print(f"ill: {run} holds no finite model{_since(epochs)}: {sentence(diagnosis)}")
        raise SystemExit(1)
    show(diagnosis, run)
    return diagnosis


def _names(runs):
    """The names of two runs; their paths, if the names are alike."""
    names = [run.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def write(html, diagnosis, run):
    """Write the report of a run."""
    checkpoint.write(html, page(diagnosis, f"Run {run.resolve().name}", facts_of(run, diagnosis)))


def sentence(diagnosis):
    """What is not finite, and what to do about it, with the verdict on the data before any other."""
    broken, data, *_ = diagnosis.verdicts
    advice = broken.advice if data.level == "healthy" else f"{data.evidence}: {data.advice}"
    return f"{broken.evidence}; {advice}"


def _since(epochs):
    return f" after its {epochs} epochs" if epochs else ", and has finished no epoch"


def examine(run, samples, place=None, data=None):
    """(the Diagnosis of a run on its held-out data, on the CPU; the number of its epochs)

    place: where the data lie now; None for the place in config.json. data: the data, if they are read already.
    """
    config = options_of(run)
    if data is None:
        data = data_of(run, config if place is None else config | {"data": place})
    model = model_of(run, config)
    known, rows = (part[:samples] for part in data.split())
    history = checkpoint.load_metrics(run)["test_neg_elbo_nats"]
    train_data = data.images[known] if len(known) > 1 else None
    labels = {} if data.labels is None else {"labels": data.labels[rows], "classes": data.classes}
    try:
        return diagnose(model, data.images[rows], train=train_data, history=history, **labels), len(history)
    except ValueError as error:
        raise UserError(str(error)) from error


def show(diagnosis, run):
    """Print the cause, and a table of the symptoms, the worst first."""
    console = Console(highlight=False, emoji=False)
    m, cause = diagnosis.measures, diagnosis.cause
    console.print(f"[{COLOURS[cause.level]}]{diagnosis.level}[/]: {_plain(cause.title)}. {_plain(cause.sentence)}")
    if cause.symptom:
        tried = facts_of(run, diagnosis).try_ or cause.code or cause.advice
        console.print(f"try first: [bold]{_plain(tried)}[/]\n", soft_wrap=True)
    table = Table(title=f"{run}: {m.samples} held-out samples, {m.latents} latents", title_justify="left")
    for column in ("symptom", "verdict", "what it means; evidence, cause, and what to try"):
        table.add_column(column)
    for v in words.by_level(diagnosis.verdicts):
        text = f"{words.sentence(v)}\n{v.evidence}" + (f"\ncause: {v.cause}\ntry: {v.advice}" if v.cause else "")
        found = f"[{COLOURS[v.level]}]{words.found(v)}[/]"
        table.add_row(words.name(v.symptom), found, _plain(text), end_section=True)
    console.print(table)
    if text := columns.least(m.columns, facts_of(run, diagnosis).columns):
        console.print(_plain(text))


def _plain(text):
    """The text, in which rich reads no markup."""
    return text.replace("[", r"\[")
