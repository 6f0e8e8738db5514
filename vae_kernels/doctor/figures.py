"""The figures of a diagnosis. Each function draws on the axes that it gets. The colours suit light and dark pages."""

import io
import math
import re

import matplotlib
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..monitor import ACTIVE
from .quantities import at_limit
from .views import REACH, STEPS

BLUE, ORANGE, GREEN, GREY = "#4c8bd0", "#e08214", "#3a9e6e", "#888888"
CLOUD = LinearSegmentedColormap.from_list("cloud", [(0.5, 0.5, 0.5, 0.05), (0.5, 0.5, 0.5, 0.75)])
# text stays text, and the ids are the same in each run
SVG = {"svg.fonttype": "none", "svg.hashsalt": "vae_kernels", "font.family": "sans-serif", "font.size": 10}
WIDTH = 5.0
MOST_BARS = 200


def axes(height=3.2):
    """The axes of a new figure. There is no window and no global state."""
    return Figure(figsize=(WIDTH, height), layout="constrained").subplots()


def svg(figure, text):
    """The figure as an <svg> element for a page. Black becomes the page's text colour. `text` is the alternative
    text."""
    with matplotlib.rc_context(SVG):  # pyright: ignore[reportArgumentType] - its list of keys changes with the version
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, dpi=160, metadata={"Date": None, "Creator": None})
    source = buffer.getvalue()
    source = source[source.index("<svg") :]
    source = re.sub(r"<metadata>.*?</metadata>", "", source, flags=re.S)
    source = source.replace("#000000", "currentColor").replace("'DejaVu Sans', ", "")
    source = re.sub(r'width="[\d.]+pt" height="[\d.]+pt" ', "", source, count=1)
    text = text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return source.replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1)


def height(images, columns, rows):
    """The height in inches of a figure with `columns` x `rows` images. The names take a tenth of the width."""
    return 0.1 + 0.9 * WIDTH * rows * images.shape[-2] / (columns * images.shape[-1])


def spectrum(axes, measures):
    """Bars: the KL of each latent dim, the largest first. A prior without a KL by dim gets the spread of the mean."""
    kl = measures.kl_per_dim
    values = measures.spread if kl is None else kl
    order = values.argsort(descending=True)[:MOST_BARS]
    active = (measures.spread > ACTIVE)[order].tolist()
    bars = axes.bar(range(len(order)), values[order].tolist(), width=0.85, color=GREY)
    for bar, is_active in zip(bars, active, strict=True):
        bar.set_color(BLUE if is_active else ORANGE)
    label = "variance of the posterior mean / prior's" if kl is None else "KL, nats"
    first = f"the first {MOST_BARS} latent dimensions" if len(values) > MOST_BARS else "latent dimension"
    axes.set(xlabel=f"{first}, in this order", ylabel=label)
    if len(order) <= 30:
        axes.set_xticks(range(len(order)), [str(i) for i in order.tolist()], fontsize=7)
    else:
        axes.set_xticks([])


def latent(axes, codes, labels, classes, draws):
    """The codes [N, L] of the data on a plane: both dims if L = 2, else the first two principal components. Below the
    codes are the draws [S, L] of the prior, in grey, counted in hexagons.

    labels: [N] indices into `classes`, or None.
    """
    points, prior, names = project(codes.double().cpu(), draws.double().cpu())
    axes.hexbin(*prior.T, gridsize=40, cmap=CLOUD, mincnt=1, zorder=0, linewidths=0, rasterized=True)
    dot = {"s": 10, "alpha": 0.85, "linewidths": 0, "rasterized": True}
    if labels is None:
        axes.scatter(*points.T, color=BLUE, **dot)
    elif len(classes) <= 10:
        for label in labels.unique().tolist():
            axes.scatter(*points[labels == label].T, color=f"C{label}", label=str(classes[label]), **dot)
        axes.legend(
            title="label", loc="upper left", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0.2, handlelength=1
        )
    else:
        dots = axes.scatter(*points.T, c=labels, cmap="viridis", **dot)
        axes.figure.colorbar(dots, ax=axes, label="label (number of the class)")
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.grid(alpha=0.25)


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
    names = [f"principal component {i + 1} ({s:.0%} of variance)" for i, s in enumerate((*share, 0.0)[:2])]
    return points, prior, names


def tiles(images, columns):
    """Images [N, C, H, W], or vectors [N, D], -> one picture [h, w] or [h, w, 3]: rows of `columns` images, with lines
    between the images."""
    if images.dim() == 2:  # a square number of values is probably an image; another vector is shown as a strip
        side = math.isqrt(images.shape[1])
        images = images.reshape(len(images), 1, *((side, side) if side**2 == images.shape[1] else (1, -1)))
    gap = 1 if images.shape[2] > 1 else 0
    images = torch.nn.functional.pad(images, (gap, 0, gap, 0), value=1.0)
    images = torch.cat([images, images.new_ones(-len(images) % columns, *images.shape[1:])])
    _, c, h, w = images.shape
    picture = images.reshape(-1, columns, c, h, w).permute(0, 3, 1, 4, 2).reshape(-1, columns * w, c)
    return picture[gap:, gap:, 0] if c == 1 else picture[gap:, gap:]


def pictures(axes, images, columns, rows, low, high):
    """Images in rows; each row has a name on the left. Values below low or above high are drawn as low or high."""
    picture = tiles(((images.float() - low) / (high - low or 1)).clamp(0, 1), columns)
    axes.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    step = picture.shape[0] / len(rows)
    axes.set_yticks([step * (i + 0.5) for i in range(len(rows))], rows)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)


def reconstructions(axes, shown):
    """Three rows: data, the reconstructions of the data, and decoded draws of the prior."""
    images = torch.cat([shown.data, shown.reconstructions, shown.samples])
    pictures(axes, images, len(shown.data), ["data", "decoded\nmean", "decoded\nprior"], shown.low, shown.high)


def traversals(axes, shown):
    """One row for each latent dim, which moves over the range of the posterior means."""
    pictures(axes, shown.traversals, STEPS, [f"dim {i}" for i in shown.dims], shown.low, shown.high)
    axes.set_xlabel(f"from {-REACH:g} to {REACH:g} standard deviations of the posterior means")


def rate_distortion(axes, measures):
    """The model on the plane of rate and distortion, with the line of the same ELBO and the line of log p(x).

    log p(x) is known for a part of the samples. So its line has the distance of log p(x) to the ELBO of this part.
    """
    kl, nll, information = measures.kl, measures.nll, measures.information
    reach = max(2 * kl, 1.0)
    rates = torch.linspace(0, reach, 2)
    axes.plot(rates, nll + kl - rates, color=GREY, label="same ELBO: slope -1")
    if measures.log_p is not None:
        bound = ", at least" if measures.log_p.bound else ""
        axes.plot(rates, nll + kl - measures.log_p.gap - rates, color=GREEN, linestyle="--", label=f"log p(x){bound}")
    if measures.beta is not None and abs(measures.beta - 1) > 1e-3 and measures.beta > 0:
        axes.plot(rates, nll + measures.beta * (kl - rates), color=ORANGE, label=f"same loss: slope -{measures.beta:g}")
        span = max(kl, 0.2 * abs(nll), 1.0)
        axes.set_ylim(nll - span, nll + span)
    axes.axvline(information, color=GREY, linestyle=":", label=f"I(x; z){', at least' if at_limit(measures) else ''}")
    axes.plot([kl], [nll], "o", color=BLUE, markersize=9, label="this model")
    axes.set(xlabel="rate, nats", ylabel="distortion, nats", xlim=(0, reach))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
