"""The networks of the clients whose training steps are timed. A module is called with x and a way to write the loss
(ways.py), and gives the loss: both ways have the same networks. posteriors() are the layers with a bias that give (mu,
logvar) along dimension 1."""

import torch
import torch.nn.functional as F
from torch import nn


class Single(nn.Module):
    """One group of latents. encoder: a Sequential that gives (mu, logvar) along dimension 1. decoder: gives a parameter
    of the likelihood, or a tuple of parameters."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def posteriors(self):
        return [self.encoder[-1]]

    def forward(self, x, way):
        mu, logvar = self.encoder(x).chunk(2, 1)
        z, kl = way.sample(mu, logvar)
        recon = self.decoder(z)
        return way.loss(recon if isinstance(recon, tuple) else (recon,), x, [kl])


class Log1p(nn.Module):
    def forward(self, x):
        return torch.log1p(x)


def hidden(before, after):
    """A hidden layer of scvi-tools (FCLayers): linear, batch norm, ReLU. Batch norm has the bias."""
    return nn.Linear(before, after, bias=False), nn.BatchNorm1d(after, eps=0.001, momentum=0.01), nn.ReLU()


class Genes(nn.Module):
    """A decoder of single cells: the logits of the genes' shares, one inverse dispersion a gene, dropout logits."""

    def __init__(self, latents, width, genes):
        super().__init__()
        self.body = nn.Sequential(*hidden(latents, width))
        self.shares, self.dropout = nn.Linear(width, genes), nn.Linear(width, genes)
        self.log_inverse_dispersion = nn.Parameter(torch.zeros(genes))

    def forward(self, z):
        h = self.body(z)
        return self.shares(h), self.log_inverse_dispersion, self.dropout(h)


class Rows(nn.Sequential):
    """A decoder of a table: the numbers of a row, and one learned scale for each column."""

    def __init__(self, columns, *layers):
        super().__init__(*layers)
        self.logscale = nn.Parameter(torch.full((columns,), -1.0))

    def forward(self, z):
        return super().forward(z), self.logscale


class Words(nn.Module):
    """A text model: the encoder reads the mean of the words' vectors, and the decoder reads z and the word before. The
    logits are a view [B, words, tokens] of the decoder's [B, tokens, words]."""

    def __init__(self, words, width, latents):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.encoder = nn.Linear(width, 2 * latents)
        self.decoder = nn.Sequential(nn.Linear(width + latents, width), nn.ReLU(), nn.Linear(width, words))

    def posteriors(self):
        return [self.encoder]

    def forward(self, x, way):
        vectors = self.embedding(x)
        mu, logvar = self.encoder(vectors.mean(1)).chunk(2, 1)
        z, kl = way.sample(mu, logvar)
        before = F.pad(vectors[:, :-1], (0, 0, 1, 0))
        h = torch.cat([before, z.unsqueeze(1).expand(-1, x.shape[1], -1)], 2)
        return way.loss((self.decoder(h).movedim(2, 1),), x, [kl])


def bottleneck(before, after, width):
    """The layers of a block of VDVAE: 1 x 1, 3 x 3, 3 x 3 and 1 x 1, a GELU before each."""
    sizes = (before, width, 1), (width, width, 3), (width, width, 3), (width, after, 1)
    each = [(nn.GELU(), nn.Conv2d(a, b, k, padding=k // 2)) for a, b, k in sizes]
    return nn.Sequential(*(layer for pair in each for layer in pair))


class Block(nn.Module):
    """A block of the decoder: one group of latents, whose prior reads h, and whose posterior reads h and the encoder's
    features."""

    def __init__(self, width, latents):
        super().__init__()
        self.latents, quarter = latents, max(1, width // 4)
        self.prior = bottleneck(width, 2 * latents + width, quarter)
        self.posterior = bottleneck(2 * width, 2 * latents, quarter)
        self.of_z = nn.Conv2d(latents, width, 1)
        self.rest = bottleneck(width, width, quarter)

    def forward(self, h, features, way):
        prior_mu, prior_logvar, more = self.prior(h).tensor_split((self.latents, 2 * self.latents), 1)
        mu, logvar = self.posterior(torch.cat([h, features], 1)).chunk(2, 1)
        z, kl = way.sample(mu, logvar, (prior_mu, prior_logvar))
        h = h + more + self.of_z(z)
        return h + self.rest(h), kl


class Hierarchy(nn.Module):
    """A hierarchy of latents for images in the form of VDVAE (Child 2021, arXiv:2011.10650, figure 3), at toy size.

    blocks: how many blocks each resolution has, from the smallest. The last resolution is that of x, and each other one
    has half the height and width of the next. numbers: how many numbers the head gives for each pixel.
    """

    def __init__(self, channels, size, blocks, width, latents, numbers):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.up = nn.ModuleList(bottleneck(width, width, max(1, width // 4)) for _ in blocks)
        least = size >> (len(blocks) - 1)
        self.constant = nn.Parameter(0.1 * torch.randn(1, width, least, least))
        self.down = nn.ModuleList(nn.ModuleList(Block(width, latents) for _ in range(n)) for n in blocks)
        self.head = nn.Conv2d(width, numbers, 1)

    def posteriors(self):
        return [block.posterior[-1] for level in self.down for block in level]

    def forward(self, x, way):
        h, features, kls = self.stem(x), [], []
        for i, layers in enumerate(self.up):
            h = F.avg_pool2d(h, 2) if i else h
            h = h + layers(h)
            features.append(h)
        h = self.constant.expand(len(x), -1, -1, -1)
        for i, (level, of_x) in enumerate(zip(self.down, features[::-1], strict=True)):
            h = F.interpolate(h, scale_factor=2) if i else h
            for block in level:
                h, kl = block(h, of_x, way)
                kls.append(kl)
        return way.loss((self.head(h),), x, kls)
