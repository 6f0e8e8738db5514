"""The verdicts of the first look, on the facts of look.py. They stand before the verdicts on the latents.

The thresholds are our choice. examples/first_look_cases.py checks them on ill and healthy models of two data sets.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch

from ..core.support import MOST_RATE, ROUNDING, is_mass
from ..likelihoods import name_of
from . import gauges
from .look import Outputs, Values
from .verdicts import Verdict, above, worst

# Each pair is (the threshold of "watch", the threshold of "ill").
# Beyond 2^12 the squares of two columns are 2^24 apart, and float32 rounds the narrow column away.
SCALES = (1e3, 2.0**12)  # widest range / narrowest range of the columns
LARGE = 10.0  # a standard deviation of all values above this: the first layers see huge numbers
SMALL = 1e-2
DARK = 32  # the largest byte of images that have perhaps 4 bits and not 8
REACHED = 0.01  # a bounded output comes as close as this number to its bound
OUTSIDE = 0.01  # the share of the data that a bounded output cannot reach
STANDARDISE = "standardise each column first: (x - mean) / standard deviation"
FALLS = (0.05, 0.15)  # the fall of the last third of the epochs / (baseline - last)
LEAST = 0.05  # of the deviation of the baseline's nll: the scale of a loss that gains nothing
FEWEST = 3  # epochs
OVERFIT = (0.05, 0.25)  # (held-out - train) / (baseline - train)
ROSE = (0.02, 0.25)  # (last - best) / (baseline - best)


@dataclass(frozen=True)
class Losses:
    """-ELBO in nats of each sample, [N]: of the held-out data, of the data that the model was trained on, and of the
    trivial model on the held-out data. None: not known. history: -ELBO after each epoch, or ()."""

    held_out: torch.Tensor | None
    train: torch.Tensor | None
    baseline: torch.Tensor | None
    history: tuple[float, ...]

    def scale(self, loss: float) -> float:
        """What a loss gains over the trivial model. Changes are measured by this scale. If the loss gains nothing: a
        small share of the deviation of the trivial model's nll. 0 if the trivial model is not known."""
        if self.baseline is None:
            return 0.0
        return max(self.baseline.mean().item() - loss, LEAST * self.baseline.std().item())


def not_finite(broken, history):
    """The only verdict on the numbers of a model that is not finite."""
    since = ""
    if history:
        first = next((i for i, value in enumerate(history, 1) if not math.isfinite(value)), None)
        since = f"; the loss is not finite since epoch {first}" if first else "; the loss was finite after each epoch"
    cause = "a step was too large, a value of x is huge, or exp() of an output overflowed"
    advice = "scale the data first; then a smaller learning rate, or a bound on logvar; then train anew"
    return Verdict("not finite", "ill", broken + since, cause, advice)


def data(v: Values, one_variance):
    """x under this likelihood. one_variance: whether one variance serves all columns."""
    inside = v.below + v.above == 0 and not v.fractions
    evidence = f"values between {v.low:.4g} and {v.high:.4g}"
    if v.support is not None:
        evidence += f", expected {v.expected}"
    if not inside:
        parts = [
            (v.below, "below the support"),
            (v.above, "above the support"),
            (v.fractions, "no integers" if isinstance(v.support, str) else "at no level"),
        ]
        evidence += f"; {', '.join(f'{share:.2%} are {what}' for share, what in parts if share)}"
        cause = "this likelihood gives no probability to these values, so the loss is no -ELBO and may fall for ever"
        return Verdict("data", "ill", evidence, cause, _remedy(v))
    if v.largest_byte == 1:
        cause = "x is uint8 and holds only 0 and 1, which this likelihood reads as 0 and 1/255"
        return Verdict("data", "ill", evidence, cause, "give x.bool() or x.float(), which are read as they are")
    if v.largest_byte and v.largest_byte < DARK:
        cause = f"x is uint8 and at most {v.largest_byte}, but is read as x/255"
        advice = f"give x / {v.largest_byte} in floating point, if x is a part of this range"
        return Verdict("data", "watch", evidence, cause, advice)
    return _scales(v, evidence, one_variance)


def _scales(v, evidence, one_variance):
    if v.wide is not None and (ratio := v.wide.range / v.narrow.range) > SCALES[0]:
        evidence += f"; column {v.wide.number} has a range of {v.wide.range:.3g}, column {v.narrow.number} has "
        evidence += f"{v.narrow.range:.3g}"
        cause = "the loss is that of the wide columns, and the narrow columns are rounded away"
        level = above(ratio, SCALES) if one_variance else "watch"
        gauge = gauges.rising("widest range / narrowest range", ratio, f"{ratio:.3g}", SCALES)
        return Verdict("data", level, evidence, cause, STANDARDISE, gauge=gauge)
    if v.support is None and not SMALL <= v.spread <= LARGE:
        cause = f"all values together have a standard deviation of {v.spread:.3g}, and a network is made for about 1"
        advice = "divide x by 255" if v.low >= 0 and 2 < v.high <= 255 else "standardise x: (x - mean) / deviation"
        return Verdict("data", "watch", evidence, cause, advice)
    return Verdict("data", "healthy", evidence)


def _remedy(v):
    """How to bring x into the support."""
    if v.support == "counts":
        text = "give the counts as they were counted, without a logarithm or a normalisation"
        return text + "; or a Gaussian likelihood for the values as they are"
    if v.support == "levels":
        return "number the levels from 0 to K - 1; mask what is missing with weight="
    if v.fractions and not v.below + v.above:
        return "round x to the levels; or give the number of levels of x, as DiscretizedLogistic(levels=32)"
    if v.low >= 0 and 2 < v.high <= 255:
        return "divide x by 255, or give uint8"
    if v.low >= 0 and 255 < v.high <= 65535:
        return "divide x by 65535"
    if v.low >= -1 and v.high <= 1:
        return "(x + 1) / 2 if x was scaled to [-1, 1]; or a Gaussian likelihood"
    return "leave the normalisation out and give values in [0, 1]; or a Gaussian likelihood"


def decoder(o: Outputs, x: Values, likelihood):
    """The range of the decoder's first parameter. The output is bounded if it stays in a range for huge z too."""
    evidence = f"{o.name} is between {o.low:.3g} and {o.high:.3g}"
    end, low, high = bound(o)
    if not end or not _harms(o, x, low, high):
        return Verdict("decoder output", "healthy", evidence)
    place = f"within [{low:g}, {high:g}]" if math.isfinite(low + high) else ">= 0" if low == 0 else "<= 0"
    evidence += f", and {place} for z a hundred times as large"
    cause = f"the decoder ends in a {end}, and likelihood={name_of(likelihood)!r} {_takes(o.name)}"
    advice = f"take the {end} away: the decoder's last module is then a linear layer or a convolution"
    if o.name == "loc":
        advice += f"; or scale x to {place.removeprefix('within ')}"
    return Verdict("decoder output", "ill", evidence, cause, advice)


def bound(o: Outputs):
    """(the name of the last function, low, high) of a decoder whose output is bounded; ("", 0, 0) for any other."""
    low, high = min(o.low, o.far_low), max(o.high, o.far_high)
    if not o.reacts or low == high:
        return "", 0.0, 0.0
    near_0, near_1 = abs(low) <= REACHED, abs(high - 1) <= REACHED
    if low >= 0 and high <= 1 and (near_0 or near_1):
        return "sigmoid or softmax", 0.0, 1.0
    if low >= -1 and high <= 1 and (low <= REACHED - 1 or near_1):
        return "tanh", -1.0, 1.0
    if low >= 0 and near_0:
        return "ReLU, softplus or exp", 0.0, math.inf
    if high <= 0 and abs(high) <= REACHED:
        return "log-sigmoid or log-softmax", -math.inf, 0.0
    return "", 0.0, 0.0


def _harms(o, x, low, high):
    """Whether the bound keeps the model from the data."""
    if o.name == "loc":
        return x.low < low - OUTSIDE * (x.high - x.low) or x.high > high + OUTSIDE * (x.high - x.low)
    if o.levels is not None:
        return math.isfinite(high) and math.isfinite(low)  # a log-softmax before a softmax changes nothing
    return True


def _takes(name):
    if name == "loc":
        return "needs a loc that reaches the data"
    if name == "logits":
        return "takes logits, from -inf to inf"
    if name == "packed":
        return "takes numbers from -inf to inf for each pixel or column"
    return f"takes {name}, a logarithm, from -inf to inf"


def impossible(nll, kl, latents, likelihood):
    """None, or the verdict on values that no likelihood and no code can have. nll, kl: [N]."""
    found, least, rate = [], nll.min().item(), kl.mean().item()
    if is_mass(likelihood) and least < -ROUNDING:
        found.append(f"the nll of sample {int(nll.argmin())} is {least:.4g} nats, but a probability is at most 1")
    if rate > MOST_RATE * latents:
        found.append(f"the rate is {rate:.3g} nats for {latents} latents, but a float32 z holds 17 nats for each")
    if not found:
        return None
    cause = "the loss is computed for values that the likelihood or the encoder was not made for"
    advice = "scale x, and bound logvar; vk.fused_elbo(..., return_terms=True) shows nll and KL of each sample"
    return Verdict("impossible values", "ill", "; ".join(found), cause, advice)


def converged(losses: Losses):
    """Whether the held-out loss still falls. None without a history of at least three epochs."""
    h = losses.history
    if len(h) < FEWEST:
        return None
    if not all(map(math.isfinite, h)):
        first = next(i for i, value in enumerate(h, 1) if not math.isfinite(value))
        evidence = (
            f"the held-out -ELBO of epoch {first} is {h[first - 1]}, so it is not known whether the loss still falls"
        )
        return Verdict("not converged", "watch", evidence, "a step was too large", "a smaller learning rate")
    third = len(h) // 3
    few = max(1, third // 2)  # the mean of some epochs: one epoch is noise
    before, after = sum(h[-third - few : -third]) / few, sum(h[-few:]) / few
    evidence = f"-ELBO of held-out data went from {nats(before)} to {nats(after)} nats in the last {third} of "
    evidence += f"{len(h)} epochs"
    fall = before - after
    certain = fall > 2 * _noise(h[-third - few - 1 :]) * math.sqrt(2 / few)
    part = fall / (losses.scale(after) or max(h) - min(h) or 1.0)
    level, gauge = above(part, FALLS) if certain else "healthy", None
    if certain or part <= FALLS[0]:
        gauge = gauges.rising("last fall, of all that was gained", part, f"{part:.1%}", FALLS)
    if level == "healthy":
        return Verdict("not converged", level, evidence, gauge=gauge)
    cause = "the loss still falls, so the training has ended too early, and the other verdicts are on half a training"
    return Verdict("not converged", level, evidence, cause, "train longer, before anything else", gauge=gauge)


def _noise(losses):
    """The standard deviation of the noise in successive losses that fall or stay: that of the steps upwards."""
    ups = [max(0.0, after - before) for before, after in pairwise(losses)]
    return math.sqrt(sum(up * up for up in ups) / max(1, sum(up > 0 for up in ups)) / 2)


def against_the_mean(losses: Losses):
    """The model against the trivial model. None if the trivial model has no closed form here."""
    if losses.baseline is None or losses.held_out is None:
        return None
    gains = losses.baseline - losses.held_out
    gain, error = gains.mean().item(), standard_error(gains)
    own, trivial = (nats(t.mean().item()) for t in (losses.held_out, losses.baseline))
    evidence = f"-ELBO {own} nats; a model that knows only the mean of each feature has {trivial}, which is "
    evidence += f"{nats(abs(gain))} +- {nats(error)} {'more' if gain >= 0 else 'less'}"
    errors = gain / error if error > 0 else math.copysign(math.inf, gain)
    stops, levels = (-6.0, -2.0, 2.0, 6.0), gauges.LEVELS[::-1]
    gauge = gauges.Gauge("gain over the mean, in standard errors", errors, f"{errors:.1f}", stops, levels)
    if gain > 2 * error:
        return Verdict("no better than the mean", "healthy", evidence, gauge=gauge)
    level = "ill" if gain + 2 * error < 0 else "watch"
    cause = "the model is not trained, its loss is another one, or the data have no structure that it can use"
    advice = "first mend what else is ill here; then more epochs, or a larger learning rate"
    return Verdict("no better than the mean", level, evidence, cause, advice, gauge=gauge)


def overfit(losses: Losses):
    """Train against held-out data, and the rise of the held-out loss. None if neither is known."""
    held_out = losses.held_out
    if held_out is None or (losses.train is None and len(losses.history) < FEWEST):
        return None
    last, evidence, levels, found = held_out.mean().item(), [], ["healthy"], []
    if losses.train is not None:
        train = losses.train.mean().item()
        gap, error = last - train, math.hypot(standard_error(held_out), standard_error(losses.train))
        evidence.append(f"-ELBO is {nats(train)} nats on train data and {nats(last)} on held-out data")
        evidence[-1] += f": {gap:+.2f} +- {error:.2f}"
        if gap > 2 * error:
            part = gap / (losses.scale(train) or abs(train))
            found.append(gauges.rising("held-out loss above train loss, of the gain", part, f"{part:.1%}", OVERFIT))
            levels.append(above(part, OVERFIT))
    rise, best, epoch = _rise(losses.history)
    if rise > 0:
        evidence.append(f"the held-out -ELBO was {nats(best)} after epoch {epoch} and has risen by {nats(rise)} since")
        part = rise / (losses.scale(best) or abs(best))
        found.append(gauges.rising("rise since the best epoch, of the gain", part, f"{part:.1%}", ROSE))
        levels.append(above(part, ROSE))
    level = worst(*levels)
    gauge = max(found, key=lambda g: g.place, default=None)
    if not evidence:
        return Verdict("overfit", "healthy", "the held-out -ELBO is lowest after the last epoch")
    if level == "healthy":
        return Verdict("overfit", level, "; ".join(evidence), gauge=gauge)
    cause = "the model knows the train data by heart"
    advice = "more data, a smaller model, or stop at the best epoch"
    return Verdict("overfit", level, "; ".join(evidence), cause, advice, gauge=gauge)


def _rise(history):
    """(last - lowest, the lowest, its epoch from 1) of the held-out loss; (0, ...) without a history."""
    if len(history) < FEWEST or not all(map(math.isfinite, history)):
        return 0.0, math.nan, 0
    best = min(history)
    return history[-1] - best, best, history.index(best) + 1


def nats(value):
    return f"{value:.2f}" if abs(value) < 1e6 else f"{value:.3g}"


def standard_error(values):
    return (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else math.inf
