"""Judges the measures: one verdict for each symptom, with its evidence, the likely cause, and the change to try.

We chose the thresholds, and all thresholds of these symptoms are in this file. The tests check the thresholds on models
whose exact optimum is known (probabilistic PCA). examples/doctor_cases.py checks them on small models of digits,
healthy and ill, with three seeds each.
"""

import math
from dataclasses import dataclass, field

import torch

from . import gauges, quantities
from .gauges import Gauge

BIT = math.log(2)
# Each pair is (the threshold of "watch", the threshold of "ill").
FITS = 2.0  # a variance or a beta that is wrong by less than this factor is healthy
ILL = 10.0  # ... and by more than this factor is ill
TRIPS = (4.0, 25.0)  # prior's round trip / data's, in squared sigmas: twice the distance, five times the distance
HOLE = (0.25, 1.0)  # aggregate_kl in nats, for each latent
THIN = (0.15, 0.95)  # hole_share: three times the 5 % of a model without holes, nearly all
UNLIKE = (0.15, 0.95)  # samples unlike data: three times the 5 % of a model without holes, nearly all
ENOUGH = 200  # samples: with fewer, the quantiles and moments behind the verdict on holes are noise
DETAIL = (0.25, 0.1)  # the share of the detail that is left
OWN = 2.0  # reconstructions with this times the detail that they share with the data have detail of their own
FREE = 0.25  # nats a dim, the first value to try: Kingma et al. 2016, arXiv:1606.04934, use 0.125 to 2 for a group
FIT = "fit the variance: obs_logvar as an nn.Parameter, or vk.controls.optimal_logvar"
EVEN = {"beta": 1.0, "rec_weight": 1.0}


@dataclass(frozen=True)
class Verdict:
    """The judgement of one symptom.

    level: "healthy", "watch" or "ill".
    cause, advice: the likely cause, and what to do; "" if there is nothing to do.
    change: the settings that the advice suggests first, as keyword arguments of a VAE; {} if the advice is no setting.
    gauge: the number that decided, between its thresholds; None if no single number decided.
    """

    symptom: str
    level: str
    evidence: str
    cause: str = ""
    advice: str = ""
    change: dict = field(default_factory=dict)
    gauge: Gauge | None = None


def verdicts(m):
    """The verdicts on Measures."""
    found = [collapse(m), holes(m), rate(m), weight(m.beta)]
    return found + [verdict for verdict in (variance(m), blur(m)) if verdict is not None]


def alarm(kl, active_units, beta, loss=None, known=None):
    """A sentence about the first symptom that is certainly ill, or "". A training knows the first three arguments at
    each step. loss, known: -ELBO of held-out data, and that of the data's mean; None if one of them is not known.

    I(x; z) is at most the KL. So a KL below one bit is a collapse, for every encoder.
    """
    if not active_units or kl < BIT:
        return f"posterior collapse: {active_units} latents active, KL {kl:.2f} nats"
    if _off(beta) == "ill":
        return f"effective beta is {beta:.3g}"
    if loss is not None and known is not None and loss >= known:
        return f"no better than the mean of each feature, which has -ELBO {known:.2f}"
    return ""


def collapse(m):
    name = "posterior collapse"
    evidence = f"{quantities.active(m)} latents active; I(x; z) {quantities.information(m)}"
    if m.kl_per_dim is not None:
        evidence += f"; largest KL of a dim {m.kl_per_dim.max():.2f} nats"
    evidence += of_observed(m, "; z was encoded from {} of x")
    text = f"{'>= ' if quantities.at_limit(m) else ''}{m.information:.2f}"
    gauge = gauges.least("I(x; z), nats", m.information, text, BIT)
    if m.active_units and m.information - 2 * m.error > BIT:
        return Verdict(name, "healthy", evidence, gauge=gauge)
    change = {}
    if m.beta is not None and m.beta > FITS:
        cause = f"the KL outweighs the likelihood: beta / rec_weight is {m.beta:.3g}"
        advice, change = "lower beta; with a Gaussian, beta = 1 and a variance that is fitted", EVEN
    elif m.square_ratio is not None and m.square_ratio < 1 / FITS:
        cause = "the variance is so large that the likelihood takes structure, which z could explain, for noise"
        advice, change = _fit(m)
    else:
        cause = "the decoder does without z, or the data have no more structure than this"
        if m.autoregressive:
            cause = "the decoder reads x and does without z"
        advice = "vk.controls.LinearWarmup for beta, or a weaker decoder"
        if not m.free_bits:
            advice, change = f'free_bits=({FREE}, "per_dim"), {advice}', {"free_bits": (FREE, "per_dim")}
    level = "ill" if not m.active_units or m.information + 2 * m.error < BIT else "watch"
    return Verdict(name, level, evidence, cause, advice, change, gauge)


def holes(m):
    name = "holes in the latent space"
    if m.samples < ENOUGH:
        evidence = f"{m.samples} samples are too few to judge"
        return Verdict(name, "watch", evidence, "the verdict compares two clouds of points", f"give {ENOUGH} samples")
    evidence = (
        f"the aggregate posterior's moments are {m.aggregate_kl:.2f} nats from the prior's; "
        f"{quantities.share(m.hole_share)} of the prior's draws lie where data's codes are rare (5% without holes)"
    )
    each = m.aggregate_kl / m.latents
    found = [
        gauges.rising("KL of the moments, nats for each latent", each, f"{each:.2f}", HOLE),
        gauges.rising("prior's draws where codes are rare", m.hole_share, quantities.share(m.hole_share), THIN),
    ]
    if m.round_trip_prior is not None:
        prior, data = map(quantities.sigmas, (m.round_trip_prior, m.round_trip_data))
        evidence += (
            f"; {quantities.share(m.unlike)} of the samples are unlike data: encoded and decoded again, they change "
            f"more than 95% of the reconstructions do (5% without holes); this round trip puts the prior's z off by "
            f"{prior}, data's z by {data}"
        )
        trips = m.round_trip_prior / max(m.round_trip_data, 1.0)
        found.append(gauges.rising("round trip of the prior's z / of data's, squared", trips, f"{trips:.3g}", TRIPS))
        found.append(gauges.rising("samples unlike data", m.unlike, quantities.share(m.unlike), UNLIKE))
    gauge = max(found, key=lambda g: (gauges.LEVELS.index(g.level), g.place))
    level = gauge.level
    if level == "healthy":
        return Verdict(name, level, evidence, gauge=gauge)
    cause = "the data's z fill another region than the prior's z, so samples are decoded from z that were never trained"
    low = m.beta is not None and m.beta < 1 / FITS
    advice = "a richer one of vk.priors" if m.trained_prior else "train the prior: prior=(mu, logvar), or vk.priors"
    advice = f"raise beta to 1, or {advice}" if low else advice
    return Verdict(name, level, evidence, cause, advice, EVEN if low else {}, gauge)


def rate(m):
    name = "rate and distortion"
    evidence = (
        f"rate {quantities.rate(m)}, distortion {quantities.distortion(m)}, -ELBO {quantities.minus_elbo(m)}"
        f"{of_observed(m, ', of the observed {} of x')}"
    )
    if not quantities.at_limit(m):
        evidence += f"; {max(m.kl - m.information, 0):.2f} nats of the rate carry no information about x"
    if m.log_p is not None:
        of = f"; log p(x) - ELBO of the same {m.log_p.samples} samples {quantities.gap(m.log_p)}"
        evidence += f"; log p(x) {quantities.log_p(m.log_p)}{of}"
    if m.grey:
        evidence += f"; {quantities.grey(m.grey)}"
    gauge = gauges.least("rate, nats", m.kl, f"{m.kl:.2f}", BIT)
    if m.kl < BIT:
        cause = "z carries less than one bit for each sample"
        return Verdict(name, "ill", evidence, cause, "see posterior collapse", gauge=gauge)
    return Verdict(name, "healthy", evidence, gauge=gauge)


def weight(beta):
    """The verdict on beta / rec_weight. A variance that does not fit has a verdict of its own."""
    name = "effective beta"
    if beta is None:
        return Verdict(name, "healthy", "one for each dimension")
    evidence = f"beta / rec_weight = {beta:.3g}"
    level, gauge = _off(beta), gauges.ratio("beta / rec_weight", beta, (FITS, ILL))
    if level == "healthy":
        return Verdict(name, level, evidence, gauge=gauge)
    cause = f"this is no -ELBO: a nat of the KL counts {beta:.3g} times one of the likelihood"
    advice = "beta = 1, unless another beta is meant; vk.audit says what a loss is"
    return Verdict(name, level, evidence, cause, advice, EVEN, gauge)


def variance(m):
    name = "variance of the likelihood"
    if m.square_ratio is None:
        return None
    evidence = f"mean square of the residuals is {m.square_ratio:.3g} of the likelihood's variance"
    evidence += of_observed(m, ", over the observed {} of x")
    level, gauge = _off(m.square_ratio), gauges.ratio("residuals, in variances", m.square_ratio, (FITS, ILL))
    if level == "healthy":
        return Verdict(name, level, evidence, gauge=gauge)
    cause = "the variance is too small: z is asked to explain noise"
    if m.square_ratio < 1:
        cause = "the variance is too large: the likelihood allows more noise than there is, so z explains less"
    advice, change = _fit(m)
    return Verdict(name, level, evidence, cause, advice, change, gauge)


def blur(m):
    if m.detail is None:
        return None
    evidence = (
        f"{quantities.share(m.detail)} of the data's detail is in the reconstructions: energy of the differences of "
        "neighbouring pixels, as far as it correlates with the data's"
    )
    evidence += of_observed(m, ", where both neighbours are observed ({} of x is)")
    own = m.sharpness > OWN * m.detail and m.sharpness > DETAIL[0]
    if own:
        evidence += f"; all their detail has {quantities.share(m.sharpness)} of the data's energy"
    level = above(1 / m.detail if m.detail else math.inf, tuple(1 / d for d in DETAIL))
    gauge = gauges.falling("detail that is left", m.detail, quantities.share(m.detail), DETAIL, 1.0)
    if level == "healthy":
        return Verdict("blur", level, evidence, gauge=gauge)
    cause = "the model takes fine structure for noise: too few nats reach the decoder, or the variance is too large"
    if own:
        cause = "the reconstructions have detail, but it is not the data's: noise, or the texture of other samples"
    advice = ["lower beta to 1"] if m.beta is not None and m.beta > 1 else []
    advice += ["fit the variance"] if m.fixed_variance else []
    advice = ", or ".join([*advice, "more latents or a larger decoder"])
    return Verdict("blur", level, evidence, cause, advice, gauge=gauge)


def of_observed(m, text):
    """The text with the share of x that is observed; "" without a mask."""
    return "" if m.observed is None else text.format(f"{m.observed:.1%}")


def _fit(m):
    """(advice, change) for a variance that does not fit. A variance that is a constant becomes a Parameter that starts
    at the variance of the residuals. A variance that is trained already has not arrived."""
    if m.fixed_variance:
        start = {"obs_logvar": torch.nn.Parameter(torch.tensor(math.log(m.residual)))} if m.residual else {}
        return FIT, start
    if m.square_ratio > 1:
        return "the variance is trained already: compare train and held-out data, as an overfit has this sign too", {}
    return "the variance is trained already: train longer, or give its parameter a larger learning rate", {}


def _off(ratio):
    """The level of a ratio that should be 1."""
    return above(max(ratio, 1 / ratio) if ratio else math.inf, (FITS, ILL))


def above(value, thresholds):
    watch, ill = thresholds
    return "ill" if not value <= ill else "watch" if value > watch else "healthy"


def worst(*levels):
    return max(levels, key=("healthy", "watch", "ill").index)
