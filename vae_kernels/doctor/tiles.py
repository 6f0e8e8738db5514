"""Images in rows: one picture of many images, for a page or for axes."""

import base64
import io
import math

import torch
from matplotlib import colormaps
from PIL import Image

from .views import STEPS

FRAME = (0.835, 0.369, 0.0)  # the orange of ink.py
ERROR = "cividis"


def as_images(rows):
    """Images [N, C, H, W] as they are. A vector with a square number of values is probably an image; another vector is
    a strip."""
    if rows.dim() != 2:
        return rows
    side = math.isqrt(rows.shape[1])
    return rows.reshape(len(rows), 1, *((side, side) if side**2 == rows.shape[1] else (1, -1)))


def tiles(images, columns, marked=None):
    """Images [N, C, H, W] or vectors [N, D], in [0, 1] -> one picture [h, w, 3]: rows of `columns` images, with lines
    between the images. marked: the number of an image that gets a frame, or None."""
    images = as_images(images)
    images = images.expand(-1, 3, -1, -1).clone() if images.shape[1] == 1 else images.clone()
    if marked is not None and min(images.shape[2:]) > 4:
        edge = images.new_tensor(FRAME)[:, None]
        wide = max(1, min(images.shape[2:]) // 16)
        for side in (slice(0, wide), slice(-wide, None)):
            images[marked, :, side, :] = edge[:, :, None]
            images[marked, :, :, side] = edge[:, :, None]
    gap = 1 if images.shape[2] > 1 else 0
    images = torch.nn.functional.pad(images, (gap, 0, gap, 0), value=1.0)
    images = torch.cat([images, images.new_ones(-len(images) % columns, *images.shape[1:])])
    _, c, h, w = images.shape
    picture = images.reshape(-1, columns, c, h, w).permute(0, 3, 1, 4, 2).reshape(-1, columns * w, c)
    return picture[gap:, gap:]


def unit(images, low, high):
    """Images in [0, 1]: values below low or above high are drawn as low or high."""
    return ((images.float().cpu() - low) / (high - low or 1)).clamp(0, 1)


def errors(data, recon, low, high):
    """|data - recon| of each pixel as colours [N, 3, H, W], from dark (none) to bright (the whole range)."""
    away = (unit(as_images(data), low, high) - unit(as_images(recon), low, high)).abs().amax(1)
    colours = torch.from_numpy(colormaps[ERROR](away.numpy())[..., :3])
    return colours.permute(0, 3, 1, 2).float()


def png(picture):
    """A picture [h, w, 3] as a data: address for a page."""
    buffer = io.BytesIO()
    Image.fromarray((255 * picture).round().byte().numpy()).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def pictures(axes, picture, rows):
    """A picture [h, w, 3] of `rows` rows on axes; each row has a name on the left."""
    axes.imshow(picture.numpy(), interpolation="nearest")
    step = picture.shape[0] / len(rows)
    axes.set_yticks([step * (i + 0.5) for i in range(len(rows))], rows)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)


def compared(data, recon, low, high, marked=None):
    """[3, N, 3, H, W]: data, reconstructions and errors, in colours."""
    both = [unit(as_images(part), low, high) for part in (data, recon)]
    both = [part.expand(-1, 3, -1, -1) for part in both]
    return torch.stack([*both, errors(data, recon, low, high)])


def reconstructions(axes, shown):
    """Four rows: data, the reconstructions of the data, the errors, and decoded draws of the prior. The worst
    reconstruction has a frame."""
    n, worst = len(shown.data), int(shown.losses.argmax())
    drawn = unit(as_images(shown.samples[:n]), shown.low, shown.high).expand(-1, 3, -1, -1)
    rows = [*compared(shown.data, shown.reconstructions, shown.low, shown.high), drawn]
    parts = [tiles(row, n, worst if i < 3 else None) for i, row in enumerate(rows)]
    line = parts[0].new_ones(1, *parts[0].shape[1:])
    picture = torch.cat([part for row in parts for part in (row, line)][:-1])
    pictures(axes, picture, ["data", "recon-\nstruction", "error", "sample"])


def traversals(axes, shown):
    """One row for each latent dim, which moves over the range of the posterior means."""
    picture = tiles(unit(shown.traversals, shown.low, shown.high), STEPS)
    pictures(axes, picture, [f"dim {i}" for i in shown.dims])
