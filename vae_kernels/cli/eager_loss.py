"""The loss in eager PyTorch, as most people write it by hand. `--loss eager` trains with it, for comparison.

It shares no code with the fused loss. So if both give equal results, both are probably right.
"""

import math

import torch
import torch.nn.functional as F


def eager_loss(vae, x, generator=None):
    """The negative ELBO of a batch: (loss, nll, kl), scalars in nats per image, with loss = nll + beta * kl.

    vae: has encode, decode, likelihood ("bernoulli" or "gaussian"), obs_logvar (0-d, for "gaussian") and beta.
    x:   [B, ...], float or uint8 (read as x/255).
    """
    if x.dtype == torch.uint8:
        x = x.float() / 255
    mu, logvar = vae.encode(x)
    std = torch.exp(0.5 * logvar)
    z = mu + std * torch.randn(mu.shape, generator=generator, dtype=mu.dtype, device=mu.device)
    recon = vae.decode(z)
    if vae.likelihood == "bernoulli":
        nll = F.binary_cross_entropy_with_logits(recon, x, reduction="sum") / len(x)
    elif vae.likelihood == "gaussian":
        var = torch.exp(vae.obs_logvar)
        squared = F.mse_loss(recon, x, reduction="sum") / len(x)
        nll = 0.5 * (squared / var + x[0].numel() * (vae.obs_logvar + math.log(2 * math.pi)))
    else:
        raise ValueError(f"likelihood: got {vae.likelihood!r}, expected 'bernoulli' or 'gaussian' for the eager loss")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    return nll + vae.beta * kl, nll, kl
