"""The numbers on the README's first screen: what a training step saves, an epoch of SCVI, and the build."""

import csv
import statistics

from . import tables
from .rows import RESULTS, comparisons, devices

EPOCHS, BUILD = RESULTS / "scvi" / "epochs.csv", RESULTS / "build"


def trainings():
    """A table of training steps, and an epoch of SCVI."""
    return "\n\n".join(filter(None, (steps(), epoch())))


def steps():
    """What our loss saves of each client's training step. The steps that gain nothing come first. "" if no results file
    has steps."""
    found = {}
    for rows in devices().values():
        for c in comparisons(rows, "steps"):
            found.setdefault(c.first["model"], {})[c.first["dtype"]] = c
    lines = []
    for model, of in found.items():
        c = of["float32"]
        ratio, share = c.eager[0]["median_us"] / c.ours["median_us"], tables.share(c, c.eager[0])
        both = [_saved(of[dtype]) if dtype in of else ("-", "-") for dtype in ("float32", "bfloat16")]
        lines.append((ratio, [model, share, *both[0], *both[1]]))
    if not lines:
        return ""
    head = ["a training step", "of it the loss", "saved, beside eager", "beside torch.compile"]
    made = tables.markdown([*head, "bfloat16: eager", "compile"], [cells for _, cells in sorted(lines)])
    said = "A faster loss saves at most the part of the step that the loss takes. Where this part is small, nothing is"
    return f"{said} gained:\n\n{made}"


def _saved(c):
    """(beside eager PyTorch, beside torch.compile): what our loss saves of a step, in words."""
    eager, compiled, ours = tables.best(c)
    pairs = (ours, eager), (c.others[1] if len(c.others) > 1 else None, compiled)
    texts = [tables.saved(c, *pair).strip("*") if all(pair) else "-" for pair in pairs]
    return tuple("nothing" if text == tables.NOISE else text for text in texts)


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
