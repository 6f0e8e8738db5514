"""Adapters for the losses of packages for recommendations: recbole, cornac."""

from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace

import torch

from .case import Loss, batch, case

ITEMS = 50


def recbole(name):
    """(the class of a model of recbole, its default configuration as the package's yaml file has it)"""
    import yaml
    from recbole.model import general_recommender as models

    file = Path(distribution("recbole").locate_file(f"recbole/properties/model/{name}.yaml"))
    return getattr(models, name), SimpleNamespace(**yaml.safe_load(file.read_text(encoding="utf-8")))


def of_users(x):
    """The attributes by which a model of recbole finds the items of the users of a batch."""
    return {"USER_ID": "user", "get_rating_matrix": lambda user: x}


@case("recbole", "MultiVAE")
def multi_vae():
    MultiVAE, config = recbole("MultiVAE")

    def loss(recon, x, mu, logvar):
        steps = config.total_anneal_steps
        model = SimpleNamespace(update=steps, total_anneal_steps=steps, anneal_cap=config.anneal_cap, **of_users(x))
        model.forward = lambda x: (recon, mu, logvar)
        return MultiVAE.calculate_loss(model, {"user": None})

    return Loss(
        MultiVAE.calculate_loss,
        loss,
        batch(ITEMS, latents=(config.latent_dimension // 2,), x="binary"),
        f"anneal_cap={config.anneal_cap}, after total_anneal_steps={config.total_anneal_steps} steps",
        lambda mu, logvar: MultiVAE.reparameterize(SimpleNamespace(training=True), mu, logvar),
        likelihood="multinomial",
    )


@case("recbole", "MacridVAE")
def macrid_vae():
    MacridVAE, config = recbole("MacridVAE")

    def loss(recon, x, mu, logvar):
        steps = config.total_anneal_steps
        model = SimpleNamespace(update=steps, total_anneal_steps=steps, anneal_cap=config.anneal_cap, **of_users(x))
        model.kfac, model.regs = 1, config.reg_weights
        model.forward = lambda x: (recon, [mu], [logvar])
        return MacridVAE.calculate_loss(model, {"user": None})

    return Loss(
        MacridVAE.calculate_loss,
        loss,
        batch(ITEMS, latents=(config.embedding_size,), x="binary"),
        f"std={config.std}, anneal_cap={config.anneal_cap}, kfac=1 (its default is {config.kfac})",
        lambda mu, logvar: MacridVAE.reparameterize(SimpleNamespace(training=True, std=config.std), mu, logvar),
        likelihood="multinomial",
        note="its forward gives each mu the length 1, so that mu^2 would be a constant of the KL",
    )


@case("recbole", "RecVAE")
def rec_vae():
    from recbole.model.general_recommender.recvae import CompositePrior

    RecVAE, config = recbole("RecVAE")
    prior = CompositePrior(8, config.latent_dimension, ITEMS, config.mixture_weights)

    def draw(mu, logvar):
        return RecVAE.reparameterize(SimpleNamespace(training=True), mu, logvar)

    def loss(recon, x, mu, logvar):
        model = SimpleNamespace(gamma=config.gamma, dropout_prob=config.dropout_prob, prior=prior.to(x), **of_users(x))
        model.forward = lambda x, dropout_prob: (recon, mu, logvar, draw(mu, logvar))
        return RecVAE.calculate_loss(model, {"user": None}, True)

    return Loss(
        RecVAE.calculate_loss,
        loss,
        batch(ITEMS, latents=(config.latent_dimension,), x="binary"),
        f"gamma={config.gamma}, mixture_weights={config.mixture_weights}",
        draw,
        likelihood="multinomial",
        note="the KL is estimated from one z, the prior is a mixture with the last posterior, and the KL of a user has "
        "the weight gamma times the number of the user's items",
    )


@case("cornac", "VAECF")
def vaecf():
    from cornac.models import VAECF
    from cornac.models.vaecf.vaecf import VAE

    made = VAECF()
    model = SimpleNamespace(likelihood=made.likelihood)

    def loss(recon, x, mu, logvar):
        return VAE.loss(model, x, torch.softmax(recon, 1), mu, logvar, made.beta)

    return Loss(
        VAE.loss,
        loss,
        batch(ITEMS, latents=(made.k,), x="binary"),
        f"likelihood={made.likelihood!r}, beta={made.beta}",
        lambda mu, logvar: VAE.reparameterize(None, mu, logvar),
        likelihood="multinomial",
        note="recon went through a softmax before the loss, as in its decoder",
    )


@case("cornac", "BiVAECF")
def bivaecf():
    from cornac.models import BiVAECF
    from cornac.models.bivaecf.bivae import BiVAE

    made = BiVAECF()
    model = SimpleNamespace(likelihood=made.likelihood)

    def loss(recon, x, mu, logvar):
        return BiVAE.loss(model, x, recon, mu, torch.zeros_like(mu), torch.exp(logvar / 2), made.beta_kl)

    return Loss(
        BiVAE.loss,
        loss,
        batch(ITEMS, latents=(made.k,), recon="rates", x="counts"),
        f"likelihood={made.likelihood!r}, beta_kl={made.beta_kl}",
        lambda mu, logvar: BiVAE.reparameterize(None, mu, torch.exp(logvar / 2)),
    )
