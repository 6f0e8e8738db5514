"""The whole objective of a step, sampling and KL included, by hand and with vae_kernels; checked against float64."""

import math

import torch
import torch.nn.functional as F

import vae_kernels as vk


def eager_bernoulli(recon, x, mu, logvar):
    nll = F.binary_cross_entropy_with_logits(recon, x, reduction="sum")
    return (nll - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())) / len(x)


def eager_gaussian(recon, x, mu, logvar):
    nll = 0.5 * F.mse_loss(recon, x, reduction="sum") + 0.5 * x.numel() * math.log(2 * math.pi)
    return (nll - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())) / len(x)


EAGER = {"bernoulli": eager_bernoulli, "gaussian": eager_gaussian}


def contenders(likelihood, part):
    """{name: function of (recon, x, mu, logvar) that gives (loss, z)}. part "loss": z is None, nothing is sampled."""
    eager = EAGER[likelihood]

    def fused(recon, x, mu, logvar):
        return vk.fused_elbo(recon, x, mu, logvar, likelihood=likelihood)

    def sampled(recon, x, mu, logvar):  # two kernels forward, two backward, and no noise kept
        z, kl = vk.sample_kl(mu, logvar)
        return vk.fused_elbo(recon, x, kl=kl, likelihood=likelihood), z

    def with_sample(loss):  # as everyone writes it
        return lambda recon, x, mu, logvar: (
            loss(recon, x, mu, logvar),
            mu + torch.exp(0.5 * logvar) * torch.randn_like(mu),
        )

    if part == "loss":
        return {name: (lambda *t, loss=loss: (loss(*t), None)) for name, loss in (("eager", eager), ("fused", fused))}
    return {"eager": with_sample(eager), "fused": sampled, "drop_in": with_sample(fused)}


def step_with(objective):
    """Forward and backward, with the gradient that the decoder would send back to z as the last argument."""

    def run(recon, x, mu, logvar, grad_z):
        loss, z = objective(recon, x, mu, logvar)
        outputs, incoming = ([loss], [None]) if z is None else ([loss, z], [None, grad_z])
        return loss, torch.autograd.grad(outputs, [recon, mu, logvar], incoming)

    return run


def step(objective, grad_z):
    run = step_with(objective)
    return lambda recon, x, mu, logvar: run(recon, x, mu, logvar, grad_z)


def check(objective, likelihood, recon, x, mu, logvar):
    """Raise unless loss and gradients agree with float64 as far as this storage type can."""
    inputs = [t.detach().double().requires_grad_() for t in (recon, mu, logvar)]
    truth = vk.fused_elbo(inputs[0], x.double(), *inputs[1:], likelihood=likelihood, backend="torch")
    expected = [truth, *torch.autograd.grad(truth, inputs)]
    loss, _ = objective(recon, x, mu, logvar)
    got = [loss, *torch.autograd.grad(loss, [recon, mu, logvar])]
    for name, a, b in zip(("loss", "recon", "mu", "logvar"), got, expected, strict=True):
        # eager PyTorch sums and returns a loss of the storage type
        tolerance = torch.finfo(a.dtype).eps * (64 if name == "loss" else 16)
        error = ((a.double() - b).abs().max() / b.abs().max()).item()
        if not error <= tolerance:
            raise AssertionError(f"{name}: relative error {error:.1e}, allowed {tolerance:.1e}")


def draw(batch, dims, latents, dtype, seed=0):
    """recon, x, mu, logvar [of a model in training: logits of a few units] and the gradient that comes back to z."""
    g = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(shape, generator=g)  # noqa: E731
    recon, x = 2 * random(batch, dims), torch.rand((batch, dims), generator=g)
    mu, logvar, grad_z = random(batch, latents), 0.3 * random(batch, latents), random(batch, latents) / batch
    return tuple(t.to(dtype) for t in (recon, x, mu, logvar, grad_z))
