"""The pictures of a report as HTML: rows of images, each with its name above. So the names stay readable on a small
page."""

from ..core.page import text
from . import tiles
from .quantities import plain
from .verdicts import of_observed
from .views import REACH, STEPS

ROWS = ("data", "reconstruction", "error: dark is none, bright is the whole range")


def strips(diagnosis):
    """[{name, caption, body, wide}]; [] without images."""
    shown, m = diagnosis.views.pictures, diagnosis.measures
    if shown is None:
        return []
    n, high = len(shown.data), (shown.low, shown.high)
    caption = (
        f"{n} of the held-out data and their posterior means, decoded. The numbers are -ELBO of each, in nats; the "
    )
    caption += "worst has a frame." + of_observed(m, " {} of x is observed; missing pixels are grey.")
    body = compared(shown.data, shown.reconstructions, shown.losses, *high)
    found = [_figure("Reconstructions", body, caption, wide=True)]
    caption = f"The {len(shown.worst)} of {m.samples} data with the largest -ELBO, the largest first."
    body = compared(shown.worst, shown.worst_reconstructions, shown.worst_losses, *high)
    found.append(_figure("Worst reconstructions", body, caption, wide=True))
    picture = tiles.tiles(tiles.unit(shown.samples, *high), 8)
    caption = f"{len(shown.samples)} draws of the prior, decoded to the mean of the likelihood."
    found.append(_figure("Samples", image(picture, "samples"), caption))
    caption = (
        f"One latent at a time moves from {-REACH:g} to {REACH:g} standard deviations of the posterior means. A row "
    )
    caption += "without a change has an unused latent."
    rows = [(f"latent {dim}", part) for dim, part in zip(shown.dims, shown.traversals.split(STEPS), strict=True)]
    found.append(_figure("Traversals", "".join(_row(name, part, *high) for name, part in rows), caption))
    if len(shown.interpolations):
        caption = "Equal steps from the code of the first of the data to the codes of the next ones, decoded."
        rows = enumerate(shown.interpolations.split(STEPS), 1)
        body = "".join(_row(f"to number {i + 1}", part, *high) for i, part in rows)
        found.append(_figure("Interpolations", body, caption))
    return found


def compared(data, recon, losses, low, high):
    """Three rows and the losses. The largest loss is in bold, and its images have a frame."""
    n, worst = len(data), int(losses.argmax())
    lines = []
    for name, row in zip(ROWS, tiles.compared(data, recon, low, high), strict=True):
        lines.append(f"<h4>{name}</h4>{image(tiles.tiles(row, n, worst), name.split(':')[0])}")
    lines.append(f'<div class="numbers" style="grid-template-columns: repeat({n}, 1fr)">')
    for i, loss in enumerate(losses.tolist()):
        number = f"{loss:.3g}" if abs(loss) >= 1e4 else f"{loss:.0f}" if abs(loss) >= 10 else f"{loss:.1f}"
        lines.append(f"<strong>{number}</strong>" if i == worst else f"<span>{number}</span>")
    return "\n".join([*lines, "</div>"])


def image(picture, name):
    return f'<img src="{tiles.png(picture)}" alt="{text(name)}" title="{text(name)}">'


def _row(name, images, low, high):
    return f"<h4>{name}</h4>{image(tiles.tiles(tiles.unit(images, low, high), len(images)), name)}"


def _figure(name, body, caption, wide=False):
    return {"name": name, "body": body, "caption": plain(caption), "wide": wide}
