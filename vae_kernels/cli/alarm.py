"""What is seen to be ill while a run trains: the doctor's verdicts that need no more than an encoder."""

import torch

from ..core.modes import evaluating
from ..doctor.verdicts import alarm
from ..functional import sample_kl
from ..monitor import ACTIVE

LOOKED_AT = 256  # samples


@torch.no_grad()
def glance(vae, x):
    """(KL in nats, active units) of some of a batch, by the weights as they are. The training is left as it was: its
    noise, and what its layers count."""
    generator = torch.Generator(x.device).manual_seed(0)
    with evaluating(vae):
        mu, logvar = vae.encode(x[:LOOKED_AT])
    _, kl = sample_kl(mu, logvar, prior=vae.prior, generator=generator, backend=vae.backend)
    active = (mu.flatten(1).var(0, correction=0) > ACTIVE).sum()
    return kl.mean().item(), int(active)


def warning(kl, active_units, beta):
    """The alarm with a space before it, or ""."""
    text = alarm(kl, active_units, beta)
    return f"  ILL: {text}" if text else ""
