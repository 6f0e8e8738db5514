"""The priors that `--prior` names."""

from enum import Enum

import torch

from .. import priors
from . import UserError

PriorName = Enum("PriorName", {name: name for name in ("normal", "mog", "vamp", "flow")}, type=str)
MIXTURES = ("mog", "vamp")
COMPONENTS = 100  # unless --components says otherwise


def check_prior(config):
    """UserError if --prior and --components do not fit the other options."""
    name = config["prior"]
    if name != "normal" and config["loss"] == "eager":
        raise UserError(f"--prior {name} needs --loss fused; eager has N(0, I)")
    if config["components"] is not None and name not in MIXTURES:
        raise UserError(f"--components has no effect with --prior {name}; leave it out")


def build_prior(name, components, vae, data):
    """The prior module, or None for N(0, I).

    vamp: the pseudo-inputs start as images of the training set. flow: a neural spline flow of three transforms.
    """
    if name == "normal":
        return None
    shape, components = vae.latent_shape, components or COMPONENTS
    if name == "mog":
        return priors.MixtureOfGaussians(components, shape)
    if name == "vamp":
        train, _ = data.split()
        if components > len(train):
            raise UserError(f"--components: got {components}, expected at most {len(train)}, the images to train on")
        images = data.images[train[:components]]
        images = images / 255 if images.dtype == torch.uint8 else images
        return priors.VampPrior(images, vae.encoder, shape)
    try:
        from zuko.flows import NSF
    except ImportError as error:
        raise UserError('--prior flow needs zuko: pip install "vae-kernels[flows]"') from error
    return priors.FlowPrior(NSF(shape[0], transforms=3, hidden_features=(64, 64)), shape)
