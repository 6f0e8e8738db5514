"""Trains VAEs on Fashion-MNIST with a Gaussian likelihood whose sigma is fixed, tuned by beta, or learned.

Rybkin, Daniilidis & Levine 2021 (sigma-VAE, arXiv:2006.13202): to tune beta with sigma = 1 is to tune sigma^2 = beta.
A sigma that is learned, or computed in closed form, finds this value without a search.

    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb fashion   # the whole Fashion-MNIST
    python examples/papers/sigma.py --sigma optimal

The samples are compared with the test set by a Frechet distance, as in FID (Heusel et al. 2017, arXiv:1706.08500). The
features are those of a small classifier of Fashion-MNIST in place of Inception's, so the numbers are not FIDs.
"""

import math
from pathlib import Path

import experiments
import torch
import torch.nn.functional as F
from torch import nn

import vae_kernels as vk
from vae_kernels.cli.data import load

RUN = "sigma", "beta", "epochs", "seed"
LATENTS, HIDDEN, BATCH = 32, (512, 512), 128


def obs_logvar(sigma):
    """log sigma^2 for the VAE: a number, a Parameter that is trained, or the closed form of the last batches."""
    if sigma == "1":
        return 0.0
    return nn.Parameter(torch.zeros(())) if sigma == "learned" else vk.controls.RunningLogvar()


def batches(x, epochs):
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            yield x[rows]


def train(x, sigma, beta, epochs):
    vae = vk.mlp_vae((784,), LATENTS, HIDDEN, "gaussian", obs_logvar=obs_logvar(sigma), beta=beta)
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * math.ceil(len(x) / BATCH))
    for batch in batches(x, epochs):
        mu, logvar = vae.encode(batch)
        z, kl = vk.sample_kl(mu, logvar)
        loc = vae.decode(z)
        loss = vk.fused_elbo(loc, batch, kl=kl, likelihood="gaussian", obs_logvar=vae.obs_logvar, beta=beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if sigma == "optimal":
            vae.obs_logvar.update(loc, batch)
    return vae


def classifier(x, y, epochs=5):
    """A network of which the layer before the last gives the features of the Frechet distance."""
    body = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU())
    whole = nn.Sequential(body, nn.Linear(64, 10))
    optimizer = torch.optim.Adam(whole.parameters(), 1e-3, fused=True)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = F.cross_entropy(whole(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return body


def frechet(a, b):
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) of the Gaussians with the means and covariances of a and b."""
    a, b = a.double(), b.double()
    roots = torch.linalg.eigvals(torch.cov(a.T) @ torch.cov(b.T)).real.clamp(min=0).sqrt().sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * roots).item()


@torch.no_grad()
def evaluate(vae, x, test, features):
    """The columns of a run. x: the training images, which fit sigma where the model has none of its own."""

    def error(images):
        return (vae.decode(vk.reparameterize(*vae.encode(images))) - images).square().mean()

    best = error(x[:10000]).log()  # the sigma^2 that fits the training images best
    mse, (mu, logvar) = error(test), vae.encode(test)
    kl = vk.gaussian_kl(mu, logvar, reduction="mean")
    nll = 0.5 * 784 * (mse / best.exp() + best + math.log(2 * math.pi))
    own = getattr(vae.obs_logvar, "value", vae.obs_logvar)
    return {
        "sigma_in_training": round(math.exp(0.5 * float(own)), 4),
        "test_mse": round(mse.item(), 5),
        "test_kl_nats": round(kl.item(), 2),
        "test_neg_elbo_nats": round((nll + kl).item(), 1),  # of the density of the pixels, with the best sigma
        "active_units": (mu.var(0) > 0.01).sum().item(),
        "frechet_of_samples": round(frechet(features(vae.sample(len(test)).clamp(0, 1)), features(test)), 2),
    }


def main():
    parser = experiments.parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path("fashion/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--sigma", choices=("1", "learned", "optimal"), default="optimal")
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    x, test = experiments.images(args.data)
    labels = load(args.data, "bernoulli").labels[: len(x)]
    torch.manual_seed(0)
    features = classifier(x, labels)
    torch.manual_seed(args.seed)
    vae = train(x, args.sigma, args.beta, args.epochs)
    experiments.record("sigma", args, RUN, evaluate(vae, x, test, features))


if __name__ == "__main__":
    main()
