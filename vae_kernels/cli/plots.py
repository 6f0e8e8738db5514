"""The pictures of a run, as PNG bytes. Only matplotlib's figure objects are used: no window, no global state."""

import io

import torch
from matplotlib.figure import Figure

from ..doctor import figures, tiles
from ..doctor.ink import BLUE, GREY

SIZE = (6.4, 5.8)  # inches: at a width of 400 pixels the text has 8 pixels or more
COLUMNS = 8


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=180)
    return buffer.getvalue()


def curves(rows, latent_dim):
    """Four curves over the epochs: -ELBO of train and held-out data, its two terms, and the active units.

    rows: dicts of metrics, at least one.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    loss, distortion, rate, units = figure.subplots(2, 2).flat
    by_name = {name: [row[name] for row in rows] for name in rows[0]}
    figures.losses(loss, by_name)
    figures.distortions(distortion, by_name)
    figures.rates(rate, by_name)
    figures.active(units, by_name, latent_dim)
    loss.set_title(f"-ELBO (held out: {rows[-1]['test_neg_elbo_nats']:.1f})", fontsize=11)
    distortion.set_title(f"reconstruction (last: {rows[-1]['test_reconstruction_nats']:.1f})", fontsize=11)
    rate.set_title(f"KL (last: {rows[-1]['test_kl_nats']:.2f})", fontsize=11)
    units.set_title(f"active units (last: {rows[-1]['active_units']:g} of {latent_dim})", fontsize=11)
    return _png(figure)


def _page(picture, title, rows=None):
    """A page with a picture [h, w, 3]. rows: the names of its rows, or None."""
    height, width = picture.shape[:2]
    figure = Figure(figsize=(6, 0.5 + 5.8 * min(max(height / width, 0.2), 2.5)), layout="constrained")
    axes = figure.subplots()
    aspect = "auto" if height / width < 0.2 else "equal"
    axes.imshow(picture.numpy(), interpolation="nearest", aspect=aspect)
    axes.set(xticks=[], yticks=[])
    if rows:
        step = height / len(rows)
        axes.set_yticks([step * (i + 0.5) for i in range(len(rows))], rows, fontsize=10)
        axes.tick_params(length=0)
    axes.set_frame_on(False)
    axes.set_title(title, fontsize=11)
    return _png(figure)


def reconstructions(originals, reconstructed, low, high):
    """Originals [N, ...] above their reconstructions and the errors. The largest error has a frame. low, high: the
    range of the data."""
    parts = tiles.compared(originals, reconstructed, low, high)
    away = (originals.float().cpu() - reconstructed.float().cpu()).flatten(1).square().sum(1)
    worst, columns = int(away.argmax()), min(COLUMNS, len(originals))
    pages = [tiles.tiles(part, columns, worst).split(_height(part, columns)) for part in parts]
    rows = [part for of_each in zip(*pages, strict=True) for part in of_each]
    names = ["data", "reconstr.", "error"] * len(pages[0])
    return _page(torch.cat(rows), f"{len(originals)} held-out images; the largest error has a frame", names)


def _height(images, columns):
    """The height of a row of tiles."""
    row = tiles.tiles(images[:columns], columns)
    return row.shape[0] + (1 if tiles.as_images(images).shape[2] > 1 else 0)


def samples(images, low, high):
    """Means [N, ...] decoded from the prior."""
    picture = tiles.tiles(tiles.unit(images, low, high), COLUMNS)
    return _page(picture, f"{len(images)} samples: means decoded from the prior")


def latent(means, labels, classes, drawn):
    """The posterior means [N, L] below rings around draws [S, L] of the prior, as in the doctor's report."""
    figure = Figure(figsize=(5.6, 6), layout="constrained")
    figures.latent(figure.subplots(), means, labels, classes, drawn)
    title = "Posterior means" if means.shape[1] <= 2 else f"Posterior means, {means.shape[1]} latents on a plane"
    figure.suptitle(f"{title}: {len(means)} held-out images", fontsize=11)
    return _png(figure)


def rate_distortion(points):
    """(beta, KL, reconstruction) of each run, in nats: Alemi et al. 2018, arXiv:1711.00464, figure 1.

    The dashed line has the smallest -ELBO of all: every run on the line would have the same.
    """
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axes = figure.subplots()
    points = sorted(points, key=lambda point: point[1])
    rates, distortions = [point[1] for point in points], [point[2] for point in points]
    axes.plot(rates, distortions, color=BLUE, marker="o")
    for beta, rate, distortion in points:
        axes.annotate(f"beta {beta:g}", (rate, distortion), xytext=(6, 6), textcoords="offset points")
    least = min(rate + distortion for _, rate, distortion in points)
    ends = [min(rates), max(rates)]
    axes.plot(ends, [least - rate for rate in ends], color=GREY, linestyle="--")
    name = f"same -ELBO, {least:.1f} nats"
    axes.annotate(name, (ends[1], least - ends[1]), ha="right", va="top", color=GREY, fontsize=10)
    figures.better(axes)
    axes.set(xlabel="rate: KL, nats", ylabel="distortion: reconstruction, nats")
    axes.set_title("A run for each beta")
    axes.grid(alpha=0.25)
    axes.margins(0.18, 0.12)
    return _png(figure)
