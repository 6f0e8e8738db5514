"""The four pictures of a run."""

import torch

from ..core.modes import evaluating
from ..formulas import ELEMENT
from . import checkpoint, plots, ranks
from .fit import measure


@torch.no_grad()
def draw(run, vae, data, config, rows):
    """Write the four pictures."""
    device, (_, test) = config["device"], data.split()
    means = measure(config["loss"], vae, data.images, test, config["batch_size"], device)[2]
    if not ranks.first():
        return
    shown = data.images[test[:40]]
    support = ELEMENT[config["likelihood"]].SUPPORT
    levels = shown.dtype == torch.uint8 and support != "counts"
    unit = levels or support == (0.0, 1.0)
    originals = shown / 255 if levels else shown
    low, high = (0.0, 1.0) if unit else (originals.min().item(), originals.max().item())
    generator = torch.Generator(device).manual_seed(0)
    labels = None if data.labels is None else data.labels[test]
    with evaluating(vae):
        pictures = {
            "curves.png": plots.curves(rows, config["latent_dim"]),
            "reconstructions.png": plots.reconstructions(originals, vae.reconstruct(shown.to(device)), low, high),
            "samples.png": plots.samples(vae.sample(64, generator=generator), low, high),
            "latent.png": plots.latent(means, labels, data.classes, vae.sample_prior(10_000, generator=generator)),
        }
    for file, png in pictures.items():
        checkpoint.write(run / file, png)
