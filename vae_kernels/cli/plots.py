"""The pictures of a run, as PNG bytes. matplotlib's figure objects only: no window, no global state."""

import io
import math

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK = {"train": "#8da0cb", "test": "#1f3a93", "reconstruction": "#d95f02", "KL": "#1b9e77", "grey": "#666666"}


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def curves(rows, latent_dim):
    """-ELBO of train and test, its two terms, and active units by epoch. rows: dicts of metrics, at least one."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    elbo, terms, units = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in rows]
    mark = "o" if len(rows) < 15 else None

    def line(axes, column, color, label=None):
        axes.plot(epochs, [row[column] for row in rows], color=color, label=label, marker=mark, markersize=4)

    line(elbo, "train_neg_elbo_nats", INK["train"], "train")
    line(elbo, "test_neg_elbo_nats", INK["test"], "test")
    late = [row[f"{part}_neg_elbo_nats"] for row in rows[len(rows) // 20 :] for part in ("train", "test")]
    if max(late) > min(late):  # the first epochs would flatten all the others
        margin = 0.05 * (max(late) - min(late))
        elbo.set_ylim(min(late) - margin, max(late) + margin)
    elbo.set(title=f"-ELBO (test, last: {rows[-1]['test_neg_elbo_nats']:.1f})", ylabel="nats per image")

    line(terms, "test_reconstruction_nats", INK["reconstruction"])
    terms.set_title("Terms of the test -ELBO")
    terms.set_ylabel("reconstruction, nats per image", color=INK["reconstruction"])
    right = terms.twinx()  # of different size: on one scale the KL would look flat
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


def _tiles(images, columns):
    """[N, C, H, W], or [N, D] vectors, in rows of `columns` -> one picture [h, w] or [h, w, 3], with lines between."""
    if images.dim() == 2:  # a square number of values is most likely an image; else show each vector as a strip
        side = math.isqrt(images.shape[1])
        images = images.reshape(len(images), 1, *((side, side) if side**2 == images.shape[1] else (1, -1)))
    gap = 1 if images.shape[2] > 1 else 0
    images = torch.nn.functional.pad(images, (gap, 0, gap, 0), value=1.0)
    images = torch.cat([images, images.new_ones(-len(images) % columns, *images.shape[1:])])
    _, c, h, w = images.shape
    picture = images.reshape(-1, columns, c, h, w).permute(0, 3, 1, 4, 2).reshape(-1, columns * w, c)
    return picture[gap:, gap:, 0] if c == 1 else picture[gap:, gap:]


def _grid(images, columns, title, low, high):
    """A page of images; `low` is drawn black and `high` white. What lies outside is drawn as these (display only)."""
    picture = _tiles(((images.float().cpu() - low) / (high - low)).clamp(0, 1), columns)
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
    """Originals [N, ...] and, to the right of each, its reconstruction. low, high: the range of the data."""
    pairs = torch.stack([originals.float().cpu(), reconstructed.float().cpu()], dim=1).flatten(0, 1)
    title = "Test images, each with its reconstruction on its right"
    return _grid(pairs, 10, title, low, high)


def samples(images, low, high):
    """Means [N, ...] decoded from the prior."""
    return _grid(images, 8, f"{len(images)} samples: means decoded from the prior", low, high)


def latent(means, labels, classes, drawn):
    """The posterior means [N, L] on a plane: as they are for L = 2, else their first two principal components; and
    below them, in grey, draws [S, L] of the prior, counted in hexagons.

    labels: [N] into `classes`, or None.
    """
    means, drawn = means.double().cpu(), drawn.double().cpu()
    if means.shape[1] <= 2:
        points, prior = (torch.nn.functional.pad(t, (0, 2 - means.shape[1])) for t in (means, drawn))
        names = ["latent 0", "latent 1" if means.shape[1] == 2 else ""]
        title = "Posterior means"
    else:
        centred = means - means.mean(0)
        _, spread, axes_ = torch.linalg.svd(centred, full_matrices=False)
        narrow = (0, 2 - min(2, len(axes_)))
        points, prior = (torch.nn.functional.pad(t @ axes_[:2].T, narrow) for t in (centred, drawn - means.mean(0)))
        share = (spread.square() / spread.square().sum().clamp_min(1e-300)).tolist()
        names = [f"principal component {i + 1} ({s:.0%} of the variance)" for i, s in enumerate((*share, 0.0)[:2])]
        title = f"Posterior means, {means.shape[1]} latents projected on two"
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    axes.hexbin(*prior.T, gridsize=50, cmap="Greys", mincnt=1, zorder=0)
    dot = {"s": 12, "alpha": 0.85}
    if labels is None:
        axes.scatter(*points.T, color=INK["test"], **dot)
    elif len(classes) <= 10:
        for label in labels.unique().tolist():
            axes.scatter(*points[labels == label].T, color=f"C{label}", label=str(classes[label]), **dot)
        figure.legend(title="label", loc="outside right upper")
    else:
        dots = axes.scatter(*points.T, c=labels, cmap="viridis", **dot)
        figure.colorbar(dots, label="label (number of the class)")
    axes.set(title=f"{title} ({len(means)} test images)\ngrey: draws of the prior", xlabel=names[0], ylabel=names[1])
    axes.grid(alpha=0.25)
    return _png(figure)
