"""python -m bench.pictures: the pictures of README.md and of the pages in docs, made from committed results, or from
formulas that are drawn here. Each picture has the checksum of its source."""

import csv
import io
import statistics
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from rich.console import Console
from rich.terminal_theme import MONOKAI

import vae_kernels as vk
from vae_kernels.cli import audit

from .plots import INK, STYLE, digest, save
from .rows import RESULTS, ROOT

FOLDER = ROOT / "docs" / "pictures"
OURS, THEIRS, THIRD, FOURTH = INK["vae_kernels"], INK["torch.compile"], "#1b9e77", "#777777"
COLOURS = (OURS, THEIRS, THIRD, FOURTH)
DASHES = ("-", "--", ":", "-.")  # so that no line is known by its colour alone


def my_loss(recon, x, mu, logvar):
    """The loss at the beginning of docs/audit.md."""
    kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp()) / len(x)
    return F.binary_cross_entropy_with_logits(recon, x) + kl


def read(source):
    with open(source, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def plain(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", visible=False)


def controls(figure, _):
    """The curves of three schedules and of a delay, over 1000 steps."""
    made = {
        "LinearWarmup(500)": vk.controls.LinearWarmup(500),
        "LinearWarmup(500, delay=300)": vk.controls.LinearWarmup(500, delay=300),
        "Cosine(800)": vk.controls.Cosine(800),
        "Cyclical(1000, cycles=4)": vk.controls.Cyclical(1000, cycles=4),
    }
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for place, (name, control), colour in zip(panels.flat, made.items(), COLOURS, strict=True):
        values = []
        for _ in range(1001):
            values.append(float(control))
            control.step()
        place.plot(values, color=colour)
        place.set_title(name, fontsize=9, color=colour)
        plain(place)
    for place in panels[:, 0]:
        place.set_ylabel("beta")
    for place in panels[1]:
        place.set_xlabel("step")


def likelihoods(figure, _):
    """log p of each x for a fixed output of the decoder: reals, [0, 1], levels, counts."""
    panels = figure.subplots(2, 2)
    real, unit = torch.linspace(-4, 4, 401)[:, None], torch.linspace(0, 1, 401)[:, None]
    levels, counts = torch.arange(0, 256)[:, None] / 255, torch.arange(0.0, 16.0)[:, None]
    at = lambda value: lambda x: torch.full_like(x, value)  # noqa: E731
    lines = {
        "real: the density": (real, "x", ((at(0.0), "gaussian"), (at(0.0), "laplace"))),
        "grey in [0, 1]: exp(log p)": (unit, "x", ((at(1.0), "continuous_bernoulli"), (at(1.0), "bernoulli"))),
        "8-bit levels: the mass": (levels, "x = k / 255", (((at(0.55), at(-2.5)), "discretized_logistic"),)),
        "counts, log_mean = log 4: the mass": (
            counts,
            "x",
            (
                (at(1.3863), "poisson"),
                ((at(1.3863), at(0.0)), "negative_binomial"),
                ((at(1.3863), at(0.0), at(-1.0)), "zinb"),
            ),
        ),
    }
    for place, (title, (x, label, forms)) in zip(panels.flat, lines.items(), strict=True):
        for (recon, name), colour, dash in zip(forms, COLOURS, DASHES, strict=False):
            given = tuple(f(x) for f in recon) if isinstance(recon, tuple) else recon(x)
            p = vk.log_prob(given, x, likelihood=name).exp()
            marker = {"marker": "o", "markersize": 3} if len(x) < 20 else {}
            integral = f", its integral is {p.mean():.2f}" if name == "bernoulli" else ""
            place.plot(x, p, dash, color=colour, label=name + integral, **marker)
        place.set_title(title, fontsize=9)
        place.set_xlabel(label)
        place.set_ylim(0, 1.25 * place.get_ylim()[1])
        place.legend(frameon=False, fontsize=7, loc="upper left" if x.max() <= 1 else "upper right")
        plain(place)


def priors(figure, source):
    """-log p(x) and -ELBO of the test digits, for each prior."""
    axes, rows = figure.subplots(), read(source)[::-1]
    for i, row in enumerate(rows):
        log_p, elbo = (float(row[f"test_{key}_nats"]) for key in ("neg_log_p", "neg_elbo"))
        axes.plot([log_p, elbo], [i, i], color="#bbbbbb", linewidth=2, zorder=1)
        axes.plot(log_p, i, "o", color=OURS, markersize=8, label="-log p(x)" if i == 0 else None)
        axes.plot(elbo, i, "s", color=THEIRS, markersize=7, label="-ELBO" if i == 0 else None)
        for value, side in ((log_p, "right"), (elbo, "left")):
            offset = -9 if side == "right" else 9
            axes.annotate(
                f"{value:.1f}", (value, i), (offset, 0), textcoords="offset points", ha=side, va="center", fontsize=8
            )
    axes.set_yticks(range(len(rows)), [row["prior"] for row in rows])
    axes.set(xlabel="nats per held-out digit: less is better", ylim=(-0.6, len(rows) - 0.4))
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)


def monitor(figure, source):
    """The KL of each latent dimension while two models train."""
    rows = read(source)
    betas = list(dict.fromkeys(row["beta"] for row in rows))
    names = [name for name in rows[0] if name.startswith("kl_")]
    panels = figure.subplots(1, len(betas), sharey=True)
    for place, beta in zip(panels, betas, strict=True):
        mine = [row for row in rows if row["beta"] == beta]
        steps = [int(row["step"]) for row in mine]
        kl = [[float(row[name]) for row in mine] for name in names]
        shown = place.imshow(
            kl, aspect="auto", cmap="cividis", vmin=0, vmax=2.5, extent=(0, steps[-1], len(names) - 0.5, -0.5)
        )
        active = mine[-1]["active_units"]
        place.set_title(f"beta = {float(beta):g}: {active} of {len(names)} active at the end", fontsize=9)
        place.set(xlabel="step", yticks=range(len(names)))
        place.grid(visible=False)
    panels[0].set_ylabel("latent dimension")
    figure.colorbar(shown, ax=panels, label="KL, nats", extend="max")


def scvi(figure, source):
    """The seconds of an epoch of SCVI with each loss."""
    axes, rows = figure.subplots(), read(source)
    names = {"vae_kernels": "vae_kernels, attached", "scvi": "scvi-tools' own loss"}
    medians = []
    for i, loss in enumerate(names):
        seconds = [float(row["seconds"]) for row in rows if row["loss"] == loss]
        colour = OURS if loss == "vae_kernels" else FOURTH
        medians.append(statistics.median(seconds))
        axes.barh(i, medians[-1], 0.5, color=colour)
        axes.plot(seconds, [i + 0.36] * len(seconds), "|", color=colour, markersize=7)
        axes.text(medians[-1] + 0.05, i - 0.02, f"{medians[-1]:.2f} s", va="center", color=colour, fontweight="bold")
    ours, theirs = medians
    row = rows[0]
    what = f"{int(row['cells']):,} simulated cells, {int(row['genes']):,} genes, {row['likelihood']}, scvi-tools"
    title = f"an epoch of SCVI: {theirs / ours:.1f} times faster\n{what} {row['scvi_tools']}, {row['threads']} threads"
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_yticks(range(len(names)), list(names.values()))
    axes.set(xlabel="seconds: the bar is the median, a tick is a turn", xlim=(0, 1.15 * theirs))
    axes.grid(axis="y", visible=False)
    axes.spines[["top", "right"]].set_visible(False)


HERE = Path(__file__)
# name: (function, source, height in inches)
PICTURES = {
    "controls": (controls, HERE, 3.4),
    "likelihoods": (likelihoods, HERE, 4.6),
    "priors": (priors, RESULTS / "priors" / "digits.csv", 2.4),
    "monitor": (monitor, RESULTS / "monitor" / "digits.csv", 2.8),
    "scvi": (scvi, RESULTS / "scvi" / "epochs.csv", 2.0),
}
# A terminal of rich: {...} are filled by rich. Unlike rich's own, it loads no font from the web.
TERMINAL = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<desc>made by python -m bench.pictures from SOURCE</desc>
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def terminal(columns):
    """`vae-kernels audit` of my_loss, as a terminal of so many columns shows it: the text of an SVG."""
    result = vk.audit(my_loss, audit.drawn("16x784/20"))
    settings = {"force_terminal": True, "color_system": "truecolor", "markup": False, "highlight": False}
    console = Console(record=True, file=io.StringIO(), width=columns, soft_wrap=True, emoji=False, **settings)
    console.print("$ vae-kernels audit losses.py:my_loss", style="dim")
    audit.show(result, console)
    console.print()  # room for the descenders of the last line
    made = TERMINAL.replace("SOURCE", f"{HERE.name} {digest(HERE)}")
    return console.export_svg(title="", theme=MONOKAI, code_format=made, unique_id="audit")


def main():
    for name, (function, source, height) in PICTURES.items():
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(6, height), layout="constrained")
            function(figure, source)
            save(figure, FOLDER / f"{name}.svg", source, "bench.pictures")
    (FOLDER / "audit.svg").write_text(terminal(72), encoding="utf-8")


if __name__ == "__main__":
    main()
