"""Measures the wall time of an epoch of scvi-tools' SCVI, with its own loss and with vae_kernels, in turns in one run.

    pip install ".[scvi]" typer && python examples/scvi_epoch.py --out epochs.csv

The counts are simulated (splatter.py), so nothing is downloaded; the share of zeros and the sizes are those of a 10x
experiment. Each epoch is a model.train() of scvi-tools as a user calls it: loading, training, logging. With
`--fused-adam` both losses use the fused form of the same optimizer. The screen shows the medians and the ratio; --out
gets the time of each epoch.
"""

import csv
import logging
import platform
import statistics
import time
import warnings
from pathlib import Path

import anndata
import scvi
import torch
import typer
from splatter import simulate

import vae_kernels as vk
from vae_kernels.integrations.scvi import attach, detach


def adam(parameters):
    """The optimizer of scvi-tools' TrainingPlan, with its settings, in one pass over the parameters."""
    return torch.optim.Adam(parameters, lr=1e-3, eps=0.01, weight_decay=1e-6, fused=True)


def main(
    genes: int = 20_000,
    cells: int = 1280,
    batch_size: int = 128,
    hidden: int = 128,
    likelihood: str = "zinb",
    dispersion: str = "gene",
    turns: int = 5,
    threads: int = 0,
    fused_adam: bool = False,
    sparse: bool = False,
    accelerator: str = "cpu",
    seed: int = 0,
    out: Path | None = None,
):
    """Time epochs of SCVI with its own loss and with vae_kernels."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(threads or torch.get_num_threads())
    scvi.settings.seed = seed
    x = simulate(cells, genes, seed=seed).x
    setting = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "scvi_tools": scvi.__version__,
        "vae_kernels": vk.__version__,
        "likelihood": likelihood,
        "dispersion": dispersion,
        "cells": cells,
        "genes": genes,
        "zeros": round(1 - x.nnz / (cells * genes), 3),
        "batch_size": batch_size,
        "hidden": hidden,
        "fused_adam": fused_adam,
        "sparse": sparse,
    }
    print(*(f"{key}: {value}" for key, value in setting.items()), sep="\n")
    adata = anndata.AnnData(x)
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata, n_hidden=hidden, gene_likelihood=likelihood, dispersion=dispersion)
    plan = {"optimizer": "Custom", "optimizer_creator": adam} if fused_adam else {}

    def epoch():
        model.module.train()  # scvi-tools leaves the model in evaluation mode; Lightning would train in that mode
        start = time.perf_counter()
        model.train(
            max_epochs=1,
            train_size=1.0,
            batch_size=batch_size,
            accelerator=accelerator,
            plan_kwargs=plan,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            load_sparse_tensor=sparse,
        )
        return time.perf_counter() - start

    rows = []
    for turn in range(-1, turns):  # the first turn is not counted
        for loss in ("scvi", "vae_kernels"):
            (attach if loss == "vae_kernels" else lambda model: model)(model)
            seconds = epoch()
            if loss == "vae_kernels":
                detach(model)
            if turn >= 0:
                rows.append({"loss": loss, "turn": turn, "seconds": round(seconds, 4), **setting})
    median = {
        loss: statistics.median(row["seconds"] for row in rows if row["loss"] == loss)
        for loss in ("scvi", "vae_kernels")
    }
    ratios = sorted(a["seconds"] / b["seconds"] for a, b in zip(rows[::2], rows[1::2], strict=True))
    for loss, seconds in median.items():
        print(f"{loss}: {seconds:.3f} s an epoch, {1000 * seconds / (cells / batch_size):.1f} ms a batch")
    print(
        f"{median['scvi'] / median['vae_kernels']:.2f}x faster; of single turns {ratios[0]:.2f}x to {ratios[-1]:.2f}x"
    )
    if out is not None:
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    typer.run(main)
