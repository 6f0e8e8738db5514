"""Small VAEs that are ready to train: one of fully connected layers, one of convolutions. layers.py has the modules."""

import math
from collections.abc import Iterable
from itertools import pairwise

from torch import nn
from typing_extensions import Unpack

from ..core import checks
from ..core.ranges import count, ints
from ..formulas import ALL, PIXEL, POSITION, SEGMENTS
from ..typing import LikelihoodLike, ModelSettings
from .layers import Decoder, Encoder, Split
from .vae import VAE

_Split = Split  # the name in the models that version 0.1 pickled


def check_likelihood(likelihood, outputs, kwargs):
    """Check the arguments that mlp_vae and conv_vae share. Whether x has counts."""
    likelihood = checks.likelihood(likelihood)
    if likelihood in SEGMENTS:
        raise ValueError(f"likelihood: {likelihood!r} needs a decoder of packed [B, width]; expected VAE(...)")
    if likelihood in POSITION:
        raise ValueError(f"likelihood: {likelihood!r} needs a decoder with levels along dimension 1; expected VAE(...)")
    if likelihood in PIXEL:
        parts = "the numbers of each pixel along dimension 1"
        raise ValueError(f"likelihood: {likelihood!r} needs a decoder with {parts}; expected VAE(...)")
    formula = ALL[likelihood]
    names = formula.PARAMETERS
    least = len([name for name in names if name not in formula.DEFAULTS])
    if isinstance(outputs, bool) or not isinstance(outputs, int):
        raise TypeError(f"outputs: got {outputs!r}, expected an integer: the number of parameters that are predicted")
    if not least <= outputs <= len(names):
        numbers = f"{least}" if least == len(names) else f"{least} to {len(names)}"
        raise ValueError(f"outputs: got {outputs}, expected {numbers} for {likelihood!r} ({', '.join(names)})")
    if kwargs.get("obs_logvar") is not None and "logvar" in names[:outputs]:
        raise ValueError(f"obs_logvar: given beside outputs={outputs}, where the decoder predicts the variance")
    if kwargs.get("autoregressive"):
        raise ValueError("autoregressive: got True, but this decoder reads z alone; expected VAE(...)")
    return formula.SUPPORT == "counts"


def mlp_vae(
    input_shape: Iterable[int],
    latent_dim: int = 20,
    hidden: Iterable[int] = (400,),
    likelihood: LikelihoodLike = "bernoulli",
    *,
    outputs: int = 1,
    condition_dim: int = 0,
    **kwargs: Unpack[ModelSettings],
) -> VAE:
    """A VAE of fully connected layers with ReLU: the standard small model, for data of any shape.

    input_shape: the shape of one x, without the batch.
    hidden:      the widths of the encoder's hidden layers. The decoder has the same widths in reverse order.
    outputs:     how many of the likelihood's parameters the decoder predicts. With 1 the decoder gives a tensor, with
                 more it gives a tuple.
    condition_dim: 0, or C: the calls then take a condition [B, C], which is joined to x and to z.
    kwargs:      the other arguments of `VAE`.

    If x has counts, the encoder takes log(1 + x), and the first parameter of the decoder, a logarithm of a mean, is
    bounded(t, -20, 20): formulas/bounded.py has this smooth function. So large counts give finite losses. If the totals
    of the samples differ much, as for cells, give total="observed".
    """
    shape = ints("input_shape", input_shape, "a tuple of positive ints, such as (784,)")
    widths = ints("hidden", hidden, "a tuple of positive ints, such as (400,)")
    count("latent_dim", latent_dim, 1)
    count("condition_dim", condition_dim)
    if not shape:
        raise ValueError("input_shape: got (), expected at least one int, such as (784,)")
    counts = check_likelihood(likelihood, outputs, kwargs)
    networks = mlp_networks(shape, latent_dim, widths, outputs=outputs, counts=counts, condition_dim=condition_dim)
    return VAE(*networks, likelihood=likelihood, latent_shape=(latent_dim,), **kwargs)


def mlp_networks(shape, latent_dim, widths=(400,), *, outputs=1, counts=False, condition_dim=0):
    """The encoder and the decoder of mlp_vae, from arguments that were checked."""
    pixels = math.prod(shape)
    layers = nn.Flatten(), *_mlp((pixels + condition_dim, *widths, 2 * latent_dim))
    encoder = Encoder(*layers, counts=counts, input_shape=shape, condition_dim=condition_dim)
    first, *rest = shape
    up = *_mlp((latent_dim + condition_dim, *widths[::-1], outputs * pixels)), nn.Unflatten(1, (outputs * first, *rest))
    return encoder, Decoder(*up, *_split(outputs), counts=counts, condition_dim=condition_dim)


def _mlp(widths):
    layers = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers[:-1]


def _split(outputs):
    return [Split(outputs)] if outputs > 1 else []


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

    Counts are treated as in `mlp_vae`.
    """
    shape = ints("input_shape", input_shape, "(C, H, W)")
    widths = ints("channels", channels, "a tuple of positive ints, such as (32, 64)")
    count("latent_dim", latent_dim, 1)
    counts = check_likelihood(likelihood, outputs, kwargs)
    if len(shape) != 3 or not widths:
        raise ValueError(f"input_shape, channels: got {shape}, {widths}, expected (C, H, W) and at least one width")
    networks = conv_networks(shape, latent_dim, widths, outputs=outputs, counts=counts)
    return VAE(*networks, likelihood=likelihood, latent_shape=(latent_dim,), **kwargs)


def conv_networks(shape, latent_dim, widths=(32, 64), *, outputs=1, counts=False):
    """The encoder and the decoder of conv_vae, from arguments that were checked."""
    c, h, w = shape
    down: list[nn.Module] = []
    up: list[nn.Module] = []
    narrow = outputs * c
    for before, after in zip((c, *widths), widths, strict=False):
        down += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        # A stride-2 convolution makes m = ceil(n/2) pixels of n. Its transpose makes 2m - 1 pixels of m, which is one
        # pixel too few if n was even.
        even = (1 - h % 2, 1 - w % 2)
        up = [nn.ReLU(), nn.ConvTranspose2d(after, narrow, 3, stride=2, padding=1, output_padding=even), *up]
        h, w, narrow = (h + 1) // 2, (w + 1) // 2, after
    flat = widths[-1] * h * w
    encoder = Encoder(*down, nn.Flatten(), nn.Linear(flat, 2 * latent_dim), counts=counts, input_shape=(c, *shape[1:]))
    first = nn.Linear(latent_dim, flat), nn.Unflatten(1, (widths[-1], h, w))
    return encoder, Decoder(*first, *up, *_split(outputs), counts=counts)
