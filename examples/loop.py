"""A plain training loop: encoder, sample, decoder, one call for the loss.

    python examples/loop.py

beta rises from 0 to 1 over the first half ("KL annealing", Bowman et al. 2016, arXiv:1511.06349). beta is a tensor that
is written in place, so nothing is compiled or captured again when beta changes.
"""

import torch
from blobs import blobs
from torch import nn

import vae_kernels as vk


def train(steps=300, batch=64, latents=8, log=print):
    """Returns the terms of the last step: nll and kl [B], kl_per_dim [latents], in nats."""
    torch.manual_seed(0)
    data = blobs(2000)
    pixels = data[0].numel()
    encoder = nn.Sequential(nn.Linear(pixels, 128), nn.ReLU(), nn.Linear(128, 2 * latents))
    decoder = nn.Sequential(nn.Linear(latents, 128), nn.ReLU(), nn.Linear(128, pixels))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
    beta = torch.tensor(0.0)
    for step in range(steps):
        x = data[torch.randint(len(data), (batch,))].flatten(1)  # uint8: the loss reads it as x / 255
        mu, logvar = encoder(x / 255).chunk(2, 1)
        z = vk.reparameterize(mu, logvar)
        terms = vk.fused_elbo(decoder(z), x, mu, logvar, beta=beta, return_terms=True)
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
        beta.fill_(min(1.0, 2 * (step + 1) / steps))
        if step % 100 == 99:
            active = int((terms.kl_per_dim > 0.1).sum())
            log(f"step {step + 1}: nll {terms.nll.mean():.2f} + kl {terms.kl.mean():.2f} nats, {active} active latents")
    return terms


if __name__ == "__main__":
    train()
