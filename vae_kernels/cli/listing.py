"""The files of a run, with what each of them is."""

from rich.table import Column, Table
from rich.text import Text

from . import checkpoint
from .doctor import BESIDE, REPORT
from .pictures import SAMPLES

WHAT = {
    REPORT: "the doctor's report: what is well, what is ill",
    BESIDE: "two runs beside each other",
    "curves.png": "-ELBO, reconstruction and KL of each epoch",
    "reconstructions.png": "held-out data, and what comes back",
    "samples.png": "samples from the prior, decoded",
    "latent.png": "the latent space: posterior means, prior draws",
    SAMPLES: "samples after every so many epochs",
    checkpoint.METRICS: "the numbers of each epoch",
    checkpoint.DIMS: "the KL of each latent after each epoch",
    checkpoint.MODEL: "the weights of the last epoch, for vk.load_run",
    checkpoint.BEST: "the weights of the best epoch, by held-out -ELBO",
    checkpoint.CHECKPOINT: "weights, optimizer and random state, for --resume",
    checkpoint.CONFIG: "options, versions, checksum of the data",
}


def listing(console, run):
    """Print the files in a run folder. Where the terminal can, a name opens its file with a click (OSC 8)."""
    found = [path.name for path in run.iterdir() if not path.name.startswith(".")]
    known = [name for name in WHAT if name in found]
    table = Table.grid(Column(no_wrap=True), "", padding=(0, 2), pad_edge=False)
    for name in known + sorted(set(found) - set(known)):
        what = WHAT.get(name, "for TensorBoard" if "tfevents" in name else "")
        if console.is_terminal:
            table.add_row(Text("  ").append(name, f"link {(run / name).resolve().as_uri()}"), what)
        else:
            console.print(f"  {name:24}{what}".rstrip())
    if console.is_terminal:
        console.print(table, soft_wrap=False)
