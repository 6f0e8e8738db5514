"""Small models of scvi-tools, and one training step of each, for the tests of vae_kernels.integrations.scvi."""

import anndata
import mudata
import numpy as np
import scvi
import torch
from scvi.distributions import _negative_binomial
from torch.distributions import Normal

mudata.set_options(pull_on_update=False)
GENES, REGIONS, PROTEINS = 37, 23, 5


def cells(n=50, genes=GENES, empty=False):
    """Counts with batches, labels, covariates, size factors and proteins."""
    rng = np.random.default_rng(0)
    x = rng.poisson(rng.gamma(0.7, 6.0, size=(n, genes))).astype(np.float32)
    x[0, 0] = 3000  # larger than any table of factorials
    if empty:
        x[1] = 0
    obs = {
        "batch": rng.permutation(np.arange(n) % 3).astype(str),
        "label": rng.permutation(np.arange(n) % 2).astype(str),
        "donor": rng.permutation(np.arange(n) % 4).astype(str),
        "age": rng.normal(size=n),
        "size": rng.uniform(0.5, 2.0, n) * x.sum() / n,
    }
    proteins = rng.poisson(4.0, size=(n, PROTEINS)).astype(np.float32)
    return anndata.AnnData(x, obs=obs, obsm={"protein": proteins})


def both(n=50):
    """Genes, regions and proteins. Some cells have genes or regions only."""
    rna, atac, proteins = cells(n), cells(n, REGIONS), cells(n, PROTEINS)
    atac.X = (atac.X > 3).astype(np.float32)
    rna.X[:10], atac.X[10:20] = 0, 0
    rna.var_names, atac.var_names, proteins.var_names = (
        [f"{kind}{i}" for i in range(a.n_vars)] for kind, a in (("gene", rna), ("region", atac), ("protein", proteins))
    )
    both = mudata.MuData({"rna": rna, "atac": atac, "protein": proteins})
    both.obs["batch"] = rna.obs["batch"]
    both.obs["size"], both.obs["depth"] = np.random.default_rng(1).uniform(0.1, 0.9, size=(2, n))
    return both


def regions(n=50):
    """A region is open or closed."""
    adata = cells(n)
    adata.X = (adata.X > 3).astype(np.float32)
    return adata


SMALL = {"n_hidden": 16, "n_latent": 4}
DEFAULTS = {
    "SCVI": (cells, {"labels_key": "label"}, SMALL),
    "SCANVI": (cells, {"labels_key": "label", "unlabeled_category": "?"}, SMALL),
    "LinearSCVI": (cells, {"labels_key": "label"}, SMALL),
    "CondSCVI": (cells, {"labels_key": "label"}, SMALL),
    "TOTALVI": (cells, {"protein_expression_obsm_key": "protein"}, {"n_latent": 4}),
    "PEAKVI": (regions, {}, SMALL),
    "MULTIVI": (
        both,
        {"modalities": {"rna_layer": "rna", "atac_layer": "atac", "protein_layer": "protein"}},
        {**SMALL, "n_genes": GENES, "n_regions": REGIONS},
    ),
    "POISSONVI": (lambda: cells(100), {"labels_key": "label"}, SMALL),  # scvi-tools looks at 100 cells
}
"""A class of models -> its cells, the arguments of setup_anndata, and those of the class."""


def class_of(name):
    return getattr(scvi.model, name, None) or getattr(scvi.external, name)


def build(name="SCVI", adata=None, setup=None, seed=0, **settings):
    """A model without dropout, so that two of its steps differ by nothing but their loss."""
    torch.manual_seed(seed)
    data, keys, small = DEFAULTS[name]
    adata = data() if adata is None else adata
    cls = class_of(name)
    set_up = cls.setup_mudata if isinstance(adata, mudata.MuData) else cls.setup_anndata
    set_up(adata, batch_key="batch", **keys, **(setup or {}))
    model = cls(adata, **{**small, **settings})
    for layer in model.module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    return model


def batch(model):
    return next(iter(model._make_data_loader(model.adata, batch_size=model.adata.n_obs)))


def in_float64(tensors):
    return {n: t.double() if t is not None and t.is_floating_point() else t for n, t in tensors.items()}


def without_eps(patch):
    """scvi-tools' formulas with an eps that is 0. (With 0 itself, log_zinb_positive takes no x for 0.)"""
    for name in ("log_nb_positive", "log_zinb_positive", "log_mixture_nb"):
        original = getattr(_negative_binomial, name)
        patch.setattr(_negative_binomial, name, lambda *a, f=original, **k: f(*a, **{**k, "eps": 1e-300}))


def step(module, tensors, patch, noise, **loss_kwargs):
    """The losses and the gradients of a training step. Steps with the same `noise`, a dict, have the same noise."""

    def rsample(q, sample_shape=()):
        key = tuple(q.loc.shape), len([k for k in seen if k[0] == tuple(q.loc.shape)])
        seen.append(key)
        if key not in noise:
            noise[key] = torch.randn(
                q.loc.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(noise))
            )
        return q.loc + q.scale * noise[key].to(q.loc)

    seen = []
    with patch.context() as patched:
        patched.setattr(Normal, "rsample", rsample)
        if tensors["X"].dtype == torch.float64:
            patched.setattr(torch.Tensor, "float", torch.Tensor.double)  # scvi-tools' one-hots
        module.train()
        losses = module(tensors, loss_kwargs=loss_kwargs)[-1]
    losses.loss.backward()
    return losses, {name: p.grad for name, p in module.named_parameters()}
