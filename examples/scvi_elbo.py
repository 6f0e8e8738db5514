"""Compares two trainings of scvi-tools' SCVI, one with its own loss and one with vae_kernels, by the ELBO of held-out
cells over several seeds.

    pip install ".[scvi]" typer && python examples/scvi_elbo.py --data pbmc68k

scvi-tools' own get_elbo measures both trainings. Two trainings with the same loss differ by noise: the first weights,
the order of the cells, the samples of z. The two losses agree if their means differ by no more than this noise (Welch's
t). The latents of two trainings are compared by the share of the variance of one that a linear function of the other
explains: 1 if they are the same up to such a function.
"""

import csv
import logging
import warnings
from pathlib import Path

import anndata
import numpy as np
import scvi
import torch
import typer
from pbmc68k import pbmc68k
from scipy import stats
from sklearn.linear_model import LinearRegression
from splatter import simulate

from vae_kernels.integrations.scvi import attach

DATA = {
    "simulated": lambda: simulate(1000, 300, seed=0, library=(7.0, 0.4)).x,
    "pbmc68k": pbmc68k,
}


def elbo(x, seed, ours, *, epochs, hidden=64, latent=8, likelihood="zinb"):
    """The mean ELBO of every fourth cell in nats, before and after a training on the other cells; the latents of all
    cells."""
    scvi.settings.seed = seed
    held_out = np.arange(x.shape[0]) % 4 == 0
    training, held_out = anndata.AnnData(x[~held_out]), anndata.AnnData(x[held_out])
    scvi.model.SCVI.setup_anndata(training)
    model = scvi.model.SCVI(training, n_hidden=hidden, n_latent=latent, gene_likelihood=likelihood)
    before = float(model.get_elbo(held_out))
    if ours:
        attach(model)
    model.train(
        max_epochs=epochs,
        train_size=1.0,
        batch_size=64,
        accelerator="cpu",
        plan_kwargs={"lr": 5e-3, "n_epochs_kl_warmup": max(1, epochs // 4)},
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    )
    return before, float(model.get_elbo(held_out)), model.get_latent_representation(anndata.AnnData(x))


def explained(latents, by):
    """The share of the variance of `latents` that a linear function of `by` explains."""
    return LinearRegression().fit(by, latents).score(by, latents)


def compare(x, seeds, **settings):
    """(the ELBOs of scvi-tools, those of vae_kernels, with one number for each seed; the mean gain of scvi-tools'
    training; p of Welch's t; the shares of explained variance for the two losses with the same seed, and for
    scvi-tools' loss with the next seed)."""
    runs = [[elbo(x, seed, lot, **settings) for seed in range(seeds)] for lot in (False, True)]
    own, ours = (np.array([run[:2] for run in of_loss]) for of_loss in runs)
    latents = [[run[2] for run in of_loss] for of_loss in runs]
    same = [explained(a, b) for a, b in zip(*latents, strict=True)]
    other = [explained(a, b) for a, b in zip(latents[0], latents[0][1:] + latents[0][:1], strict=True)]
    p = stats.ttest_ind(own[:, 1], ours[:, 1], equal_var=False).pvalue
    return own[:, 1], ours[:, 1], (own[:, 1] - own[:, 0]).mean(), p, same, other


def main(data: str = "simulated", seeds: int = 6, epochs: int = 30, likelihood: str = "zinb", out: Path | None = None):
    """Compare the ELBO of held-out cells between the two losses."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)  # small matrices
    own, ours, gain, p, same, other = compare(DATA[data](), seeds, epochs=epochs, likelihood=likelihood)
    for name, values in {"scvi": own, "vae_kernels": ours}.items():
        print(f"{name}: held-out ELBO {values.mean():.2f} nats a cell, standard deviation {values.std(ddof=1):.2f}")
    print(f"the training has gained {gain:.1f} nats; that the means are the same has p = {p:.2f} (Welch's t)")
    print(f"latents explained by those of the other loss, same seed: {np.mean(same):.3f}")
    print(f"latents explained by those of the same loss, other seed: {np.mean(other):.3f}")
    if out is not None:
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["data", "likelihood", "epochs", "seed", "scvi", "vae_kernels", "explained", "explained_by_next"]
            )
            rows = zip(own, ours, same, other, strict=True)
            writer.writerows([data, likelihood, epochs, i, *(round(v, 4) for v in row)] for i, row in enumerate(rows))


if __name__ == "__main__":
    typer.run(main)
