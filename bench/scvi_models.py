"""The wall time of an epoch of each model of scvi-tools: with its own loss, with patch(), with attach(), and with a
loss of nothing, in turns in one run.

    pip install ".[scvi]" && python -m bench.scvi_models            # bench/results/scvi/models.csv
    PYTHONPATH=folder python -m bench.scvi_models                   # another version of scvi-tools, in this folder
    python -m bench.scvi_models --docs                              # the table of docs/scvi.md, from the file

The loss of nothing has 0 times the sum of all that the networks put out in the place of log p(x | z), or of the whole
loss. The networks run forward and backward: no loss can be faster, except by leaving out a part of their work. Each
epoch is a model.train() of scvi-tools as a user calls it: loading, training, logging. The counts are simulated. The
rows of one version of scvi-tools replace the rows of this version that the file has.
"""

import argparse
import csv
import functools
import logging
import os
import platform
import statistics
import time
import warnings
from inspect import signature
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results/scvi/models.csv"
DOCS = ROOT / "docs/scvi.md"
BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"
MODELS = "SCVI", "SCANVI", "LinearSCVI", "CondSCVI", "TOTALVI", "PEAKVI", "MULTIVI", "POISSONVI"
LOSSES = "scvi-tools", "patch", "attach", "nothing"


def counts(cells, genes, seed, *, mean=0.3):
    """A sparse matrix of counts [cells, genes]: gamma-Poisson, and each cell has a size of its own."""
    import numpy as np
    from scipy import sparse

    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.5, 2 * mean, size=genes)
    sizes = rng.lognormal(0, 0.4, size=cells)
    rows = [sparse.csr_matrix(rng.poisson(size * rate * rng.gamma(2, 0.5, size=genes))) for size in sizes]
    return sparse.vstack(rows, format="csr").astype(np.float32)


def model_of(name, cells, genes, regions, seed=0):
    import anndata
    import mudata
    import numpy as np
    import scvi

    def annotated(x, prefix):
        adata = anndata.AnnData(x, obs={"label": (np.arange(cells) % 6).astype(str)})
        adata.var_names = [f"{prefix}{i}" for i in range(x.shape[1])]
        return adata

    adata = annotated(counts(cells, regions if name == "PEAKVI" else genes, seed), "gene")
    keys, settings = {"labels_key": "label"}, {}
    if name == "PEAKVI":
        adata.X.data[:] = 1
        keys = {}
    if name == "SCANVI":
        keys["unlabeled_category"] = "5"
    if name == "TOTALVI":
        adata.obsm["protein"] = counts(cells, 100, seed + 1, mean=20).toarray()
        keys = {"protein_expression_obsm_key": "protein"}
    if name == "MULTIVI":
        atac = annotated(counts(cells, genes, seed + 1), "region")
        atac.X.data[:] = 1
        adata = mudata.MuData({"rna": adata, "atac": atac})
        keys = {"modalities": {"rna_layer": "rna", "atac_layer": "atac"}}
        settings = {"n_genes": genes, "n_regions": genes}
    cls = getattr(scvi.model, name, None) or getattr(scvi.external, name)
    (cls.setup_mudata if name == "MULTIVI" else cls.setup_anndata)(adata, **keys)
    return cls(adata, **settings)


def tensors(value):
    """The tensors with a gradient inside a distribution or a dict."""
    import torch

    if isinstance(value, torch.Tensor) and value.requires_grad:
        yield value
    elif isinstance(value, dict | torch.distributions.Distribution):
        for v in (value if isinstance(value, dict) else vars(value)).values():
            yield from tensors(v)


def nothing(module):
    """Give the module a loss of nothing, until `del module.loss`."""
    import torch
    from scvi.module.base import LossOutput

    original = module.loss

    class Nothing:
        def __init__(self, px):
            self.zero = 0 * sum(t.sum() for t in tensors(px))

        def log_prob(self, x):
            return self.zero.expand(len(x), 1)

    @functools.wraps(original)
    def loss(batch, inference_outputs, generative_outputs, *args, **kwargs):
        px = generative_outputs.get("px")
        if isinstance(px, torch.distributions.Distribution):  # SCANVI has networks in its loss, which must run
            return original(batch, inference_outputs, generative_outputs | {"px": Nothing(px)}, *args, **kwargs)
        zero = 0 * sum(t.sum() for t in tensors({0: inference_outputs, 1: generative_outputs}))
        none = torch.zeros(len(next(iter(batch.values()))))
        return LossOutput(loss=zero, reconstruction_loss=none, kl_local=none)

    module.loss = loss


def epoch(model, batch_size):
    # TOTALVI asks for cells to validate with, unless its plateaus are off
    no_plateau = {"reduce_lr_on_plateau": False} if "reduce_lr_on_plateau" in signature(model.train).parameters else {}
    model.module.train()  # scvi-tools leaves a model in evaluation mode; Lightning would train in that mode
    start = time.perf_counter()
    model.train(
        max_epochs=1,
        train_size=1.0,
        batch_size=batch_size,
        accelerator="cpu",
        early_stopping=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **no_plateau,
    )
    return time.perf_counter() - start


def timed(model, loss, batch_size):
    from vae_kernels.integrations.scvi import attach, detach, patch

    if loss == "attach":
        attach(model)
        seconds = epoch(model, batch_size)
        detach(model)
    elif loss == "patch":
        with patch():
            seconds = epoch(model, batch_size)
    elif loss == "nothing":
        nothing(model.module)
        seconds = epoch(model, batch_size)
        del model.module.loss
    else:
        seconds = epoch(model, batch_size)
    return seconds


def measure(names, *, cells, genes, regions, turns, threads, batch_size=128):
    """One row for each epoch."""
    import scvi
    import torch

    import vae_kernels as vk

    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    setting = {
        "processor": platform.processor() or platform.machine(),
        "threads": threads,
        "torch": torch.__version__,
        "scvi_tools": scvi.__version__,
        "vae_kernels": vk.__version__,
        "cells": cells,
        "batch_size": batch_size,
    }
    rows = []
    for name in names:
        scvi.settings.seed = 0
        model = model_of(name, cells, genes, regions)
        for turn in range(-1, turns):  # the first turn is not counted
            for loss in LOSSES:
                seconds = timed(model, loss, batch_size)
                if turn >= 0:
                    features = regions if name == "PEAKVI" else genes
                    row = {
                        "model": name,
                        "features": features,
                        "loss": loss,
                        "turn": turn,
                        "seconds": round(seconds, 4),
                    }
                    rows.append(row | setting)
        print(*summary(rows[-turns * len(LOSSES) :]), sep="\n", flush=True)
    return rows


def summary(rows):
    """The rows of a table in Markdown: the median epoch of each model, version and loss, and the ratios."""
    lines = []
    for key in dict.fromkeys((r["model"], r["features"], r["scvi_tools"]) for r in rows):
        own, patch, attach, least = (
            statistics.median(
                float(r["seconds"])
                for r in rows
                if (r["model"], r["features"], r["scvi_tools"]) == key and r["loss"] == loss
            )
            for loss in LOSSES
        )
        reached = (own - attach) / (own - least) if own > least else float("nan")
        lines.append(
            f"| {key[0]}, {int(key[1]):,} | {key[2]} | {own:.2f} s | {patch:.2f} s, {own / patch:.2f}x "
            f"| {attach:.2f} s, **{own / attach:.2f}x** | {least:.2f} s, {own / least:.2f}x | {reached:.0%} |"
        )
    return lines


def table(path=RESULTS):
    """The table of docs/scvi.md, from the file."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    head = "| model, genes or regions | scvi-tools | own loss | `patch()` | `attach` | loss of nothing | of its gain |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *summary(rows)])


def write_docs():
    text = DOCS.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    DOCS.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def save(rows, path):
    """Writes the rows. The rows of other versions of scvi-tools stay in the file."""
    kept = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            kept = [r for r in csv.DictReader(file) if r["scvi_tools"] != rows[0]["scvi_tools"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept + rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[], help="; ".join(MODELS))
    parser.add_argument("--cells", type=int, default=1280)
    parser.add_argument("--genes", type=int, default=10_000)
    parser.add_argument("--regions", type=int, default=50_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--docs", action="store_true", help="write the table of docs/scvi.md, and measure nothing")
    args = parser.parse_args()
    if args.docs:
        return write_docs()
    sizes = {name: getattr(args, name) for name in ("cells", "genes", "regions", "turns", "threads")}
    save(measure(args.models or MODELS, **sizes), args.out)


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    main()
