"""A table with mixed columns for the timings: the loss as people write it, and rows that are drawn."""

import torch
import torch.nn.functional as F

from . import rivals


def loop(columns):
    """The rival (x, packed, logscale) -> -log p as a loop over the columns, in the style of TVAE (Xu et al. 2019,
    arXiv:1907.00503; `_loss_function` of ctgan/synthesizers/tvae.py in ctgan 0.12.1): a normal density around a tanh
    for each number, a cross-entropy for each category. Unlike TVAE's loss, it has the constants of the density.

    columns: ("gaussian", "tanh") or ("categorical", K), as `vae_kernels.likelihoods.Mixed` takes them.
    """

    def loop_over_columns(x, packed, logscale):
        total, at = 0.0, 0
        for c, (name, width) in enumerate(columns):
            if name == "categorical":
                code = x[:, at : at + width].argmax(1)
                total = total + F.cross_entropy(packed[:, at : at + width], code, reduction="sum")
                at += width
            else:
                scaled = (x[:, at] - torch.tanh(packed[:, at])) * torch.exp(-logscale[c])
                total = total + (0.5 * scaled**2 + logscale[c] + 0.5 * rivals.LOG_2PI).sum()
                at += 1
        return total

    return loop_over_columns


def draw(likelihood, rows, g, logscale=-2.0):
    """((packed, logscale), x): random parameters of a table, and rows that are drawn from them."""
    params = torch.randn(rows, likelihood.width, generator=g), torch.full((len(likelihood.columns),), logscale)
    return params, likelihood.sample(params, generator=g)
