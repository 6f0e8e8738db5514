"""Real cells with scvi-tools and vae_kernels, from counts to a map: training with attach, the latents, clusters, a
UMAP, and the doctor.

    pip install ".[scvi]" matplotlib && python examples/scvi_cells.py --out cells

The cells are 700 blood cells that scanpy has (pbmc68k.py); nothing is downloaded. The folder `--out` gets umap.png and
report.html.
"""

import argparse
import warnings
from pathlib import Path

import anndata
import numpy as np
import scanpy
import scvi
import torch
from pbmc68k import pbmc68k
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import vae_kernels as vk
from vae_kernels.integrations.scvi import attach


class Encoder(torch.nn.Module):
    """q(z | x) of a trained SCVI."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x, log_size):
        q, _ = self.module.z_encoder(x.log1p(), torch.zeros(len(x), 1))  # the one batch of these cells
        return q.loc, 2 * q.scale.log()


class Decoder(torch.nn.Module):
    """The parameters of "zinb" of a trained SCVI, for cells of a given size."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, z, log_size):
        scale, _, _, dropout = self.module.decoder("gene", z, log_size, torch.zeros(len(z), 1))
        return scale.log() + log_size, self.module.px_r, dropout


def as_vae(model):
    """A vae_kernels.VAE with the networks of a trained SCVI. The condition is the log size of a cell, [B, 1]."""
    module = model.module.eval()
    return vk.VAE(Encoder(module), Decoder(module), likelihood="zinb", latent_shape=module.n_latent)


def run(epochs=100, seed=0, umap=True):
    """(the cells with latents, clusters and a map, the trained model, the diagnosis of the held-out cells)"""
    warnings.filterwarnings("ignore")
    scvi.settings.seed = seed
    known = scanpy.datasets.pbmc68k_reduced()
    adata = anndata.AnnData(pbmc68k(), obs=known.obs[["bulk_labels"]])
    held_out = np.arange(adata.n_obs) % 5 == 0

    training = adata[~held_out].copy()
    scvi.model.SCVI.setup_anndata(training)
    model = attach(scvi.model.SCVI(training, n_latent=8, n_hidden=64))
    model.train(epochs, train_size=1.0, batch_size=64, accelerator="cpu", enable_progress_bar=False)

    adata.obsm["X_scvi"] = model.get_latent_representation(adata)
    clusters = KMeans(len(known.obs["bulk_labels"].cat.categories), n_init=10, random_state=seed)
    adata.obs["cluster"] = clusters.fit_predict(adata.obsm["X_scvi"]).astype(str)
    if umap:
        scanpy.pp.neighbors(adata, use_rep="X_scvi")
        scanpy.tl.umap(adata)

    x = torch.from_numpy(adata.X.toarray())
    size, test = x.sum(1, keepdim=True).log(), torch.from_numpy(held_out)
    labels = torch.from_numpy(adata.obs["bulk_labels"].cat.codes.to_numpy().astype(np.int64))
    names = list(adata.obs["bulk_labels"].cat.categories)
    diagnosis = vk.diagnose(
        as_vae(model), x[test], condition=size[test], labels=labels[test], classes=names, log_p=(64, 256)
    )
    return adata, model, diagnosis


def agreement(adata):
    """How well the clusters agree with the known types of the cells: the adjusted Rand index, 0 for chance and 1."""
    return adjusted_rand_score(adata.obs["bulk_labels"], adata.obs["cluster"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("cells"))
    args = parser.parse_args()
    adata, model, diagnosis = run(args.epochs)
    args.out.mkdir(parents=True, exist_ok=True)
    figure = scanpy.pl.umap(adata, color=["bulk_labels", "cluster"], return_fig=True, wspace=0.6)
    figure.savefig(args.out / "umap.png", bbox_inches="tight")
    (args.out / "report.html").write_text(diagnosis.html(), encoding="utf-8")
    print(f"ELBO of the cells: {float(model.get_elbo()):.1f} nats; clusters and types: {agreement(adata):.2f}")
    print(diagnosis)


if __name__ == "__main__":
    main()
