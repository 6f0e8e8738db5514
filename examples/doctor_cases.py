"""Models made ill on purpose, and healthy ones, on the MNIST digits of `vae-kernels train`, each judged by vk.diagnose.

    python examples/doctor_cases.py --csv docs/doctor-cases.csv

A row a model and seed: the verdict on each symptom, and whether it is what was made. Needs the extra "demo".
"""

import argparse
import csv
import math

import torch

import vae_kernels as vk
from vae_kernels.cli.data import load

# options of the model -> the symptoms that must be ill; of a healthy model, none
CASES = {
    "healthy, bernoulli": ({}, ()),
    "healthy, fitted variance": ({"likelihood": "gaussian", "obs_logvar": "fitted"}, ()),
    "beta too high": ({"beta": 30.0}, ("posterior collapse", "effective beta")),
    "beta too low": ({"beta": 0.001}, ("holes in the latent space", "effective beta")),
    "variance too large": ({"likelihood": "gaussian", "obs_logvar": 0.0}, ("variance of the likelihood",)),
}


def trained(images, options, seed, epochs, batch_size=100):
    torch.manual_seed(seed)
    if options.get("obs_logvar") == "fitted":
        start = math.log((images.double() / 255).var().item())
        options = options | {"obs_logvar": torch.nn.Parameter(torch.tensor(start))}
    model = vk.mlp_vae(images.shape[1:], 20, **options)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for _ in range(epochs):
        for x in images[torch.randperm(len(images))].split(batch_size):
            optimizer.zero_grad()
            model.loss(x).backward()
            optimizer.step()
    return model


def judged(name, seed, epochs):
    """A row of the table."""
    options, expected = CASES[name]
    data = load(None, options.get("likelihood", "bernoulli"))
    train, test = data.split()
    found = vk.diagnose(trained(data.images[train], options, seed, epochs), data.images[test])
    ill = {verdict.symptom for verdict in found.verdicts if verdict.level == "ill"}
    right = set(expected) <= ill if expected else not ill
    m = found.measures
    numbers = {
        "active_units": m.active_units,
        "information": round(m.information, 3),
        "kl": round(m.kl, 2),
        "nll": round(m.nll, 2),
        "aggregate_kl": round(m.aggregate_kl, 2),
        "square_ratio": "" if m.square_ratio is None else round(m.square_ratio, 4),
        "detail": round(m.detail, 3),
    }
    verdicts = {verdict.symptom: verdict.level for verdict in found.verdicts}
    verdicts.setdefault("variance of the likelihood", "")
    return {"model": name, "seed": seed, "right": right} | numbers | dict(sorted(verdicts.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--csv")
    arguments = parser.parse_args()
    rows = []
    for name in CASES:
        for seed in range(arguments.seeds):
            rows.append(judged(name, seed, arguments.epochs))
            print(rows[-1], flush=True)
    if arguments.csv:
        with open(arguments.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(f"{sum(row['right'] for row in rows)} of {len(rows)} judged rightly")


if __name__ == "__main__":
    main()
