"""Calibrates the doctor's verdict on holes: small VAEs on two sets of digits. Their samples are noise, half of them
digits, or as good as the reconstructions. Classifiers, which the doctor does not have, count the digits among them.

    python examples/doctor_holes.py --csv bench/results/doctor/holes.csv

The results have one row for each data set, model and seed: the share of the reconstructions and of the samples that the
classifiers recognise, the doctor's numbers and its verdict, and the verdict that is expected. The expected verdicts are
of the models, by a look at their samples. This example needs the extra "demo".
"""

import argparse
import csv
from pathlib import Path

import torch
from doctor_cases import Case, conv, mlp, trained
from torch import nn

import vae_kernels as vk
from vae_kernels.cli.data import load

SURE = 0.9  # an image is recognised if the classifiers give one digit more than this probability, in the mean


def mnist():
    """(images uint8 [N, 1, H, W], labels, train, test)"""
    data = load(None, "bernoulli")
    return data.images, data.labels, *data.split()


def small_digits():
    """The digits of scikit-learn, 8 x 8, as mnist() gives the large ones."""
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    images = (torch.from_numpy(x).reshape(-1, 1, 8, 8) * 255 / 16).round().to(torch.uint8)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images, torch.from_numpy(labels).long(), order[500:], order[:500]


DATA = {"mnist": (mnist, 1), "small digits": (small_digits, 4)}  # and the factor on the epochs: a few data need more


def narrow(shape, **settings):
    return vk.mlp_vae(shape, 2, (200,), **settings)


# name: (how the model is made, whether the prior is fitted afterwards, the verdict that is expected)
MODELS = {
    "the aggregate posterior is the prior": (Case(mlp, epochs=15), True, "healthy"),
    "two latents, the prior fitted too": (Case(narrow, epochs=15), True, "healthy"),
    "variance too large": (Case(mlp, {"likelihood": "gaussian", "obs_logvar": 0.0}, epochs=15), False, "healthy"),
    "bernoulli": (Case(mlp, epochs=15), False, "watch"),
    "fitted variance": (Case(mlp, {"likelihood": "gaussian", "obs_logvar": "fitted"}, epochs=15), False, "watch"),
    "beta 0.1": (Case(mlp, {"beta": 0.1}, epochs=15), False, "watch"),
    "beta 0.001": (Case(mlp, {"beta": 0.001}, epochs=15), False, "ill"),
    "convolutions, beta 0.001": (Case(conv, {"beta": 0.001}, epochs=6), False, "ill"),
    "variance too small": (Case(mlp, {"likelihood": "gaussian", "obs_logvar": -8.0}, epochs=15), False, "ill"),
}


def classifiers(images, labels, epochs, seeds=3):
    """Convolutional classifiers of images [N, C, H, W] in [0, 1]."""
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(images.shape[1], 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, 1, 1)]
        layers += [nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.LazyLinear(10)]
        net = nn.Sequential(*layers)
        net(images[:1])
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(images)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()
                optimizer.step()
        found.append(net.eval())
    return found


@torch.no_grad()
def recognised(nets, images):
    mean = torch.stack([net(images).softmax(1) for net in nets]).mean(0)
    return (mean.amax(1) > SURE).double().mean().item()


@torch.no_grad()
def fit_prior(model, images, most=2000):
    """Make the aggregate posterior of the train data the prior of the model: a mixture of the posteriors."""
    mu, logvar = model.encode(images[:most])
    prior = vk.priors.MixtureOfGaussians(len(mu), mu.shape[1])
    prior.loc.copy_(mu)
    prior.logvar.copy_(logvar)
    prior.logits.zero_()
    model.prior_module = prior


def judged(name, seed, of, nets, factor=1):
    """The row of one model."""
    (images, _, train, test), (case, fitted, expected) = of, MODELS[name]
    model = trained(case, images[train], {}, seed, factor * case.epochs).eval()
    if fitted:
        fit_prior(model, images[train])
    found = vk.diagnose(model, images[test], log_p=None)
    with torch.no_grad():
        reconstructed = model.reconstruct(images[test])
        samples = model.sample(len(test), generator=torch.Generator().manual_seed(0))
    m, verdict = found.measures, found["holes in the latent space"].level
    return {
        "model": name,
        "seed": seed,
        "recognised reconstructions": round(recognised(nets, reconstructed), 3),
        "recognised samples": round(recognised(nets, samples), 3),
        "unlike": round(m.unlike, 3),
        "moments per latent": round(m.aggregate_kl / m.latents, 3),
        "rare codes": round(m.hole_share, 3),
        "verdict": verdict,
        "expected": expected,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument("--models", nargs="*", default=list(MODELS), metavar="MODEL")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # small matrices: threads wait for each other more than they compute
    rows = []
    for data in arguments.data:
        load_data, factor = DATA[data]
        of = load_data()
        nets = classifiers(of[0][of[2]] / 255, of[1][of[2]], 8 * factor)
        print(f"{data}: {recognised(nets, of[0][of[3]] / 255):.1%} of the data are recognised", flush=True)
        for name in arguments.models:
            for seed in range(arguments.seeds):
                rows.append({"data": data} | judged(name, seed, of, nets, factor))
                print(rows[-1], flush=True)
    if arguments.csv:
        arguments.csv.parent.mkdir(parents=True, exist_ok=True)
        with open(arguments.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(f"{sum(row['verdict'] == row['expected'] for row in rows)} of {len(rows)} as expected")


if __name__ == "__main__":
    main()
