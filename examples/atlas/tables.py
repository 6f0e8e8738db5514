"""Adapters for the losses of packages for tables, anomalies and health records."""

import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from .case import ALONE, Loss, alone, batch, case, default, std


def pyod(**options):
    from pyod.models.vae import VAE, VAEModel, vae_loss

    detector = VAE(**options)
    shown = {name: getattr(detector, name) for name in ("beta", "capacity", "logvar_clip")}

    def loss(recon, x, mu, logvar):
        return vae_loss(x, recon, mu, logvar, **shown)

    return Loss(
        vae_loss,
        loss,
        batch(20, latents=(detector.latent_dim,), samples=detector.batch_size, recon="means", x="normal"),
        ", ".join(f"{key}={value}" for key, value in shown.items()),
        lambda mu, logvar: VAEModel.reparameterize(SimpleNamespace(logvar_clip=detector.logvar_clip), mu, logvar),
        note="" if options else "the KL is clamped to at most `capacity`, which is 0 by default",
    )


@case("pyod", "VAE")
def pyod_default():
    return pyod()


@case("pyod", "VAE, capacity=inf")
def pyod_with_capacity():
    return pyod(capacity=math.inf)


@case("ctgan", "TVAE, columns of numbers")
def ctgan():
    from ctgan.data_transformer import SpanInfo
    from ctgan.synthesizers.tvae import TVAE, _loss_function

    factor, latents = default(TVAE, "loss_factor"), default(TVAE, "embedding_dim")

    def loss(recon, x, mu, logvar):
        columns = [[SpanInfo(1, "tanh")] for _ in range(x.shape[1])]
        return sum(_loss_function(recon, x, torch.ones_like(x[0]), mu, logvar, columns, factor))

    return Loss(
        _loss_function,
        loss,
        batch(12, latents=(latents,), recon="means", x="normal"),
        f"loss_factor={factor}, sigma=1",
        note="sigma is a parameter of the decoder, one number for each column. The Gaussian was compared at sigma = 1",
    )


@case("synthcity", "TabularVAE, columns of numbers")
def synthcity():
    def part(file, name):
        return alone(
            "synthcity", f"synthcity/plugins/core/models/{file}.py", name, torch=torch, nn=torch.nn, DEVICE="cpu"
        )

    loss_function, draw = part("vae", "VAE._loss_function_standard"), part("vae", "VAE._reparameterize")
    factor = default(part("tabular_vae", "TabularVAE.__init__"), "loss_factor")

    def loss(recon, x, mu, logvar):
        model = SimpleNamespace(decoder_nonlin_out=[("none", x.shape[1])], loss_factor=factor)
        return loss_function(model, recon, x, mu, logvar)

    return Loss(
        loss_function,
        loss,
        batch(12, recon="means", x="normal"),
        f"loss_strategy='standard', loss_factor={factor}",
        lambda mu, logvar: draw(None, mu, logvar),
        ALONE,
    )


@case("deepchem", "VAE_ELBO")
def deepchem():
    from deepchem.models.losses import VAE_ELBO

    function = VAE_ELBO()._create_pytorch_loss()
    recon, x, mu, logvar = batch(20, recon="probabilities", x="binary")
    return Loss(
        function,
        lambda recon, x, mu, logvar: function(logvar, mu, x, recon),
        (recon, x, mu, std(logvar)),
        f"kl_scale={default(function, 'kl_scale')}",
        note="its argument `logvar` is the standard deviation, as its docstring says: the KL has log(logvar^2)",
    )


@case("pyhealth", "VAE")
def pyhealth():
    def part(name):
        return alone("pyhealth", "pyhealth/models/vae.py", f"VAE.{name}", torch=torch, F=F)

    function, draw = part("loss_function"), part("sampling")
    return Loss(
        function,
        lambda recon, x, mu, logvar: function(recon, x, mu, std(logvar)),
        batch(3, 128, recon="probabilities", x="binary"),
        "",
        lambda mu, logvar: draw(None, mu, std(logvar)),
        ALONE,
    )


@case("vae-anomaly-detection", "VAEAnomalyTabular")
def vae_anomaly_detection():
    from torch.distributions import Normal
    from vae_anomaly_detection.VAE import VAEAnomalyTabular

    model = VAEAnomalyTabular(input_size=20, latent_size=16)
    means, x, mu, logvar = batch(20, recon="means", x="normal")

    def loss(recon, x, mu, logvar):
        loc, scale = (t.unsqueeze(0) for t in recon)  # one sample of z
        model.predict = lambda x: {"recon_mu": loc, "recon_sigma": scale, "latent_dist": Normal(mu, std(logvar))}
        return model.forward(x)["loss"]

    return Loss(VAEAnomalyTabular.forward, loss, ((means, means.flip(0).exp()), x, mu, logvar), f"L={model.L}")
