"""Adapters for the losses of packages for images: pythae, diffusers, lightning-bolts, monai."""

from dataclasses import replace
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from .case import ALONE, Loss, alone, batch, case, default, std

PIXELS = (1, 28, 28)


def pythae(name, arguments, note="", shown=()):
    """The Loss of a model of pythae with its default configuration. arguments(model, mu, logvar): what its
    loss_function gets after (recon, x). shown: the names of settings."""
    from pythae import models

    config = getattr(models, f"{name}Config" if not name.endswith("MMD") else f"{name}_Config")
    model = getattr(models, name)(config(input_dim=PIXELS, latent_dim=16))
    names = ("reconstruction_loss", *shown)
    settings = ", ".join(f"{key}={getattr(model.model_config, key)!r}" for key in names)

    def sample(mu, logvar):
        return model._sample_gauss(mu, std(logvar))[0]

    def loss(recon, x, mu, logvar):
        return model.loss_function(recon, x, *arguments(model, mu, logvar))[0]

    loss.model = model
    return Loss(
        type(model).loss_function,
        loss,
        batch(*PIXELS, recon="means"),
        settings,
        sample,
        note=note,
    )


@case("pythae", "VAE")
def pythae_vae():
    return pythae("VAE", lambda model, mu, logvar: (mu, logvar, None))


@case("pythae", "BetaVAE")
def pythae_beta_vae():
    return pythae("BetaVAE", lambda model, mu, logvar: (mu, logvar, None), shown=("beta",))


@case("pythae", "DisentangledBetaVAE")
def pythae_disentangled():
    def arguments(model, mu, logvar):
        return mu, logvar, None, model.warmup_epoch  # the default of the model's forward

    return pythae("DisentangledBetaVAE", arguments, shown=("beta", "C", "warmup_epoch"))


@case("pythae", "BetaTCVAE")
def pythae_beta_tc():
    def arguments(model, mu, logvar):
        z = model._sample_gauss(mu, std(logvar))[0]
        return mu, logvar, z, len(z)  # the default of the model's forward: the batch size

    note = "dataset_size was the batch, as in its forward without this argument"
    return pythae("BetaTCVAE", arguments, note, shown=("alpha", "beta", "gamma", "use_mss"))


@case("pythae", "INFOVAE_MMD")
def pythae_info():
    def arguments(model, mu, logvar, z=0.0):
        return torch.full_like(mu, z), torch.ones_like(mu), mu, logvar  # z, z of the prior, mu, logvar

    note = "z was held constant, so that the MMD of z has no gradient: the effective beta is that of the KL alone"
    loss = pythae("INFOVAE_MMD", arguments, note, shown=("alpha", "lbd"))
    recon, x, mu, logvar = (t.double() for t in loss.example)
    model = loss.call.model
    one, other = (model.loss_function(recon, x, *arguments(model, mu, logvar, z)) for z in (0.0, 0.5))
    weight = (one[0] - other[0]) / (one[3] - other[3])
    return replace(loss, beside=f"an MMD of z with the weight {weight:.4g}")


@case("diffusers", "AutoencoderKL, DiagonalGaussianDistribution.kl")
def diffusers():
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution as Posterior

    kl_scale = 1e-6

    def loss(recon, x, mu, logvar):
        kl = Posterior(torch.cat((mu, logvar), 1)).kl()
        nll = F.mse_loss(recon, x, reduction="none")
        return nll.sum() / nll.shape[0] + kl_scale * kl.sum() / kl.shape[0]

    return Loss(
        Posterior.kl,
        loss,
        batch(3, 32, 32, latents=(4, 4, 4), recon="means", x="normal"),
        f"rec_loss='l2', kl_scale={kl_scale}",
        lambda mu, logvar: Posterior(torch.cat((mu, logvar), 1)).sample(),
        "the KL imported; the sum re-typed",
        beside="a perceptual loss and a discriminator",
        note="the package has the KL and no loss. The sum, its means and kl_scale are those of the training script "
        "examples/research_projects/autoencoderkl/train_autoencoderkl.py of diffusers (commit 2e348b8)",
    )


@case("lightning-bolts", "VAE.step")
def bolts():
    def part(name):
        file = "pl_bolts/models/autoencoders/basic_vae/basic_vae_module.py"
        return alone("lightning-bolts", file, f"VAE.{name}", torch=torch, F=F)

    step, draw, kl_coeff = part("step"), part("sample"), default(part("__init__"), "kl_coeff")

    def loss(recon, x, mu, logvar):
        p, q, z = draw(None, mu, logvar)
        model = SimpleNamespace(kl_coeff=kl_coeff, _run_step=lambda x: (z, recon, p, q))
        return step(model, (x, None), 0)[0]

    return Loss(
        step,
        loss,
        batch(3, 32, 32, recon="means", x="normal"),
        f"kl_coeff={kl_coeff}",
        lambda mu, logvar: draw(None, mu, logvar)[2],
        ALONE,
    )


class Given(torch.nn.Module):
    """In the place of a layer: it gives the tensor that an adapter sets, whatever it gets."""

    def __init__(self, value=None, in_features=0):
        super().__init__()
        self.value, self.in_features = value, in_features

    def forward(self, *_):
        return self.value


def monai(estimate):
    from monai.networks.nets import SegResNetVAE

    size = (32, 32)
    model = SegResNetVAE(size, estimate, spatial_dims=2, in_channels=1, vae_nz=8)
    elements = model.vae_fc1.in_features
    model.vae_fc1, model.vae_fc2, model.vae_fc3 = Given(in_features=elements), Given(), Given(torch.zeros(1, elements))
    model.vae_conv_final = Given()
    features = torch.zeros(1, model.init_filters * 2 ** (len(model.blocks_down) - 1), 4, 4)

    def loss(recon, x, mu, sigma_before_softplus):
        model.vae_fc1.value, model.vae_fc2.value, model.vae_conv_final.value = mu, sigma_before_softplus, recon
        return model._get_vae_loss(x, features)

    return Loss(
        SegResNetVAE._get_vae_loss,
        loss,
        batch(1, *size, latents=(8,), recon="means", x="normal"),
        f"vae_estimate_std={estimate}, vae_default_std={model.vae_default_std}",
        note="its layers vae_fc1, vae_fc2 and vae_conv_final gave mu, sigma before its soft-plus, and recon",
    )


@case("monai", "SegResNetVAE")
def monai_fixed():
    return monai(False)


@case("monai", "SegResNetVAE, vae_estimate_std=True")
def monai_estimated():
    return monai(True)
