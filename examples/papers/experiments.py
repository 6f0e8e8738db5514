"""What the scripts of this folder share: the images and the files of results."""

import csv

import torch

from vae_kernels.cli.data import load


def images(folder):
    """(train, test): images [N, 784] float32 in [0, 1], from the folder of the four files of MNIST."""
    data = load(folder, "bernoulli")
    pixels = data.images.flatten(1).float() / 255
    return [pixels[rows] for rows in data.split()]


def write(path, row, run):
    """Put a row into a file, in place of an earlier row of the same run.

    run: the columns that say which run a row is of. All other columns are results.
    """
    row |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    others = []
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            others = [r for r in csv.DictReader(file) if any(r[name] != str(row[name]) for name in run)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*others, row])


def command(script, run, row):
    """The command line of a run. The folder of the data is the one that the script's first lines make."""
    return " ".join([f"python examples/papers/{script}.py", *(f"--{name} {row[name]}" for name in run)])
