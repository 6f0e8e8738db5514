"""Trains VAE, beta-VAE and beta-TCVAE on rendered sprites, and measures what each latent dimension knows.

Chen, Li, Grosse & Duvenaud 2018 (beta-TCVAE, arXiv:1802.04942) split the KL into index-code mutual information, total
correlation and dimension-wise KL, and give the weight beta to the total correlation alone. Their data set, dSprites,
has known factors: shape, scale, orientation, x and y. This script renders a smaller one, with 32 x 32 pixels.

    python examples/papers/tcvae.py --objective tcvae --beta 6
"""

import itertools
import math

import experiments
import torch

import vae_kernels as vk

RUN = "objective", "beta", "epochs", "seed"
SIDE, LATENTS, HIDDEN, BATCH, BINS = 32, 10, (400, 400), 256, 20
FACTORS = {"shape": 3, "scale": 6, "orientation": 10, "x": 16, "y": 16}


def render(shape, scale, orientation, x, y):
    """The pictures of these factors, [N, SIDE * SIDE] float32, 0 or 1. All arguments are [N] integers."""
    at = torch.linspace(-1, 1, SIDE)
    turn = (orientation * (2 * math.pi / FACTORS["orientation"]))[:, None, None]
    size = (0.3 + 0.3 * scale / (FACTORS["scale"] - 1))[:, None, None]
    across = at[None, None, :] - (x / (FACTORS["x"] - 1) - 0.5)[:, None, None]
    down = at[None, :, None] - (y / (FACTORS["y"] - 1) - 0.5)[:, None, None]
    u = (turn.cos() * across + turn.sin() * down) / size
    v = (turn.cos() * down - turn.sin() * across) / size
    square = (u.abs() < 0.8) & (v.abs() < 0.8)
    ellipse = u.square() + (2 * v).square() < 1
    r = u.square() + v.square() - 0.5
    heart = r.pow(3) < 1.5 * u.square() * (-v).pow(3)  # v grows downwards
    drawn = torch.where(shape[:, None, None] == 0, square, torch.where(shape[:, None, None] == 1, ellipse, heart))
    return drawn.flatten(1).float()


def sprites():
    """(pictures [N, 1024], factors [N, 5]) of every combination of the factors."""
    factors = torch.tensor(list(itertools.product(*map(range, FACTORS.values()))))
    return torch.cat([render(*part.unbind(1)) for part in factors.split(4096)]), factors


def kl_of(objective, z, mu, logvar, beta, dataset_size):
    """The KL of each sample [B] with beta on the whole KL, or on the total correlation alone."""
    if objective == "vae":
        return beta * vk.gaussian_kl(mu, logvar)
    parts = vk.kl_decomposition(z, mu, logvar, dataset_size=dataset_size)
    return parts.mutual_information + beta * parts.total_correlation + parts.dimension_wise_kl.sum(1)


def train(x, objective, beta, epochs):
    vae = vk.mlp_vae((SIDE * SIDE,), LATENTS, HIDDEN)
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3, fused=True)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            mu, logvar = vae.encode(x[rows])
            z = vk.reparameterize(mu, logvar)
            loss = vk.fused_elbo(vae.decode(z), x[rows], kl=kl_of(objective, z, mu, logvar, beta, len(x)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return vae


def mutual_information(codes, factors):
    """I(code_j; factor_k) in nats, [L, K], of the codes [N, L] in 20 bins of equal width.

    Locatello et al. 2019 (arXiv:1811.12359) estimate the mutual information gap with the same bins.
    """
    least, most = codes.min(0).values, codes.max(0).values
    bins = ((codes - least) / (most - least).clamp(min=1e-30) * BINS).long().clamp(max=BINS - 1)
    found = torch.zeros(codes.shape[1], factors.shape[1])
    for j, k in itertools.product(range(codes.shape[1]), range(factors.shape[1])):
        n = int(factors[:, k].max()) + 1
        p = torch.bincount(bins[:, j] * n + factors[:, k], minlength=BINS * n).reshape(BINS, n) / len(codes)
        independent = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
        found[j, k] = torch.xlogy(p, p / independent.clamp(min=1e-30)).sum()
    return found


@torch.no_grad()
def evaluate(vae, x, factors):
    """The columns of a run: the terms of the objective in nats for each picture, and the mutual information gap."""
    totals = torch.zeros(5, dtype=torch.float64)
    codes, order = [], torch.randperm(len(x))
    for rows in order.split(1024):
        mu, logvar = vae.encode(x[rows])
        z = vk.reparameterize(mu, logvar)
        parts = vk.kl_decomposition(z, mu, logvar, dataset_size=len(x))
        terms = parts.mutual_information, parts.total_correlation, parts.dimension_wise_kl.sum(1)
        terms = vk.nll(vae.decode(z), x[rows]), vk.gaussian_kl(mu, logvar), *terms
        totals += torch.stack([term.sum().double() for term in terms]) / len(x)
        codes.append(mu)
    information = mutual_information(torch.cat(codes), factors[order])
    best = information.topk(2, dim=0).values
    gaps = (best[0] - best[1]) / torch.tensor([math.log(n) for n in FACTORS.values()])
    names = "nll_nats", "kl_nats", "mutual_information_nats", "total_correlation_nats", "dimension_wise_kl_nats"
    return {
        **{name: round(value, 2) for name, value in zip(names, totals.tolist(), strict=True)},
        "mutual_information_gap": round(gaps.mean().item(), 3),
        **{f"gap_{name}": round(gap, 3) for name, gap in zip(FACTORS, gaps.tolist(), strict=True)},
        "active_units": (torch.cat(codes).var(0) > 0.01).sum().item(),
    }


def main():
    parser = experiments.parser(__doc__)
    parser.add_argument("--objective", choices=("vae", "tcvae"), default="tcvae")
    parser.add_argument("--beta", type=float, default=6.0)
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    x, factors = sprites()
    vae = train(x, args.objective, args.beta, args.epochs)
    experiments.record("tcvae", args, RUN, evaluate(vae, x, factors))


if __name__ == "__main__":
    main()
