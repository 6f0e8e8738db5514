"""Warnings before and while a run trains: the doctor's verdicts that need the data, or the encoder only."""

import torch

from ..core.modes import evaluating
from ..doctor.baseline import baseline
from ..doctor.first import data as of_data
from ..doctor.look import values_of
from ..doctor.verdicts import alarm
from ..functional import sample_kl
from ..likelihoods import by_name
from ..monitor import ACTIVE

MOST_SAMPLES = 256
MOST_ROWS = 10_000  # of the data that are looked at before a training


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


def unfit(data, config):
    """A sentence about the data, and what to do with the data first; None if the data suit the likelihood."""
    if data.table is not None:  # reading/columns.py has made x for this likelihood
        return None
    rows = data.split()[0][:MOST_ROWS]
    verdict = of_data(values_of(data.images[rows], config["likelihood"]), one_variance=True)
    return None if verdict.level == "healthy" else f"{data.source} has {verdict.evidence}: {verdict.advice}"


@torch.no_grad()
def of_the_mean(vae, data):
    """-log p of the held-out data under the trivial model, in nats per sample: the train data's mean of each feature.
    None if it is not known for this likelihood."""
    train, test = data.split()
    device = next(vae.parameters()).device
    x, fit = (data.images[rows[:MOST_ROWS]].to(device) for rows in (test, train))
    with evaluating(vae):
        recon = vae.decode(vae.encode(x[:1])[0])
    found = baseline(vae, x, fit, given=tuple(by_name(recon, vae.likelihood)))
    return None if found is None else found.mean().item()


def warning(kl, active_units, beta, loss=None, known=None):
    """The text of the alarm for the progress bar, or "". loss: -ELBO of held-out data; known: that of the trivial
    model."""
    text = alarm(kl, active_units, beta, loss, known)
    return f"  ILL: {text}" if text else ""
