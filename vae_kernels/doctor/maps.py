"""The map of the latents: the codes of the data, and rings around the draws of the prior."""

import torch
from matplotlib.lines import Line2D

from .ink import BLUE, CLASSES, INK, MARKERS

GRID = 60  # points of the grid on which the density of the prior's draws is computed, along each axis
MOST_DRAWS = 2000
RINGS = ((0.9, "--", "90% of the prior"), (0.5, "-", "half of the prior"))
MOST_NUMBERS = 100  # classes that get their number on the map


def latent(axes, codes, labels, classes, draws):
    """The codes [N, L] of the data on a plane: both dims if L = 2, else the first two principal components. Above the
    codes are two rings, which hold half and 90 % of the draws [S, L] of the prior.

    labels: [N] indices into `classes`, or None. Up to ten classes have a colour and a marker each; more classes have
    their numbers.
    """
    points, prior, names = project(codes.double().cpu(), draws.double().cpu())
    dot = {"s": 16, "alpha": 0.8, "linewidths": 0, "rasterized": True}
    handles = []
    if labels is None:
        axes.scatter(*points.T, color=BLUE, **dot)
    elif len(classes) <= len(CLASSES):
        for label in labels.unique().tolist():
            ink, marker = CLASSES[label], MARKERS[label]
            axes.scatter(*points[labels == label].T, color=ink, marker=marker, **dot)
            handles.append(_handle(str(classes[label]), color=ink, marker=marker, linestyle="", markersize=6))
    else:
        dots = axes.scatter(*points.T, c=labels, cmap="cividis", **dot)
        present = labels.unique().tolist()
        if len(present) <= MOST_NUMBERS:
            numbers(axes, points, labels, present)
        else:
            axes.figure.colorbar(dots, ax=axes, label="number of the class")
    handles += rings(axes, prior)
    place = {"loc": "outside lower center", "ncols": 4, "columnspacing": 1.0, "handletextpad": 0.4}
    axes.figure.legend(handles=handles, frameon=False, fontsize=9.5, **place)
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.grid(alpha=0.25)


def numbers(axes, points, labels, present):
    """The number of each class at the median of its points."""
    box = {"boxstyle": "round,pad=0.15", "facecolor": "#f0f0f0", "edgecolor": "none", "alpha": 0.85}
    for label in present:
        middle = points[labels == label].median(0).values.tolist()
        axes.text(*middle, str(label), fontsize=9.5, ha="center", va="center", color="#111111", bbox=box, zorder=4)


def rings(axes, draws):
    """Draw the rings that hold these shares of the draws [S, 2], and return their handles for a legend."""
    draws = draws[:MOST_DRAWS]
    if not (draws.std(0) > 1e-9).all():  # one latent: its draws lie on a line
        for share, style, _ in RINGS:
            for end in ((1 - share) / 2, (1 + share) / 2):
                axes.axvline(draws[:, 0].quantile(end).item(), color=INK, linestyle=style, linewidth=1.6, zorder=3)
    else:
        x, y, density, at_draws = density_of(draws)
        for share, style, _ in RINGS:
            level = at_draws.quantile(1 - share).item()
            lines = axes.contour(
                x, y, density, levels=[level], colors=[INK], linestyles=[style], linewidths=1.6, zorder=3
            )
            lines.set_gid(f"tip:this ring holds {share:.0%} of the draws of the prior")
    return [_handle(name, color=INK, linestyle=style, linewidth=1.6) for _, style, name in RINGS]


def density_of(draws):
    """(x [GRID], y [GRID], density on the grid [GRID, GRID], density at the draws), by Gaussian kernels with the
    width of Scott's rule."""
    width = draws.std(0) * len(draws) ** (-1 / 6)
    low, high = draws.min(0).values - 3 * width, draws.max(0).values + 3 * width
    x, y = (torch.linspace(a, b, GRID, dtype=draws.dtype) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    along = [torch.exp(-0.5 * ((grid[:, None] - draws[:, i]) / width[i]) ** 2) for i, grid in enumerate((x, y))]
    at = torch.exp(-0.5 * torch.cdist(draws / width, draws / width) ** 2).sum(1)
    return x.numpy(), y.numpy(), (along[1] @ along[0].T).numpy(), at


def project(codes, draws):
    """The codes and the draws on the plane, and the names of the two axes: ([N, 2], [S, 2], [name, name])."""
    if codes.shape[1] <= 2:
        points, prior = (torch.nn.functional.pad(t, (0, 2 - codes.shape[1])) for t in (codes, draws))
        return points, prior, ["latent 0", "latent 1" if codes.shape[1] == 2 else ""]
    centred = codes - codes.mean(0)
    _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
    narrow = (0, 2 - min(2, len(directions)))
    points, prior = (torch.nn.functional.pad(t @ directions[:2].T, narrow) for t in (centred, draws - codes.mean(0)))
    share = (spread.square() / spread.square().sum().clamp_min(1e-300)).tolist()
    names = [f"component {i + 1} ({s:.0%})" for i, s in enumerate((*share, 0.0)[:2])]
    return points, prior, names


def _handle(label, **style):
    return Line2D([], [], label=label, **style)
