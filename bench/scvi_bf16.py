"""SCVI in bfloat16: the time of a training step of 128 cells, and the ELBO of held-out cells over seeds, in float32 and
with precision="bf16-mixed", with scvi-tools' own loss and with attach().

    pip install ".[scvi]" && python -m bench.scvi_bf16         # bench/results/scvi/bf16.csv, and the medians

scvi-tools' get_elbo measures each model in float32, on cells that no training has seen. bf16-mixed is faster where the
processor multiplies matrices of bfloat16 by itself (AMX).
"""

import argparse
import csv
import logging
import platform
import statistics
import time
import warnings
from pathlib import Path

from .scvi_models import RESULTS, counts

CPUINFO = Path("/proc/cpuinfo")
PRECISIONS = "32-true", "bf16-mixed"


def trained(x, seed, precision, ours, *, epochs, batch_size=128):
    """(milliseconds of a step, the mean ELBO of every fifth cell in nats) of a training on the other cells."""
    import anndata
    import numpy as np
    import scvi

    from vae_kernels.integrations.scvi import attach

    scvi.settings.seed = seed
    held_out = np.arange(x.shape[0]) % 5 == 0
    training, held_out = anndata.AnnData(x[~held_out]), anndata.AnnData(x[held_out])
    scvi.model.SCVI.setup_anndata(training)
    model = scvi.model.SCVI(training)
    if ours:
        attach(model)
    start = time.perf_counter()
    model.train(
        max_epochs=epochs,
        train_size=1.0,
        batch_size=batch_size,
        accelerator="cpu",
        precision=precision,
        enable_progress_bar=False,
        enable_model_summary=False,
        plan_kwargs={"n_epochs_kl_warmup": max(1, epochs // 2)},
    )
    steps = epochs * -(-training.n_obs // batch_size)
    milliseconds = 1000 * (time.perf_counter() - start) / steps
    return milliseconds, float(model.get_elbo(held_out))


def measure(*, cells, genes, seeds, epochs, threads):
    """One row for each training; the trainings take turns."""
    import scvi
    import torch

    import vae_kernels as vk

    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    x = counts(cells, genes, 0)
    setting = {
        "processor": platform.processor() or platform.machine(),
        "amx": "amx_bf16" in CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else "",
        "threads": threads,
        "torch": torch.__version__,
        "scvi_tools": scvi.__version__,
        "vae_kernels": vk.__version__,
        "cells": cells,
        "genes": genes,
        "epochs": epochs,
    }
    rows = []
    for seed in range(seeds):
        for precision in PRECISIONS:
            for loss in ("scvi-tools", "attach"):
                ms, elbo = trained(x, seed, precision, loss == "attach", epochs=epochs)
                row = {"loss": loss, "precision": precision, "seed": seed, "step_ms": round(ms, 2)}
                rows.append(row | {"elbo": round(elbo, 3)} | setting)
    return rows


def summary(rows):
    """A line for each loss and precision: the median step, and the mean and the spread of the ELBO over the seeds."""
    for loss, precision in dict.fromkeys((r["loss"], r["precision"]) for r in rows):
        mine = [r for r in rows if (r["loss"], r["precision"]) == (loss, precision)]
        step = statistics.median(float(r["step_ms"]) for r in mine)
        elbo = [float(r["elbo"]) for r in mine]
        spread = statistics.stdev(elbo) if len(elbo) > 1 else 0.0
        yield f"| {loss} | {precision} | {step:.1f} ms | {statistics.mean(elbo):.2f} | {spread:.2f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"cells": 1600, "genes": 20_000, "seeds": 3, "epochs": 10, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--out", type=Path, default=RESULTS.with_name("bf16.csv"))
    args = vars(parser.parse_args())
    out = args.pop("out")
    rows = measure(**args)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print("| loss | precision | a step | ELBO of held-out cells, nats | its spread over seeds |\n|---|---|---|---|---|")
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
