"""What the measures mean: one verdict a symptom, with its evidence, the likely cause, and the change to try.

The thresholds are ours and stand here in one place. The tests hold them against models whose exact optimum is known
(probabilistic PCA); they are not calibrated on deep models of several data sets and seeds yet.
"""

import math
from dataclasses import dataclass

BIT = math.log(2)
FITS = 2.0  # a factor of two in the variance, or in beta, is no illness
ILL = 10.0
TRIPS = (4.0, 25.0)  # round trips of the prior over those of data, in squared sigmas: twice as far off, five times
HOLE = (0.25, 1.0)  # nats of the aggregate posterior's moments, per latent
FIT = "fit the variance: obs_logvar as an nn.Parameter, or vk.controls.optimal_logvar"
DETAIL = (0.25, 0.1)  # of the energy of neighbouring differences


@dataclass(frozen=True)
class Verdict:
    """level: "healthy", "watch" or "ill"; cause and advice are "" where there is nothing to do."""

    symptom: str
    level: str
    evidence: str
    cause: str = ""
    advice: str = ""


def verdicts(m):
    """The verdicts on Measures."""
    found = [collapse(m), holes(m), rate(m), weight(m)]
    return found + [verdict for verdict in (variance(m), blur(m)) if verdict is not None]


def collapse(m):
    bound = math.log(m.samples)
    most = " (at its bound, log of the samples: it may be more)" if m.information > bound - 1 else ""
    evidence = (
        f"{m.active_units} of {m.latents} latents active; I(x; z) = {m.information:.2f} +- {m.error:.2f} nats{most}; "
        f"largest KL of a dim {m.kl_per_dim.max():.2f} nats"
    )
    if m.active_units and m.information - 2 * m.error > BIT:
        return Verdict("posterior collapse", "healthy", evidence)
    if m.beta is not None and m.beta > FITS:
        cause = f"the KL outweighs the likelihood: beta / rec_weight is {m.beta:.3g}"
        advice = "lower beta; with a Gaussian, beta = 1 and a variance that is fitted"
    elif m.square_ratio is not None and m.square_ratio < 1 / FITS:
        cause = "the variance is so large that what z could explain passes for noise"
        advice = FIT
    else:
        cause = "the decoder does without z, or the data have no more structure than this"
        advice = "vk.controls.LinearWarmup for beta, vk.controls.free_bits, or a weaker decoder"
    level = "ill" if not m.active_units or m.information + 2 * m.error < BIT else "watch"
    return Verdict("posterior collapse", level, evidence, cause, advice)


def holes(m):
    name = "holes in the latent space"
    per_latent = m.aggregate_kl / m.latents
    ratio = m.round_trip_prior / max(m.round_trip_data, 1.0)
    prior, data = math.sqrt(m.round_trip_prior), math.sqrt(m.round_trip_data)
    evidence = (
        f"the aggregate posterior's moments are {m.aggregate_kl:.2f} nats from the prior; decoded and encoded again, z "
        f"is off by {prior:.2f} sigmas if it is the prior's, {data:.2f} if it is data's"
    )
    level = worst(_above(per_latent, HOLE), _above(ratio, TRIPS))
    if level == "healthy":
        return Verdict(name, level, evidence)
    cause = "data fill another region of z than the prior, so samples are decoded from where nothing was trained"
    return Verdict(
        "holes in the latent space", level, evidence, cause, "raise beta, or train the prior: prior=(mu, logvar)"
    )


def rate(m):
    gap = m.kl - m.information
    evidence = f"rate {m.kl:.2f} nats, distortion {m.nll:.2f} nats, -ELBO {m.kl + m.nll:.2f}"
    if m.information < math.log(m.samples) - 1:
        evidence += f"; of the rate {max(gap, 0):.2f} nats tell nothing of x"
    if m.kl < BIT:
        return Verdict(
            "rate and distortion", "ill", evidence, "less than a bit a sample is sent", "see posterior collapse"
        )
    return Verdict("rate and distortion", "healthy", evidence)


def weight(m):
    """beta over rec_weight; a variance that does not fit is another matter, and has its own verdict."""
    name = "effective beta"
    if m.beta is None:
        return Verdict(name, "healthy", "one for each dimension")
    evidence = f"beta / rec_weight = {m.beta:.3g}"
    level = "ill" if m.beta == 0 else _above(max(m.beta, 1 / m.beta), (FITS, ILL))
    if level == "healthy":
        return Verdict(name, level, evidence)
    cause = f"this is no -ELBO: a nat of the KL counts {m.beta:.3g} times one of the likelihood"
    return Verdict(name, level, evidence, cause, "beta = 1, unless it is meant; vk.audit says what a loss is")


def variance(m):
    if m.square_ratio is None:
        return None
    evidence = f"mean square of the residuals is {m.square_ratio:.3g} of the likelihood's variance"
    level = _above(max(m.square_ratio, 1 / m.square_ratio) if m.square_ratio else math.inf, (FITS, ILL))
    if level == "healthy":
        return Verdict("variance of the likelihood", level, evidence)
    cause = "the variance is too small: z is asked to explain noise"
    if m.square_ratio < 1:
        cause = "the variance is too large: noise is allowed that is not there, so z need not explain it"
    return Verdict("variance of the likelihood", level, evidence, cause, FIT)


def blur(m):
    if m.detail is None:
        return None
    evidence = f"neighbouring pixels of reconstructions differ with {m.detail:.0%} of the energy of the data's"
    level = _above(1 / m.detail if m.detail else math.inf, tuple(1 / d for d in DETAIL))
    if level == "healthy":
        return Verdict("blur", level, evidence)
    cause = "fine structure is taken for noise: too few nats reach the decoder, or the variance is too large"
    return Verdict("blur", level, evidence, cause, "lower beta, more latents, or a variance that is fitted")


def _above(value, thresholds):
    watch, ill = thresholds
    return "ill" if not value <= ill else "watch" if value > watch else "healthy"


def worst(*levels):
    return max(levels, key=("healthy", "watch", "ill").index)
