"""The clients: models as people train them, each with its data and its loss in two ways. steps.py times their training
steps. The arguments are sizes, so a test can take small ones."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..likelihoods import DiscretizedLogisticMixture, Mixed
from ..models.networks import conv_vae, mlp_vae
from . import columns, networks, pixels, rivals
from .case import Case, draw_counts
from .ways import ByHand, Fused


@dataclass(frozen=True)
class Model:
    """name: for the tables of results. what: the model in words. make: a function without arguments that makes the
    module (networks.py). draw: a function of a generator that gives x. hand, ours: the two ways to write the loss
    (ways.py). case: the sizes, for the columns of results.py."""

    name: str
    what: str
    make: Any
    draw: Any
    hand: Any
    ours: Any
    case: Case

    def by_hand(self, model, x):
        return model(x, self.hand)

    def fused(self, model, x):
        return model(x, self.ours)


def mlp(batch=128, dims=784, hidden=400, latents=20):
    def make():
        vae = mlp_vae((dims,), latents, (hidden,))
        return networks.Single(vae.encoder, vae.decoder)

    return Model(
        f"MLP {dims}-{hidden}-{latents}",
        "the VAE of pytorch/examples, with logits",
        make,
        lambda g: torch.rand(batch, dims, generator=g),
        ByHand(rivals.bce_with_logits),
        Fused("bernoulli"),
        Case(batch, dims, latents, part="step"),
    )


def conv(batch=64, channels=3, size=64, latents=128, widths=(32, 64)):
    def make():
        vae = conv_vae((channels, size, size), latents, widths)
        return networks.Single(vae.encoder, vae.decoder)

    return Model(
        f"conv {channels}x{size}x{size}",
        f"convolutions of {' and '.join(map(str, widths))} channels, Bernoulli pixels",
        make,
        lambda g: torch.rand(batch, channels, size, size, generator=g),
        ByHand(rivals.bce_with_logits),
        Fused("bernoulli"),
        Case(batch, channels * size * size, latents, part="step"),
    )


def zinb_of_shares(x, logits, log_theta, dropout_logits):
    """The loss of SCVI: the soft-max gives the shares of the genes, and a mean is a share of the observed total."""
    log_mean = x.sum(1, keepdim=True).log() + logits.log_softmax(1)
    return rivals.zinb(x, log_mean, log_theta, dropout_logits)


def cells(batch=128, genes=20000, hidden=128, latents=10):
    case = Case(batch, genes, latents, "step", "zinb", 3)

    def make():
        encoder = nn.Sequential(networks.Log1p(), *networks.hidden(genes, hidden), nn.Linear(hidden, 2 * latents))
        return networks.Single(encoder, networks.Genes(latents, hidden, genes))

    return Model(
        f"cells as SCVI, {genes} genes",
        f"the networks of scvi-tools' SCVI: log(1 + x), one hidden layer of {hidden} with batch norm, shares of the "
        "observed total by soft-max, one dispersion a gene; without batches, and without dropout in the hidden layers",
        make,
        lambda g: draw_counts(case, g)[0],
        ByHand(zinb_of_shares),
        Fused("zinb", total=True),
        case,
    )


def table(batch=500, numbers=6, modes=10, categories=(9, 16, 7, 15, 6, 5, 2, 42, 2), hidden=128, latents=128):
    """numbers and categories have the sizes of the census table Adult."""
    number = ("gaussian", "tanh"), ("categorical", modes)
    likelihood = Mixed((*number * numbers, *(("categorical", k) for k in categories)))
    width, count = likelihood.width, len(likelihood.columns)

    def make():
        layers = [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        encoder = nn.Sequential(*layers, nn.Linear(hidden, 2 * latents))
        layers = [nn.Linear(latents, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        return networks.Single(encoder, networks.Rows(count, *layers, nn.Linear(hidden, width)))

    return Model(
        f"table as TVAE, {numbers} + {len(categories)} columns",
        f"the networks of ctgan's TVAE, {numbers} numbers with {modes} modes each and {len(categories)} categories; "
        "by hand, the loss is a loop over columns as in ctgan; without TVAE's factor of 2 and its clamp of sigma",
        make,
        lambda g: columns.draw(likelihood, batch, g)[1],
        ByHand(columns.loop(likelihood.columns)),
        Fused(likelihood),
        Case(batch, width, latents, "step", "mixed", 2),
    )


def cross_entropy(x, logits):
    """logits: a view [B, words, tokens] of a tensor [B, tokens, words], which is flattened without a copy."""
    return F.cross_entropy(logits.movedim(1, 2).flatten(0, 1), x.flatten(), reduction="sum")


def text(batch=16, tokens=40, words=10000, width=256, latents=32):
    return Model(
        f"text, {tokens} of {words} words",
        f"vectors of {width} numbers for the words; the encoder reads their mean, the decoder reads z and the word "
        "before each word; a linear layer gives the logits of all words",
        lambda: networks.Words(words, width, latents),
        lambda g: torch.randint(words, (batch, tokens), generator=g),
        ByHand(cross_entropy),
        Fused("categorical"),
        Case(batch, tokens, latents, "step", "categorical", x="int64"),
    )


def hierarchy(batch=16, size=32, blocks=(1, 2, 2), width=64, latents=16):
    likelihood = DiscretizedLogisticMixture(components=pixels.COMPONENTS)
    parts, dims = 3 * pixels.CHANNELS + 1, pixels.CHANNELS * size * size
    groups = sum(n * latents * (size >> i) ** 2 for i, n in enumerate(reversed(blocks)))
    return Model(
        f"pixels as VDVAE, {pixels.CHANNELS}x{size}x{size}",
        f"{sum(blocks)} blocks in the form of VDVAE on {len(blocks)} resolutions, {width} channels, {latents} latents "
        f"for each place and block, mixtures of {pixels.COMPONENTS} discretized logistics",
        lambda: networks.Hierarchy(pixels.CHANNELS, size, blocks, width, latents, parts * pixels.COMPONENTS),
        lambda g: torch.randint(256, (batch, pixels.CHANNELS, size, size), generator=g) / 255,
        ByHand(pixels.discretized_logistic_mixture),
        Fused(likelihood),
        Case(batch, dims, groups, "step", likelihood.name),
    )


MODELS = mlp(), conv(), cells(), table(), text(), hierarchy()
