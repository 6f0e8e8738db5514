"""Trains models that are ill on purpose, and healthy models, on the MNIST digits of `vae-kernels train`. vk.diagnose
judges each model. An ill model is then trained again with the change that the doctor advises first, `Diagnosis.change`,
and judged again.

    python examples/doctor_cases.py --csv bench/results/doctor/cases.csv

docs_pictures.py draws the ill models and their cures. The results have one row for each model, seed and stage: the
verdict on each symptom, and whether the verdict is right. This example needs the extra "demo".
"""

import argparse
import csv
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

import vae_kernels as vk
from vae_kernels.cli.data import load


class Before(nn.Conv2d):
    """A convolution that sees only the pixels before the pixel itself, row by row."""

    def __init__(self, inputs, outputs, size):
        super().__init__(inputs, outputs, size, padding=size // 2)
        mask = torch.ones(size, size)
        mask[size // 2, size // 2 :] = mask[size // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x):
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class Autoregressive(nn.Module):
    """The logits of each pixel from z and from the 24 pixels before it. A stroke is smooth, so these pixels alone
    nearly give the answer, and the model can ignore z."""

    def __init__(self, shape, latents):
        super().__init__()
        channels = shape[0]
        layers = [Before(channels, 16, 7), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, channels, 1)]
        self.of_pixels = nn.Sequential(*layers)
        self.of_z = nn.Linear(latents, math.prod(shape))

    def forward(self, z, x):
        return self.of_pixels(x) + self.of_z(z).view_as(x)


def mlp(shape, **settings):
    return vk.mlp_vae(shape, 20, (200,), **settings)


def conv(shape, **settings):
    return vk.conv_vae(shape, 20, (8, 16), **settings)


def mixture(shape, **settings):
    return mlp(shape, prior=vk.priors.MixtureOfGaussians(20, 20), **settings)


def autoregressive(shape, **settings):
    """The encoder of mlp with the decoder above."""
    encoder = mlp(shape).encoder
    return vk.VAE(encoder, Autoregressive(shape, 20), latent_shape=20, autoregressive=True, **settings)


@dataclass(frozen=True)
class Case:
    """build makes a VAE from a shape and settings. ill names the symptoms that must be found ill; it is empty for a
    healthy model.

    epochs and lr differ for the autoregressive model: a convolution has few weights, and needs fewer and larger steps.
    """

    build: callable
    settings: dict = field(default_factory=dict)
    ill: tuple = ()
    epochs: int = 20
    lr: float = 1e-3


CASES = {
    "healthy, bernoulli": Case(mlp),
    "healthy, convolutions": Case(conv),
    "healthy, mixture prior": Case(mixture),
    "healthy, fitted variance": Case(mlp, {"likelihood": "gaussian", "obs_logvar": "fitted"}),
    "beta too high": Case(mlp, {"beta": 30.0}, ("posterior collapse", "effective beta")),
    "powerful decoder": Case(autoregressive, {}, ("posterior collapse",), epochs=8, lr=6e-3),
    "beta too low": Case(mlp, {"beta": 0.001}, ("holes in the latent space", "effective beta")),
    "variance too large": Case(mlp, {"likelihood": "gaussian", "obs_logvar": 0.0}, ("variance of the likelihood",)),
}


def trained(case, images, change, seed, epochs=None, batch_size=100):
    torch.manual_seed(seed)
    settings = case.settings | change
    if settings.get("obs_logvar") == "fitted":
        settings["obs_logvar"] = nn.Parameter(torch.tensor((images.double() / 255).var().log().item()))
    model = case.build(tuple(images.shape[1:]), **settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=case.lr, fused=True)
    for _ in range(epochs or case.epochs):
        for x in images[torch.randperm(len(images))].split(batch_size):
            optimizer.zero_grad()
            model.loss(x).backward()
            optimizer.step()
    return model


def judged(name, seed, epochs=None, data=None):
    """[(row, diagnosis)] of the model as it was made and, if it was ill, of the model after the change."""
    case, data = CASES[name], data or load(None, "bernoulli")
    train, test = data.split()
    labels = {"labels": data.labels[test], "classes": data.classes}
    stages, change = [], {}
    for stage in ("as made", "after the change")[: 2 if case.ill else 1]:
        model = trained(case, data.images[train], change, seed, epochs)
        found = vk.diagnose(model, data.images[test], **labels)
        ill = {verdict.symptom for verdict in found.verdicts if verdict.level == "ill"}
        right = set(case.ill) <= ill if case.ill and stage == "as made" else not ill
        stages.append(({"model": name, "seed": seed, "stage": stage, "change": say(change), "right": right}, found))
        change = found.change
    return [(row | numbers(found), found) for row, found in stages]


def say(change):
    """The settings as a user would write them."""
    shown = {k: f"Parameter({v.item():.2f})" if isinstance(v, nn.Parameter) else v for k, v in change.items()}
    return ", ".join(f"{key}={value}" for key, value in shown.items())


def numbers(found):
    m = found.measures
    of = {
        "active_units": m.active_units,
        "information": round(m.information, 3),
        "kl": round(m.kl, 2),
        "nll": round(m.nll, 2),
        "log_p": round(m.log_p.value, 2),
        "gap": round(m.log_p.gap, 2),
        "aggregate_kl": round(m.aggregate_kl, 2),
        "hole_share": round(m.hole_share, 3),
        "round_trip_data": "" if m.round_trip_data is None else round(m.round_trip_data, 3),
        "round_trip_prior": "" if m.round_trip_prior is None else round(m.round_trip_prior, 3),
        "square_ratio": "" if m.square_ratio is None else round(m.square_ratio, 4),
        "detail": "" if m.detail is None else round(m.detail, 3),
    }
    verdicts = dict.fromkeys(("blur", "variance of the likelihood"), "")
    verdicts |= {verdict.symptom: verdict.level for verdict in found.verdicts}
    return of | dict(sorted(verdicts.items()))


def draw(stages, path):
    """For each stage: the KL of each latent, the map of the latent space, and pictures. The axis of the KL is the same
    in all stages. A model without pictures has rate and distortion in their place."""
    import matplotlib
    from matplotlib.figure import Figure

    from vae_kernels.doctor import figures, words

    kls = [found.measures.kl_per_dim for _, found in stages]
    top = None if None in kls else max(1.0, *(1.1 * kl.max().item() for kl in kls))
    with matplotlib.rc_context({"font.size": 10}):
        figure = Figure(figsize=(7, 6.6 * len(stages)), layout="constrained")
        for (row, found), page in zip(stages, figure.subfigures(len(stages), 1, squeeze=False)[:, 0], strict=True):
            what = f"{row['stage']}: {row['change']}" if row["change"] else row["stage"]
            title = f"{row['model']}, {what}\n{words.FOUND[found.level]}: {found.cause.title}"
            page.suptitle(title, x=0.01, ha="left", weight="bold")
            upper, lower = page.subfigures(2, 1, height_ratios=(1, 1.05))
            left, right = upper.subplots(1, 2)
            views = found.views
            figures.spectrum(left, found.measures, top)
            figures.latent(right, views.codes, views.labels, views.classes, views.draws)
            if views.pictures is None:
                figures.rate_distortion(lower.subplots(), found.measures)
            else:
                figures.reconstructions(lower.subplots(), views.pictures)
        figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, help="of every model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="a figure of each sick model, of the first seed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # small matrices: threads wait for each other more than they compute
    rows, data = [], load(None, "bernoulli")
    for name in arguments.cases:
        for seed in range(arguments.seeds):
            stages = judged(name, seed, arguments.epochs, data)
            rows += [row for row, _ in stages]
            print(*(row for row, _ in stages), sep="\n", flush=True)
            if arguments.figures and seed == 0 and CASES[name].ill:
                arguments.figures.mkdir(parents=True, exist_ok=True)
                draw(stages, arguments.figures / f"{name.replace(' ', '-')}.png")
    if arguments.csv:
        arguments.csv.parent.mkdir(parents=True, exist_ok=True)
        with open(arguments.csv, "w", newline="", encoding="utf-8") as file:
            fields = dict.fromkeys(
                name for row in rows for name in row
            )  # a row lacks the symptoms that it does not have
            writer = csv.DictWriter(file, fields, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    seconds = time.process_time()
    print(f"{sum(row['right'] for row in rows)} of {len(rows)} judged rightly; {seconds:.0f} s of the processor")


if __name__ == "__main__":
    main()
