"""`vae-kernels encode`, `sample` and `reconstruct`: what a trained run is for."""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from ..likelihoods import formula_of
from . import UserError, checkpoint, plots
from .run import load_run

RunFolder = Annotated[Path, typer.Argument(help="A folder that `vae-kernels train` has made.")]
_OUT = "A .png picture, or an .npy or .csv file."
BATCH = 1000  # rows that go through the networks together


def encode(
    run: RunFolder,
    data: Annotated[str | None, typer.Option(help="What to encode. Default: the data of the training.")] = None,
    out: Annotated[
        Path, typer.Option(help="An .npy or .csv file for the posterior means, a row for each sample.")
    ] = Path("z.npy"),
):
    """Write the posterior means of data: [N, latents], a row for each sample in the order of the data."""

    def work():
        _suffix(out, ".npy", ".csv")
        found, rows = _rows(run, data)
        z = torch.cat([found.vae.encode(x)[0].flatten(1) for x in rows.split(BATCH)]).numpy()
        _write(out, z, ",".join(f"z{i}" for i in range(z.shape[1])))
        print(f"{out}: {z.shape[0]} posterior means of {z.shape[1]} latents")

    _guarded(work)


def sample(
    run: RunFolder,
    n: Annotated[int, typer.Option("-n", "--count", min=1, help="How many samples.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 0,
    out: Annotated[Path | None, typer.Option(help=f"{_OUT} Default: samples.png, of a table samples.csv.")] = None,
):
    """Draw from the prior, decode, and write the means of the likelihood. Of a table: draw rows, and write them."""

    def work():
        found = load_run(run)
        file, generator = _out(out, "samples", found), torch.Generator().manual_seed(seed)
        if found.config["table"] is None:
            drawn = found.vae.sample(n, generator=generator)
            _show(file, drawn, lambda low, high: plots.samples(drawn, low, high), found)
        else:
            recon = found.vae.decode(found.vae.sample_prior(n, generator=generator))
            _write_table(file, found.table(found.vae.likelihood.sample(recon, generator=generator)))
        print(f"{file}: {n} samples")

    _guarded(work)


def reconstruct(
    run: RunFolder,
    data: Annotated[str | None, typer.Option(help="What to reconstruct. Default: the data of the training.")] = None,
    n: Annotated[
        int | None, typer.Option("-n", min=1, help="How many rows. Default: 40 in a picture, else all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help=f"{_OUT} Default: reconstructions.png, of a table reconstructions.csv.")
    ] = None,
):
    """Write the means of the likelihood, decoded from the posterior means of data."""

    def work():
        found, rows = _rows(run, data)
        file = _out(out, "reconstructions", found)
        rows = rows[: n or (40 if file.suffix.lower() == ".png" else len(rows))]
        again = torch.cat([found.vae.reconstruct(x) for x in rows.split(BATCH)])
        levels = rows.dtype == torch.uint8 and formula_of(found.config["likelihood"]).SUPPORT != "counts"
        originals = rows / 255 if levels else rows
        if found.config["table"] is None:
            _show(file, again, lambda low, high: plots.reconstructions(originals, again, low, high), found)
        else:
            _write_table(file, found.table(again))
        print(f"{file}: {len(rows)} reconstructions")

    _guarded(work)


def _guarded(work):
    """A mistake of the user is one sentence on stderr, and exit code 2."""
    try:
        with torch.no_grad():
            work()
    except (UserError, ValueError) as error:
        text = " ".join(str(error).split()).replace("place says", "--data says")
        print(f"error: {text.replace('path: ', 'run: ', 1) if text.startswith('path: ') else text}", file=sys.stderr)
        raise SystemExit(2) from None


def _suffix(out, *known):
    if out.suffix.lower() not in known:
        raise UserError(f"--out: got {out}, expected a name that ends in {', '.join(known)}")


def _out(out, name, run):
    """The file to write. out: None for `name` with the ending of a picture, or of a table."""
    table = run.config["table"] is not None
    out = Path(f"{name}.csv" if table else f"{name}.png") if out is None else out
    _suffix(out, *((".csv",) if table else (".png", ".npy", ".csv")))
    return out


def _rows(run, place):
    """(the run, the rows of `place`, or of the training's data)"""
    found = load_run(run)
    return found, found.data().images if place is None else found.read(place)


def _show(out, values, picture, run):
    """Write values [N, ...] as a picture or as numbers."""
    if out.suffix.lower() == ".png":
        unit = formula_of(run.config["likelihood"]).SUPPORT == (0.0, 1.0)
        low, high = (0.0, 1.0) if unit else (values.min().item(), values.max().item())
        checkpoint.write(out, picture(low, high if high > low else low + 1))
        return
    _write(out, values.numpy(), ",".join(f"x{i}" for i in range(values[0].numel())))


def _write_table(out, table):
    try:
        table.to_csv(out, index=False, encoding="utf-8", lineterminator="\n")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error


def _write(out, values, names):
    try:
        if out.suffix.lower() == ".npy":
            np.save(out, values)
        else:
            lines = {"delimiter": ",", "header": names, "comments": "", "fmt": "%.8g", "encoding": "utf-8"}
            np.savetxt(out, values.reshape(len(values), -1), **lines)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
