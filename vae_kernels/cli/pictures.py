"""The four pictures of a run."""

import torch

from ..core.modes import evaluating
from ..likelihoods import formula_of
from . import checkpoint, plots, ranks
from .fit import measure

SAMPLES = "samples"  # the folder for the samples of --samples-every


@torch.no_grad()
def samples_of(epoch, run, vae, data, config):
    """Draw samples, if this epoch is one of --samples-every: samples/0010.png. Each picture has the samples of the same
    draws of the prior's noise, so that pictures differ by the weights only."""
    if config["samples_every"] is None or epoch % config["samples_every"] or not ranks.first():
        return
    low, high = range_of(data, config)
    with evaluating(vae):
        drawn = vae.sample(64, generator=torch.Generator(config["device"]).manual_seed(0))
    (run / SAMPLES).mkdir(exist_ok=True)
    checkpoint.write(run / SAMPLES / f"{epoch:04d}.png", plots.samples(drawn, low, high))


def range_of(data, config):
    """(low, high) of the pictures: 0 and 1, or the range of the first held-out images."""
    shown = shown_of(data, config)
    if formula_of(config["likelihood"]).SUPPORT == (0.0, 1.0) or is_bytes(data, config):
        return 0.0, 1.0
    return shown.min().item(), shown.max().item()


def shown_of(data, config):
    """The first held-out images, as the likelihood reads them."""
    shown = data.images[data.split()[1][:40]]
    return shown / 255 if is_bytes(data, config) else shown


def is_bytes(data, config):
    return data.images.dtype == torch.uint8 and formula_of(config["likelihood"]).SUPPORT != "counts"


@torch.no_grad()
def draw(run, vae, data, config, rows):
    """Write the four pictures."""
    device, (_, test) = config["device"], data.split()
    means = measure(config["loss"], vae, data.images, test, config["batch_size"], device)[2]
    if not ranks.first():
        return
    shown, originals = data.images[test[:40]], shown_of(data, config)
    low, high = range_of(data, config)
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
