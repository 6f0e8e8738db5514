"""The model that the options describe."""

import math

import torch
from torch import nn

from ..formulas import ELEMENT
from ..formulas.bounded import bounded
from ..models.layers import LOG_MEAN
from ..models.networks import conv_networks, mlp_networks
from ..models.vae import VAE
from . import UserError
from .prior import build_prior
from .reading import columns


class Scaled(nn.Module):
    """loc -> (loc, logscale): adds one learned scale, the same for all pixels, to the output of a decoder."""

    def __init__(self, logscale):
        super().__init__()
        self.logscale = nn.Parameter(torch.tensor(logscale))

    def forward(self, loc):
        return loc, self.logscale


class LogCounts(nn.Module):
    """x -> x with log(1 + x) in the columns of counts, for the encoder."""

    def __init__(self, is_count):
        super().__init__()
        self.register_buffer("is_count", is_count, persistent=False)

    def forward(self, x):
        return torch.where(self.is_count, torch.log1p(torch.where(self.is_count, x, 0)), x)


class Packed(nn.Module):
    """The decoder's numbers -> (packed, logscale): bounds the log-means of counts as the decoder of mlp_vae does, and
    adds one learned scale for each column."""

    def __init__(self, is_count, columns):
        super().__init__()
        self.register_buffer("is_count", is_count, persistent=False)
        self.logscale = nn.Parameter(torch.zeros(columns))

    def forward(self, numbers):
        return torch.where(self.is_count, bounded(numbers, *LOG_MEAN), numbers), self.logscale


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
    if data.table is not None:
        return _with_prior(_of_table(data.table, config["latent_dim"], options), config, data)
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
    return _with_prior(VAE(encoder, decoder, latent_shape=(latent_dim,), **options), config, data)


def _with_prior(vae, config, data):
    vae.prior_module = build_prior(config["prior"], config["components"], vae, data)
    return vae


def _of_table(table, latent_dim, options):
    """The VAE of a table: one learned scale for each column."""
    own = columns.modelled(table)
    encoder, decoder = mlp_networks((sum(column.width for column in own),), latent_dim)
    is_count = torch.tensor([column.kind in columns.COUNTS for column in own for _ in range(column.width)])
    encoder.insert(0, LogCounts(is_count))
    decoder.append(Packed(is_count, len(own)))
    settings = options | {"likelihood": columns.likelihood(table)}
    return VAE(encoder, decoder, latent_shape=(latent_dim,), **settings)


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
