"""Adapters for the losses of packages for single cells: scvi-tools, cellarium-ml."""

import inspect
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Literal

import numpy as np
import torch

from .case import ALONE, Loss, alone, batch, case, default, std

GENES = 30


def counts(latents):
    """An example whose recon has the parameters of a zero-inflated negative binomial, by their names."""
    log_mean, x, mu, logvar = batch(GENES, latents=(latents,), recon="means", x="counts")
    names = ("log_mean", "log_inverse_dispersion", "dropout_logits")
    return {name: log_mean.roll(k, 0) for k, name in enumerate(names)}, x, mu, logvar


@case("scvi-tools", "SCVI")
def scvi():
    from scvi.distributions import ZeroInflatedNegativeBinomial
    from scvi.model import SCVI
    from scvi.module import VAE
    from torch.distributions import Normal

    model = VAE(GENES)

    def loss(recon, x, mu, logvar):
        log_mean, log_theta, logits = recon.values()
        px = ZeroInflatedNegativeBinomial(mu=log_mean.exp(), theta=log_theta.exp(), zi_logits=logits)
        generative = {"px": px, "pz": Normal(torch.zeros_like(mu), torch.ones_like(mu))}
        return model.loss({"X": x}, {"qz": Normal(mu, std(logvar)), "z": mu}, generative).loss

    latents = default(SCVI, "n_latent")
    kl_weight = default(VAE.loss, "kl_weight")
    return Loss(VAE.loss, loss, counts(latents), f"gene_likelihood={model.gene_likelihood!r}, kl_weight={kl_weight}")


@case("scvi-tools", "PEAKVI")
def peakvi():
    from scvi.module import PEAKVAE
    from torch.distributions import Normal

    model = PEAKVAE(GENES, region_factors=False)

    def loss(recon, x, mu, logvar):
        return model.loss({"X": x}, {"qz": Normal(mu, std(logvar)), "d": torch.ones_like(x)}, {"px": recon}).loss

    return Loss(
        PEAKVAE.loss,
        loss,
        batch(GENES, latents=(model.n_latent,), recon="probabilities", x="binary"),
        f"region_factors=False, kl_weight={default(PEAKVAE.loss, 'kl_weight')}",
        note="with B cells in a batch the effective beta is 1 / B. The probability is p d f; here the cell's factor d "
        "and the region's factor f were 1",
    )


@case("cellarium-ml", "SingleCellVariationalInference")
def cellarium():
    from torch.distributions import Normal, Poisson, kl_divergence

    def part(name, **scope):
        return alone("cellarium-ml", "cellarium/ml/models/scvi.py", name, torch=torch, np=np, Normal=Normal, **scope)

    def nothing(*_):
        """In the place of checks of names."""

    checks = {"assert_columns_and_array_lengths_equal": nothing, "assert_arrays_equal": nothing}
    weight = part("compute_annealed_kl_weight")
    function = part(f"{MODEL}.forward", kl=kl_divergence, compute_annealed_kl_weight=weight, **checks)
    init = part(f"{MODEL}.__init__", Sequence=Sequence, Literal=Literal)
    shown = {name: default(init, name) for name in ("kl_warmup_epochs", "z_kl_weight_max", "n_latent")}
    options = {name: p.default for name, p in inspect.signature(init).parameters.items()}

    def loss(recon, x, mu, logvar):
        model = SimpleNamespace(**options | {"var_names_g": None, "step": 0, "epoch": shown["kl_warmup_epochs"]})
        model.batch_representation_from_batch_index = model.categorical_onehot_from_categorical_index = nothing
        model.inference = lambda **_: {"z": mu, "qz": Normal(mu, std(logvar))}
        normal = Normal(torch.zeros_like(mu), torch.ones_like(mu))
        model.generative = lambda **_: {"px": Poisson(recon, validate_args=False), "pz": normal}
        return function(model, x, None, None)["loss"]

    return Loss(
        function,
        loss,
        batch(GENES, latents=(shown["n_latent"],), recon="rates", x="counts"),
        f"z_kl_weight_max={shown['z_kl_weight_max']}, after kl_warmup_epochs={shown['kl_warmup_epochs']} epochs",
        how=ALONE,
        note="p(x | z) was a Poisson, as with gene_likelihood='poisson'; "
        f"the default is {options['gene_likelihood']!r}",
    )


MODEL = "SingleCellVariationalInference"
