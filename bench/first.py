"""The numbers on the README's first screen: a training that gains, a training that does not, and the build."""

import csv
import statistics

from . import tables
from .rows import RESULTS, comparisons, devices

EPOCHS, BUILD = RESULTS / "scvi" / "epochs.csv", RESULTS / "build"
MLP = "MLP 784-400-20"  # a client of vae_kernels/timing/clients.py


def trainings():
    """Two sentences: an epoch of SCVI, and a step of an MLP on MNIST."""
    return "\n".join(filter(None, (epoch(), mlp())))


def epoch():
    rows = read(EPOCHS)
    seconds = {loss: [float(row["seconds"]) for row in rows if row["loss"] == loss] for loss in ("scvi", "vae_kernels")}
    theirs, ours = (statistics.median(found) for found in seconds.values())
    row = rows[0]
    what = f"{int(row['cells']):,} simulated cells, {int(row['genes']):,} genes, {row['threads']} CPU threads"
    return (
        f"- **An epoch of scvi-tools' `SCVI` takes {ours:.1f} s in place of {theirs:.1f} s: {theirs / ours:.1f} times "
        f"faster** ({what}; [docs/scvi.md](docs/scvi.md#to-measure-scvi))."
    )


def mlp():
    """What a step of an MLP on MNIST saves. "" if no results file has such a step."""
    for rows in devices().values():
        for c in comparisons(rows, "steps"):
            if (c.first["model"], c.first["dtype"]) == (MLP, "float32"):
                eager = _saved(c, c.ours, c.eager[0])
                compiled = _saved(c, c.others[1], c.compiled[0])
                return (
                    "- Where the loss is a small part of a step, little is gained: a step of an MLP on MNIST saves "
                    f"{eager} beside eager PyTorch, and {compiled} beside `torch.compile`."
                )
    return ""


def _saved(c, row, other):
    text = tables.saved(c, row, other).strip("*")
    return "nothing that can be told from noise" if text == tables.NOISE else text


def build():
    """A sentence for each kind of build: how long the build takes, and how large the library is. "" for a kind that was
    not measured."""
    kinds = _build("cpu", "for the CPU alone", ""), _build("cuda", "with CUDA", " --cuda")
    return "\n".join(filter(None, kinds))


def _build(name, what, option):
    path = BUILD / f"{name}.csv"
    if not path.exists():
        return ""
    rows = read(path)
    seconds, processor = (
        statistics.median(float(row[column]) for row in rows) for column in ("seconds", "processor_seconds")
    )
    row = rows[0]
    on = f"on {row['cores']} cores"
    if any(float(row["load"]) >= 0.5 for row in rows):
        time = f"{processor:.0f} s of processor time {on} (other programs ran beside the build; {row['device']})"
    else:
        time = f"{seconds:.0f} s {on} ({processor:.0f} s of processor time; {row['device']})"
    return (
        f"The build {what} takes {time}, and makes a library of {int(row['library_bytes']) / 1e6:.1f} MB "
        f"(`python -m bench.build{option}`, `bench/results/build/{path.name}`)."
    )


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
