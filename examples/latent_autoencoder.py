"""The autoencoder of a latent diffusion model, at toy size. It has spatial latents, a small KL weight, a learned noise
level, and a second loss. The weight of the second loss follows from the gradients of both losses at the last layer.

    python examples/latent_autoencoder.py

The model follows Rombach et al. 2022 (arXiv:2112.10752) and the AutoencoderKL of diffusers: the encoder puts out
moments [B, 2L, h, w] in channels_last. The adaptive weight is equation 7 of Esser et al. 2021 (arXiv:2012.09841). Their
second loss is a discriminator's; here it is the difference of neighbouring pixels. Such code takes a mean of squares as
the likelihood, which is our likelihood divided by the number of pixels. So a KL weight of such code is not ours: here
the KL is in nats for each sample.
"""

import torch
import torch.nn.functional as F
from blobs import blobs
from torch import nn

import vae_kernels as vk


class Autoencoder(nn.Module):
    def __init__(self, latents=2, width=16):
        super().__init__()
        down = nn.Conv2d(1, width, 3, 2, 1), nn.SiLU(), nn.Conv2d(width, 2 * latents, 3, 2, 1)
        up = (
            nn.ConvTranspose2d(latents, width, 4, 2, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(width, width, 4, 2, 1),
            nn.SiLU(),
        )
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)
        self.last = nn.Conv2d(width, 1, 3, 1, 1)
        self.obs_logvar = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        z, kl = vk.sample_kl(self.encoder(x))  # without chunk: one kernel, and one gradient for both moments
        return self.last(self.decoder(z)), kl


def edges(recon, x):
    return sum((torch.diff(recon, dim=d) - torch.diff(x, dim=d)).abs().mean() for d in (2, 3))


def train(steps=200, batch=32, log=print):
    """Returns nll and kl of the last batch (means, in nats), and the module."""
    torch.manual_seed(0)
    data = (blobs(1000) / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    model = Autoencoder().to(memory_format=torch.channels_last)
    rest = [p for name, p in model.named_parameters() if name != "obs_logvar"]
    noise = {"params": [model.obs_logvar], "lr": 5e-2, "weight_decay": 0.0}  # starts far from its final value
    optimizer = torch.optim.AdamW([{"params": rest}, noise], lr=3e-3)
    for step in range(steps):
        x = data[torch.randint(len(data), (batch,))]
        recon, kl = model(x)
        nll = vk.nll(recon, x, likelihood="gaussian", obs_logvar=model.obs_logvar, reduction="mean")
        other = edges(recon, x)
        of_nll, of_other = (
            torch.autograd.grad(t, model.last.weight, retain_graph=True)[0].norm() for t in (nll, other)
        )
        weight = (of_nll / (of_other + 1e-4)).clamp(0, 1e4).detach()
        loss = nll + 1e-2 * kl.mean() + 0.1 * weight * other
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            error, learned = F.mse_loss(recon, x).item(), model.obs_logvar.exp().item()
            log(f"step {step + 1}: nll {nll:.1f}, kl {kl.mean():.1f} nats; error {error:.4f}, taken as {learned:.4f}")
    return nll.item(), kl.mean().item(), model


if __name__ == "__main__":
    train()
