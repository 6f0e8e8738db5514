"""Small VAEs that are ready to train: one of fully connected layers, one of convolutions."""

import math
from collections.abc import Iterable
from itertools import pairwise

from torch import nn
from typing_extensions import Unpack

from ..core import checks
from ..formulas import ELEMENT, POSITION
from ..typing import LikelihoodLike, ModelSettings
from .vae import VAE


class _Split(nn.Module):
    """[B, n*C, ...] -> a tuple of n views [B, C, ...]: one for each parameter of the likelihood."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def forward(self, h):
        return h.chunk(self.n, dim=1)


def _check(likelihood, outputs, sizes):
    """Check the arguments that mlp_vae and conv_vae share. `sizes`: name -> ints that must all be positive."""
    likelihood = checks.likelihood(likelihood)
    if likelihood in POSITION:
        raise ValueError(f"likelihood: {likelihood!r} needs a decoder with levels along dimension 1; expected VAE(...)")
    names = ELEMENT[likelihood].PARAMETERS
    if not 1 <= outputs <= len(names):
        expected = f"1 to {len(names)} for {likelihood!r} ({', '.join(names)})"
        raise ValueError(f"outputs: got {outputs}, expected {expected}")
    for name, values in sizes.items():
        if any(not isinstance(v, int) or v < 1 for v in values):
            raise ValueError(f"{name}: got {tuple(values)}, expected positive ints")


def mlp_vae(
    input_shape: Iterable[int],
    latent_dim: int = 20,
    hidden: Iterable[int] = (400,),
    likelihood: LikelihoodLike = "bernoulli",
    *,
    outputs: int = 1,
    **kwargs: Unpack[ModelSettings],
) -> VAE:
    """A VAE of fully connected layers with ReLU: the standard small model, for data of any shape.

    input_shape: the shape of one x, without the batch.
    hidden:      the widths of the encoder's hidden layers. The decoder has the same widths in reverse order.
    outputs:     how many of the likelihood's parameters the decoder predicts. With 1 the decoder gives a tensor, with
                 more it gives a tuple.
    kwargs:      the other arguments of `VAE`.
    """
    input_shape, hidden = tuple(input_shape), tuple(hidden)
    _check(likelihood, outputs, {"input_shape": input_shape, "latent_dim": (latent_dim,), "hidden": hidden})
    pixels = math.prod(input_shape)
    encoder = nn.Sequential(nn.Flatten(), *_mlp((pixels, *hidden, 2 * latent_dim)))
    decoder = nn.Sequential(*_mlp((latent_dim, *hidden[::-1], outputs * pixels)))
    first, *rest = input_shape
    decoder.append(nn.Unflatten(1, (outputs * first, *rest)))
    if outputs > 1:
        decoder.append(_Split(outputs))
    return VAE(encoder, decoder, likelihood=likelihood, latent_shape=(latent_dim,), **kwargs)


def _mlp(widths):
    layers = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers[:-1]


def conv_vae(
    input_shape: Iterable[int],
    latent_dim: int = 20,
    channels: Iterable[int] = (32, 64),
    likelihood: LikelihoodLike = "bernoulli",
    *,
    outputs: int = 1,
    **kwargs: Unpack[ModelSettings],
) -> VAE:
    """A small convolutional VAE for images of any height and width.

    input_shape: (C, H, W).
    channels:    the widths of the encoder's stride-2 convolutions. The decoder has the same widths in reverse order.
    outputs:     how many of the likelihood's parameters the decoder predicts. With 1 the decoder gives a tensor, with
                 more it gives a tuple.
    kwargs:      the other arguments of `VAE`.
    """
    input_shape, channels = tuple(input_shape), tuple(channels)
    _check(likelihood, outputs, {"input_shape": input_shape, "latent_dim": (latent_dim,), "channels": channels})
    if len(input_shape) != 3 or not channels:
        raise ValueError(
            f"input_shape, channels: got {input_shape}, {channels}, expected (C, H, W) and at least one width"
        )
    c, h, w = input_shape
    down: list[nn.Module] = []
    up: list[nn.Module] = []
    narrow = outputs * c
    for before, after in zip((c, *channels), channels, strict=False):
        down += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        # A stride-2 convolution makes m = ceil(n/2) pixels of n. Its transpose makes 2m - 1 pixels of m, which is one
        # pixel too few if n was even.
        even = (1 - h % 2, 1 - w % 2)
        up = [nn.ReLU(), nn.ConvTranspose2d(after, narrow, 3, stride=2, padding=1, output_padding=even), *up]
        h, w, narrow = (h + 1) // 2, (w + 1) // 2, after
    flat = channels[-1] * h * w
    encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, 2 * latent_dim))
    decoder = nn.Sequential(nn.Linear(latent_dim, flat), nn.Unflatten(1, (channels[-1], h, w)), *up)
    if outputs > 1:
        decoder.append(_Split(outputs))
    return VAE(encoder, decoder, likelihood=likelihood, latent_shape=(latent_dim,), **kwargs)
