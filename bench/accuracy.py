"""python -m bench.accuracy: the error of log p of a negative binomial in float32, against 60 digits of mpmath.

The counts and the dispersions are hard: counts up to 123,457, and theta from 1e-6 to 1e8. Only draws whose log p is
above -30 count, which a model of such data would have. scvi-tools is left out if it is not installed."""

import argparse
import csv
from pathlib import Path

import mpmath
import numpy as np
import torch

import vae_kernels as vk

COUNTS = [0, 0, 1, 3, 30, 255, 4097, 123457]
LIKELY = -30


def exact(x, mu, theta):
    """log p with 60 digits."""
    with mpmath.workdps(60):
        x, mu, s = mpmath.mpf(x), mpmath.mpf(mu), mpmath.mpf(theta)
        count = mpmath.loggamma(x + s) - mpmath.loggamma(s) - mpmath.loggamma(x + 1)
        return float(count - s * mpmath.log1p(mu / s) - x * mpmath.log1p(s / mu))


def draws(n, seed):
    """(x, mu, theta) in float32, with means near the count and elsewhere."""
    rng = np.random.default_rng(seed)
    x = rng.choice(COUNTS, n).astype(np.float32)
    mu = np.maximum(x, 0.5) * np.exp(rng.normal(size=n) * rng.choice([1e-4, 0.3, 2], n))
    return x, mu.astype(np.float32), np.exp(rng.uniform(np.log(1e-6), np.log(1e8), n)).astype(np.float32)


def results(n=2000, seed=5):
    """[{"of": who computes, "draws": n, "likely": draws that count, "error_nats": the largest error, two digits}]"""
    arrays = draws(n, seed)
    truth = np.array([exact(*row) for row in zip(*(a.tolist() for a in arrays), strict=True)])
    x, mu, theta = map(torch.from_numpy, arrays)
    found = {
        "vae_kernels": vk.distributions.NegativeBinomial(mu=mu, theta=theta).log_prob(x),
        "torch.distributions": torch.distributions.NegativeBinomial(theta, logits=mu.log() - theta.log()).log_prob(x),
    }
    try:
        from scvi.distributions import NegativeBinomial
    except ImportError:
        pass
    else:
        found["scvi-tools"] = NegativeBinomial(mu=mu, theta=theta).log_prob(x)
    likely = truth > LIKELY
    errors = {name: np.abs(log_p.double().numpy() - truth)[likely].max() for name, log_p in found.items()}
    counted = {"draws": n, "likely": int(likely.sum())}
    return [{"of": name, **counted, "error_nats": float(f"{error:.2g}")} for name, error in errors.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parent / "results/distributions/counts.csv"
    parser.add_argument("--out", type=Path, default=default, help="the CSV file (%(default)s)")
    arguments = parser.parse_args()
    rows = results()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with open(arguments.out, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
