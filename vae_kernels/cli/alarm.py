"""Warnings while a run trains: the doctor's verdicts that need the encoder only."""

import torch

from ..core.modes import evaluating
from ..doctor.verdicts import alarm
from ..functional import sample_kl
from ..monitor import ACTIVE

MOST_SAMPLES = 256


@torch.no_grad()
def glance(vae, x):
    """(KL in nats, active units) of the first samples of a batch, with the present weights. The training is not
    changed: not its random state, and not the running statistics of its layers."""
    generator = torch.Generator(x.device).manual_seed(0)
    with evaluating(vae):
        mu, logvar = vae.encode(x[:MOST_SAMPLES])
    _, kl = sample_kl(mu, logvar, prior=vae.prior, generator=generator, backend=vae.backend)
    active = (mu.flatten(1).var(0, correction=0) > ACTIVE).sum()
    return kl.mean().item(), int(active)


def warning(kl, active_units, beta):
    """The text of the alarm for the progress bar, or ""."""
    text = alarm(kl, active_units, beta)
    return f"  ILL: {text}" if text else ""
