"""What the scripts of this folder share: the images, the options and the files of results."""

import argparse
import csv
from pathlib import Path

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


def parser(description):
    """A parser with the options that all scripts share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, default=1, help="of torch")
    made.add_argument("--csv", type=Path, help="the file that gets the row")
    return made


def record(script, args, run, results, *others):
    """Print the row of a run and, with --csv, write it.

    run: the options that say which run this is. results: the other columns. others: options that the command needs too.
    """
    words = [f"--{name.replace('_', '-')} {getattr(args, name)}" for name in (*run, *others)]
    row = {name: getattr(args, name) for name in run} | results
    row["command"] = " ".join([f"python examples/papers/{script}.py", *words])
    print(row)
    if args.csv:
        write(args.csv, row, run)
