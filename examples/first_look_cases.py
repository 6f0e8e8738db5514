"""Models with the mistakes that the doctor must see first, each beside a healthy model, on two data sets: the MNIST
digits of `vae-kernels train`, and Fashion-MNIST.

    python examples/first_look_cases.py --fashion FOLDER --csv bench/results/doctor/first_look.csv

FOLDER has train-images-idx3-ubyte.gz of Fashion-MNIST; Debian's package dataset-fashion-mnist puts the file into
/usr/share/datasets/fashion-mnist. An ill model is judged rightly if the symptom that was made is ill, a healthy model
if no symptom is ill. This example needs the extra "demo".
"""

import argparse
import csv
import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

import vae_kernels as vk
from vae_kernels.cli.data import load

TRAIN, TEST, LATENTS, WIDTH = 2000, 500, 8, 128


def digits():
    """[5000, 784], uint8"""
    data = load(None, "bernoulli")
    train, _ = data.split()  # in random order: the file is sorted by digit
    return data.images[train].flatten(1)


def fashion(folder):
    """[60000, 784], uint8"""
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        pixels = torch.frombuffer(bytearray(file.read()[16:]), dtype=torch.uint8)
    return pixels.view(-1, 784)


def grey(x):
    return x / 255


def table(x):
    """Sixteen columns, standardised: the mean brightness of squares of 7 x 7 pixels. Neighbours are correlated."""
    columns = nn.functional.avg_pool2d(x.view(-1, 1, 28, 28) / 255, 7).flatten(1)
    return (columns - columns.mean(0)) / columns.std(0)


def mlp(x, last=(), likelihood="bernoulli", width=WIDTH, **settings):
    """A VAE of one hidden layer whose decoder ends in the modules of `last`."""
    columns = x.shape[1]
    encoder = nn.Sequential(nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, 2 * LATENTS))
    decoder = nn.Sequential(nn.Linear(LATENTS, width), nn.ReLU(), nn.Linear(width, columns), *last)
    return vk.VAE(encoder, decoder, likelihood=likelihood, latent_shape=LATENTS, **settings)


def fitted(x, **settings):
    """A Gaussian whose variance is trained."""
    start = nn.Parameter(x.float().var().log())
    return mlp(x, likelihood="gaussian", obs_logvar=start, **settings)


def poisson(x):
    return mlp(x, likelihood="poisson")


def counts(x):
    """Grey values as small counts."""
    return (x // 64).float()


@dataclass(frozen=True)
class Case:
    """values makes the data of the bytes, and build makes the model. symptom: what must be found ill if `made`,
    and is compared with the healthy model. spoil changes the trained model."""

    symptom: str
    made: bool
    values: Callable = grey
    build: Callable = mlp
    settings: dict = field(default_factory=dict)
    epochs: int = 20
    lr: float = 2e-3
    train: int = TRAIN
    spoil: Callable = lambda model: None


def poison(model):
    model.decoder[0].weight.data[3, 1] = float("nan")


def explode(model):
    model.encoder[-1].bias.data[-1] = 3000.0


WIDE = torch.logspace(-3, 5, 16)
CASES = {
    "logits": Case("decoder output", False),
    "a sigmoid at the end": Case("decoder output", True, settings={"last": [nn.Sigmoid()]}),
    "a tanh at the end": Case("decoder output", True, settings={"last": [nn.Tanh()]}),
    "a ReLU at the end": Case("decoder output", True, settings={"last": [nn.ReLU()]}),
    "a sigmoid before a Gaussian": Case("decoder output", False, grey, fitted, {"last": [nn.Sigmoid()]}),
    "a Gaussian on [-1, 1]": Case("data", False, lambda x: x / 127.5 - 1, fitted),
    "a Bernoulli on [-1, 1]": Case("data", True, lambda x: x / 127.5 - 1),
    "a Bernoulli, normalised": Case("data", True, lambda x: (x / 255 - 0.5) / 0.25),
    "counts": Case("data", False, counts, poisson),
    "log1p of counts": Case("data", True, lambda x: counts(x).log1p(), poisson),
    "bool": Case("data", False, lambda x: x > 127),
    "uint8 of 0 and 1": Case("data", True, lambda x: (x > 127).byte()),
    "columns of one scale": Case("data", False, table, fitted, epochs=60, lr=5e-3),
    "columns of 1e-3 to 1e5": Case("data", True, lambda x: table(x) * WIDE, fitted, lr=1e-5),
    "a weight of NaN": Case("not finite", True, spoil=poison, epochs=5),
    "a logvar of 3000": Case("not finite", True, spoil=explode, epochs=5),
    "a loss that is that of the mean": Case("no better than the mean", True, epochs=20, lr=1e-6),
    "stopped early": Case("not converged", True, epochs=6, lr=5e-4),
    "trained": Case("not converged", False, epochs=40),
    "few images": Case("overfit", True, epochs=200, train=100),
    "many images": Case("overfit", False, epochs=20),
}


def judged(name, case, pixels, seed):
    """A row of the results: the verdict on each symptom, and whether the verdicts are right."""
    torch.manual_seed(seed)
    x = case.values(pixels[: TRAIN + TEST])
    train, test = x[: case.train], x[TRAIN:]
    model, history = case.build(x, **case.settings), []
    optimizer = torch.optim.Adam(model.parameters(), lr=case.lr, fused=True)
    for _ in range(case.epochs):
        for batch in train[torch.randperm(len(train))].split(50):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
        with torch.no_grad():
            terms = model.loss(test, return_terms=True)
        history.append((terms.nll + terms.kl).mean().item())
    case.spoil(model)
    found = vk.diagnose(model, test, train=train, history=history, log_p=None)
    levels = {verdict.symptom: verdict.level for verdict in found.verdicts}
    right = levels[case.symptom] == "ill" if case.made else found.level != "ill"
    return {"model": name, "seed": seed, "symptom": case.symptom, "made": case.made, "right": right}, levels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, metavar="FOLDER", help="of Fashion-MNIST. Default: the digits alone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # small matrices: threads wait for each other more than they compute
    sets = {"digits": digits()} | ({"fashion": fashion(arguments.fashion)} if arguments.fashion else {})
    rows = []
    for data, pixels in sets.items():
        for name in arguments.cases:
            for seed in range(arguments.seeds):
                row, levels = judged(name, CASES[name], pixels, seed)
                rows.append({"set": data} | row | {"levels": levels})
                wrong = "" if row["right"] else f"  WRONG: {levels}"
                print(f"{data}, {name}, seed {seed}: {levels[row['symptom']]}{wrong}", flush=True)
    if arguments.csv:
        write(arguments.csv, rows)
    seconds = time.process_time()
    print(f"{sum(row['right'] for row in rows)} of {len(rows)} judged rightly; {seconds:.0f} s of the processor")


def write(path, rows):
    """The CSV file: one column for each symptom, empty if there is no verdict on it."""
    symptoms = sorted({symptom for row in rows for symptom in row["levels"]})
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*list(rows[0])[:-1], *symptoms], lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows({k: v for k, v in row.items() if k != "levels"} | row["levels"] for row in rows)


if __name__ == "__main__":
    main()
