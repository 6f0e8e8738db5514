"""A VAE as a program of Pyro. Only the import of the distributions is not Pyro's: log p, its gradient and the KL are
then those of vae_kernels.

    pip install "vae-kernels[pyro]"
    python examples/pyro_vae.py
"""

import pyro
import torch
from blobs import blobs
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import nn

import vae_kernels.integrations.pyro as dist  # before: import pyro.distributions as dist


class VAE(nn.Module):
    """Pictures of binary pixels, and a latent space of two dimensions."""

    def __init__(self, pixels=256, latents=2, hidden=64):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latents))
        self.decoder = nn.Sequential(nn.Linear(latents, hidden), nn.ReLU(), nn.Linear(hidden, pixels))
        self.latents = latents

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("pictures", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), self.latents), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        loc, logvar = self.encoder(x).chunk(2, dim=1)
        with pyro.plate("pictures", len(x)):
            pyro.sample("z", dist.Normal(loc, logvar=logvar).to_event(1))


def train(steps=2000, batch_size=100, log=print):
    """The last losses, -ELBO in nats for each picture."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    x = (blobs(2000).flatten(1) > 127).float()
    vae = VAE()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 3e-3}), TraceMeanField_ELBO())
    losses = []
    for step in range(1, steps + 1):
        losses.append(svi.step(x[torch.randint(len(x), (batch_size,))]) / batch_size)
        if step % 100 == 0:
            log(f"{step:5d}  {sum(losses[-100:]) / 100:.2f} nats")
    return losses


if __name__ == "__main__":
    train()
