"""Computes -ELBO and log p(x) of the test set for runs of `vae-kernels train` that differ by their prior: one row for
each run folder.

for prior in normal mog vamp flow; do
    vae-kernels train --prior $prior --latent-dim 10 --epochs 60 --threads 1 --out runs --name $prior
done
python examples/priors.py runs/normal runs/mog runs/vamp runs/flow --csv bench/results/priors/digits.csv
"""

import argparse
import csv
import math
from pathlib import Path

import torch
from safetensors.torch import load_file

import vae_kernels as vk
from vae_kernels.cli import checkpoint
from vae_kernels.cli.build import build
from vae_kernels.cli.data import load


@torch.no_grad()
def row(run, samples, batch_size=100):
    """The numbers of one run, in nats per image of its test set."""
    config = checkpoint.load_config(run)
    data = load(config["data"], config["likelihood"])
    vae = build(config, data)
    vae.load_state_dict(load_file(run / checkpoint.MODEL))
    vae.eval()
    images = data.images[data.split()[1]]
    torch.manual_seed(0)
    loss = torch.zeros(2, dtype=torch.float64)  # nll, kl
    log_p, error, effective = [], [], []
    for x in images.split(batch_size):
        for _ in range(20):
            terms = vae.loss(x, return_terms=True)
            loss += torch.stack([terms.nll.sum(), terms.kl.sum()]).double() / (20 * len(images))
        estimate = vk.log_marginal_likelihood(vae, x, samples)
        log_p.append(estimate.value)
        error.append(estimate.standard_error)
        effective.append(estimate.effective_samples)
    log_p, error, effective = map(torch.cat, (log_p, error, effective))
    return {
        "prior": config["prior"],
        "components": config["components"],
        "latents": config["latent_dim"],
        "epochs": config["epochs"],
        "test_neg_elbo_nats": round(loss.sum().item(), 2),
        "test_reconstruction_nats": round(loss[0].item(), 2),
        "test_kl_nats": round(loss[1].item(), 2),
        "test_neg_log_p_nats": round(-log_p.mean().item(), 2),
        "standard_error_of_sampling": round(error.square().sum().sqrt().item() / len(images), 3),
        "median_effective_samples": round(effective.median().item(), 1),
        "samples": samples,
        "images": len(images),
        "torch": torch.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--samples", type=int, default=1000, help="of each posterior, for log p(x)")
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    args = parser.parse_args()
    rows = []
    for run in args.runs:
        rows.append(row(run, args.samples))
        r = rows[-1]
        gap = r["test_neg_elbo_nats"] - r["test_neg_log_p_nats"]
        assert math.isfinite(gap)
        print(
            f"{r['prior']:>8}: -ELBO {r['test_neg_elbo_nats']:.2f} = {r['test_reconstruction_nats']:.2f} + KL "
            f"{r['test_kl_nats']:.2f}; -log p(x) {r['test_neg_log_p_nats']:.2f} (sampling error "
            f"{r['standard_error_of_sampling']:.3f}), {gap:.2f} below"
        )
    if args.csv:
        with open(args.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
