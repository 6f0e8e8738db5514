"""The model that the options describe."""

import math

import torch
from torch import nn

from ..formulas import ELEMENT
from ..models.networks import conv_networks, mlp_networks
from ..models.vae import VAE
from . import UserError
from .prior import build_prior


class Scaled(nn.Module):
    """loc -> (loc, logscale): adds one learned scale, the same for all pixels, to the output of a decoder."""

    def __init__(self, logscale):
        super().__init__()
        self.logscale = nn.Parameter(torch.tensor(logscale))

    def forward(self, loc):
        return loc, self.logscale


class PerFeature(nn.Module):
    """log_mean -> (log_mean, *parameters): adds learned parameters of the shape of one x, which all samples share.

    start: {name of the parameter: its value before the training}
    """

    def __init__(self, shape, start):
        super().__init__()
        for name, value in start.items():
            self.register_parameter(name, nn.Parameter(torch.full(shape, value)))

    def forward(self, log_mean):
        return log_mean, *self.parameters()


# Before the training: a variance of mean + mean^2, and few zeros beside those of the count itself.
START = {"log_inverse_dispersion": 0.0, "dropout_logits": -3.0}


def build(config, data):
    """The VAE of the options, for this data.

    A likelihood with a scale gets one learned scale for all pixels, so that there is no beta to tune (sigma-VAE, Rybkin
    et al. 2021, arXiv:2006.13202). The scale starts at the standard deviation of a thousand training images. A
    likelihood of counts gets an inverse dispersion, and a probability of dropout, for each feature.
    """
    shape = tuple(data.images.shape[1:])
    if config["model"] == "conv" and len(shape) != 3:
        raise UserError(
            f"--model conv needs images, but {data.source} has vectors of {shape[0]} values; use --model mlp"
        )
    options = {"likelihood": config["likelihood"], "beta": config["beta"], "backend": config["backend"]}
    formula, latent_dim = ELEMENT[config["likelihood"]], config["latent_dim"]
    if "logvar" in formula.PARAMETERS:
        options["obs_logvar"] = nn.Parameter(torch.tensor(2 * log_deviation(data)))
    networks = {"mlp": mlp_networks, "conv": conv_networks}[config["model"]]
    encoder, decoder = networks(shape, latent_dim, counts=formula.SUPPORT == "counts")
    if "logscale" in formula.PARAMETERS:
        decoder.append(Scaled(log_deviation(data)))
    start = {name: START[name] for name in formula.PARAMETERS if name in START}
    if start:
        decoder.append(PerFeature(shape, start))
    vae = VAE(encoder, decoder, latent_shape=(latent_dim,), **options)
    vae.prior_module = build_prior(config["prior"], config["components"], vae, data)
    return vae


def log_deviation(data):
    """The logarithm of the standard deviation of all pixels of a thousand training images."""
    images = data.images[data.split()[0][:1000]]
    variance = (images.double() / (255 if images.dtype == torch.uint8 else 1)).var(correction=0).item()
    if variance == 0:
        raise UserError(f"{data.source}: all values are equal, expected data that vary")
    return 0.5 * math.log(variance)


def learned_scale(vae):
    """A sentence about the learned scale, or None if the model has no learned scale."""
    if isinstance(vae.obs_logvar, torch.Tensor):
        return f"learned standard deviation of a pixel: {math.exp(0.5 * vae.obs_logvar.item()):.4f}"
    if isinstance(vae.decoder[-1], Scaled):
        return f"learned scale of a pixel: {math.exp(vae.decoder[-1].logscale.item()):.4f}"
    return None
