"""The figures of numbers in a diagnosis. Each function draws on the axes that it gets."""

import math

import torch
from matplotlib.ticker import MaxNLocator

from ..monitor import ACTIVE
from .ink import BLUE, GREEN, GREY, INK, ORANGE, SVG, WIDTH, axes, svg, tip
from .maps import latent, project
from .quantities import at_limit
from .tiles import pictures, reconstructions, tiles, traversals
from .verdicts import BIT

# The names of other files of this folder that a user of the figures needs
__all__ = ["SVG", "WIDTH", "axes", "latent", "pictures", "project", "reconstructions", "svg", "tiles", "traversals"]

MOST_BARS = 200
MOST_LABELS = 16
SMALL = 9.5  # the smallest text, in points
LEAST = 1.0  # nats: no axis of a KL ends below this, so that a KL of nothing looks like nothing


def spectrum(axes, measures, top=None):
    """Bars: the KL of each latent dim, the largest first. A prior without a KL by dim gets the spread of the mean.

    top: the end of the axis, which several figures may share; None: that of these bars, and at least one nat.
    """
    kl = measures.kl_per_dim
    values = measures.spread if kl is None else kl
    order = values.argsort(descending=True)[:MOST_BARS]
    active = (measures.spread > ACTIVE)[order].tolist()
    heights = values[order].tolist()
    top = max(LEAST, 1.1 * max(heights)) if top is None else top
    name = "variance of the posterior mean / prior's" if kl is None else "KL, nats"
    for i, (height, is_active, dim) in enumerate(zip(heights, active, order.tolist(), strict=True)):
        style = {"color": BLUE} if is_active else {"color": ORANGE, "hatch": "///", "fill": False}
        (bar,) = axes.bar(i, height, width=0.85, **style)
        state = "active" if is_active else "not active"
        tip(bar, f"latent {dim}: {height:.4g}{'' if kl is None else ' nats'}, {state}")
        if not is_active:
            axes.plot(i, 0, marker="x", color=ORANGE, markersize=6, markeredgewidth=1.8, clip_on=False, zorder=5)
    said = f"{measures.active_units} of {measures.latents} active"
    if kl is not None:
        said = f"total {values.sum().item():.2f} nats, {said}"
        if top < 12 * BIT:  # else the line is at the edge
            one_bit(axes, "one bit: a collapse if all latents together have less")
    axes.set_title(said, fontsize=11, loc="left")
    first = f"the first {MOST_BARS} latents" if len(values) > MOST_BARS else "latent"
    marks = "" if all(active) else "; x: not active"
    axes.set(xlabel=f"{first}, the largest first{marks}", ylabel=name, ylim=(-0.06 * top, top))
    axes.axhline(0, color=INK, linewidth=0.8)
    if len(order) <= MOST_LABELS:
        axes.set_xticks(range(len(order)), [str(i) for i in order.tolist()], fontsize=SMALL)
    else:
        axes.set_xticks([])


def one_bit(axes, meaning):
    """The threshold of a collapse, with its name beside the axes."""
    tip(axes.axhline(BIT, color=INK, linestyle="--", linewidth=1.2), meaning)
    axes.text(1.01, BIT, "one\nbit", transform=axes.get_yaxis_transform(), ha="left", va="center", fontsize=SMALL)


def rate_distortion(axes, measures, path=()):
    """The model on the plane of rate and distortion, with the line of the same ELBO and the line of log p(x).

    log p(x) is known for a part of the samples. So its line has the distance of log p(x) to the ELBO of this part.
    I(x; z) is a line only where it is an estimate, and no bound.
    path: (rate, distortion) of the held-out data after each epoch of the training, or ().
    """
    kl, nll = measures.kl, measures.nll
    rates = [kl, *(rate for rate, _ in path)]
    nlls = [nll, *(distortion for _, distortion in path)]
    reach = max(1.3 * max(rates), LEAST)
    span = max(max(nlls) - min(nlls), reach)
    low, high = min(nlls) - 0.35 * span, max(nlls) + 0.2 * span
    ends = torch.tensor([0.0, reach])
    _line(axes, ends, nll + kl - ends, (low, high), "same ELBO", "right", color=GREY)
    if measures.log_p is not None:
        name = "log p(x), at least" if measures.log_p.bound else "log p(x)"
        _line(axes, ends, nll + kl - measures.log_p.gap - ends, (low, high), name, "left", color=GREEN, linestyle="--")
    if measures.beta is not None and abs(measures.beta - 1) > 1e-3 and measures.beta > 0:
        name = f"same loss, beta {measures.beta:.3g}"
        _line(axes, ends, nll + measures.beta * (kl - ends), (low, high), name, "left", color=ORANGE, linestyle="-.")
    if not at_limit(measures):
        axes.axvline(measures.information, color=GREY, linestyle=":")
        middle = (low + high) / 2
        axes.text(measures.information, middle, " I(x; z)", ha="left", va="center", color=GREY, fontsize=SMALL)
    if len(path) > 1:
        axes.plot(rates[1:], nlls[1:], color=BLUE, linewidth=1.2, alpha=0.7)
        for epoch, (rate, distortion) in enumerate(path, 1):
            (dot,) = axes.plot(rate, distortion, marker=".", color=BLUE, markersize=5)
            tip(dot, f"epoch {epoch}: rate {rate:.2f}, distortion {distortion:.2f} nats")
        axes.annotate("epoch 1", path[0], xytext=(7, 0), textcoords="offset points", color=BLUE, fontsize=SMALL)
    (dot,) = axes.plot([kl], [nll], "o", color=BLUE, markersize=10, markeredgecolor=INK)
    tip(dot, f"this model: rate {kl:.2f}, distortion {nll:.2f} nats")
    axes.annotate("this model", (kl, nll), xytext=(4, 9), textcoords="offset points", weight="bold", fontsize=10)
    better(axes)
    axes.set(xlabel="rate, nats", ylabel="distortion, nats", xlim=(0, reach), ylim=(low, high))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(alpha=0.25)


def better(axes):
    """An arrow to the lower left: at a lower rate and a lower distortion."""
    arrow = {"arrowstyle": "-|>", "color": INK}
    axes.annotate("", (0.86, 0.86), xytext=(0.97, 0.97), xycoords="axes fraction", arrowprops=arrow)
    axes.text(0.85, 0.85, "better", transform=axes.transAxes, fontsize=SMALL, ha="right", va="top")


def _line(axes, x, y, limits, name, side, **style):
    """A falling line, with its name above the line, or below the line (side "left")."""
    low, high = limits
    (a, b), (top, bottom) = x.tolist(), y.tolist()
    slope = (bottom - top) / (b - a)
    axes.plot([a, b], [top, bottom], label=name, **style)
    first, last = max(a, a + (high - top) / slope), min(b, a + (low - top) / slope)  # where the line is to be seen
    flat = abs(slope) * (last - first) < 0.3 * (high - low)
    below = side == "left" and (flat or first + 0.3 * (last - first) > a + 0.25 * (b - a))
    at = first + (0.3 if flat or below else 0.6) * (last - first)
    away = {"ha": "right" if below and not flat else "left", "va": "top" if below else "bottom"}
    offset = (-4, -3) if below and not flat else (4, -7) if below else (4, 3)
    place, color = (at, top + slope * (at - a)), style["color"]
    said = axes.annotate(name, place, offset, textcoords="offset points", color=color, fontsize=SMALL, **away)
    said.set_in_layout(False)  # a name that is outside must not make the axes small


def losses(axes, curves):
    """-ELBO of train and held-out data after each epoch."""
    epochs = range(1, 1 + len(curves["test_neg_elbo_nats"]))
    lines = (("train_neg_elbo_nats", "train", ORANGE, "--"), ("test_neg_elbo_nats", "held out", BLUE, "-"))
    for column, name, color, style in lines:
        _curve(axes, epochs, curves[column], name, color=color, linestyle=style)
    late = [v for column, *_ in lines for v in curves[column][len(epochs) // 20 :] if math.isfinite(v)]
    if late and max(late) > min(late):  # leave out the first epochs: their large values would flatten the curve
        margin = 0.06 * (max(late) - min(late))
        axes.set_ylim(min(late) - margin, max(late) + margin)
    _of_epochs(axes, "-ELBO, nats")
    axes.legend(frameon=False)


def rates(axes, curves):
    """The KL after each epoch, on an axis from 0 to one nat at least."""
    values = curves["test_kl_nats"]
    _curve(axes, range(1, 1 + len(values)), values, "KL", color=GREEN)
    top = max(LEAST, 1.1 * max(v for v in values if math.isfinite(v)))
    one_bit(axes, "one bit: less is a collapse")
    _of_epochs(axes, "KL, nats")
    axes.set_ylim(0, top)


def distortions(axes, curves):
    """The reconstruction term after each epoch."""
    values = curves["test_reconstruction_nats"]
    _curve(axes, range(1, 1 + len(values)), values, "reconstruction", color=ORANGE)
    _of_epochs(axes, "reconstruction, nats")


def active(axes, curves, latents):
    """The active latents after each epoch. Zero is above the lower edge, so that it can be seen."""
    values = curves["active_units"]
    _curve(axes, range(1, 1 + len(values)), values, "active latents", color=BLUE, linewidth=2.5)
    _of_epochs(axes, f"active latents, of {latents}")
    axes.set_ylim(-0.06 * latents, 1.06 * latents)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axhline(latents, color=GREY, linewidth=0.8, linestyle=":")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= latents])


def _curve(axes, epochs, values, name, **style):
    mark = "o" if len(values) < 15 else None
    (line,) = axes.plot(epochs, values, label=name, marker=mark, markersize=4, **style)
    tip(line, f"{name}: {values[-1]:.4g} after epoch {len(values)}")


def _of_epochs(axes, name):
    axes.set(xlabel="epoch", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.25)


def dims(axes, rows):
    """The KL of each latent after each epoch: a line of cells for each latent. rows: {epoch: the KL of each [L]}; an
    epoch that is not there stays empty."""
    first, last = min(rows), max(rows)
    nothing = [math.nan] * len(rows[first])
    values = torch.tensor([rows.get(epoch, nothing) for epoch in range(first, last + 1)]).T
    order = values[:, -1].argsort(descending=True)[:MOST_BARS]
    box = (first - 0.5, last + 0.5, len(order) - 0.5, -0.5)
    top = max(LEAST, values.nan_to_num(0.0).max().item())
    style = {"aspect": "auto", "cmap": "cividis", "vmin": 0, "vmax": top, "interpolation": "nearest"}
    cells = axes.imshow(values[order].numpy(), extent=box, **style)
    axes.figure.colorbar(cells, ax=axes, label="KL, nats")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="latent")
    if len(order) <= MOST_LABELS:
        axes.set_yticks(range(len(order)), [str(i) for i in order.tolist()], fontsize=SMALL)
    else:
        axes.set_yticks([])
