"""The pictures of a run, as PNG bytes. Only matplotlib's figure objects are used: no window, no global state."""

import io

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..doctor import figures

INK = {"train": "#8da0cb", "test": "#1f3a93", "reconstruction": "#d95f02", "KL": "#1b9e77", "grey": "#666666"}


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def curves(rows, latent_dim):
    """Three curves over the epochs: -ELBO of train and test, its two terms, and the active units.

    rows: dicts of metrics, at least one.
    """
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    elbo, terms, units = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in rows]
    mark = "o" if len(rows) < 15 else None

    def line(axes, column, color, label=None):
        axes.plot(epochs, [row[column] for row in rows], color=color, label=label, marker=mark, markersize=4)

    line(elbo, "train_neg_elbo_nats", INK["train"], "train")
    line(elbo, "test_neg_elbo_nats", INK["test"], "test")
    late = [row[f"{part}_neg_elbo_nats"] for row in rows[len(rows) // 20 :] for part in ("train", "test")]
    if max(late) > min(late):  # leave out the first epochs: their large values would flatten the rest of the curve
        margin = 0.05 * (max(late) - min(late))
        elbo.set_ylim(min(late) - margin, max(late) + margin)
    elbo.set(title=f"-ELBO (test, last: {rows[-1]['test_neg_elbo_nats']:.1f})", ylabel="nats per image")

    line(terms, "test_reconstruction_nats", INK["reconstruction"])
    terms.set_title("Terms of the test -ELBO")
    terms.set_ylabel("reconstruction, nats per image", color=INK["reconstruction"])
    right = terms.twinx()  # the KL is much smaller: on the scale of the other term it would look flat
    line(right, "test_kl_nats", INK["KL"])
    right.set_ylabel("KL, nats per image", color=INK["KL"])

    line(units, "active_units", INK["grey"])
    units.set(
        title=f"Active units, of {latent_dim} latents", ylabel="latents whose mean varies", ylim=(0, latent_dim + 0.5)
    )
    units.yaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (elbo, terms, units):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.grid(alpha=0.25)
    elbo.legend()
    return _png(figure)


def _grid(images, columns, title, low, high):
    """A page of images. `low` is drawn black, `high` is drawn white, and values outside are clamped for the display."""
    picture = figures.tiles(((images.float().cpu() - low) / (high - low)).clamp(0, 1), columns)
    height, width = picture.shape[:2]
    figure = Figure(figsize=(6, 0.5 + 5.8 * min(max(height / width, 0.2), 2.5)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        picture.numpy(),
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        aspect="auto" if height / width < 0.2 else "equal",
    )
    axes.set(xticks=[], yticks=[])
    axes.set_frame_on(False)
    axes.set_title(title, fontsize=11)
    return _png(figure)


def reconstructions(originals, reconstructed, low, high):
    """Originals [N, ...]; the reconstruction is to the right of each. low, high: the range of the data."""
    pairs = torch.stack([originals.float().cpu(), reconstructed.float().cpu()], dim=1).flatten(0, 1)
    title = "Test images, each with its reconstruction on its right"
    return _grid(pairs, 10, title, low, high)


def samples(images, low, high):
    """Means [N, ...] decoded from the prior."""
    return _grid(images, 8, f"{len(images)} samples: means decoded from the prior", low, high)


def latent(means, labels, classes, drawn):
    """The posterior means [N, L] above draws [S, L] of the prior, as in the doctor's report."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    figures.latent(figure.subplots(), means, labels, classes, drawn)
    title = "Posterior means" if means.shape[1] <= 2 else f"Posterior means, {means.shape[1]} latents projected on two"
    figure.suptitle(f"{title} ({len(means)} test images)\ngrey: draws of the prior")
    return _png(figure)


def rate_distortion(points):
    """(beta, KL, reconstruction) of each run, in nats: Alemi et al. 2018, arXiv:1711.00464, figure 1.

    The dashed line has the smallest -ELBO of all: every run on the line would have the same.
    """
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    axes = figure.subplots()
    points = sorted(points, key=lambda point: point[1])
    rates, distortions = [point[1] for point in points], [point[2] for point in points]
    axes.plot(rates, distortions, color=INK["test"], marker="o")
    for beta, rate, distortion in points:
        axes.annotate(f"beta {beta:g}", (rate, distortion), xytext=(6, 6), textcoords="offset points")
    least = min(rate + distortion for _, rate, distortion in points)
    ends = [min(rates), max(rates)]
    axes.plot(ends, [least - rate for rate in ends], color=INK["grey"], linestyle="--", label=f"-ELBO {least:.1f} nats")
    axes.set(xlabel="rate: KL, nats", ylabel="distortion: reconstruction, nats")
    axes.set_title("A run for each beta; nearer to the lower left is better")
    axes.grid(alpha=0.25)
    axes.legend()
    return _png(figure)
