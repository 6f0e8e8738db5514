"""The words for a symptom, for people who see a report for the first time: a name, and one sentence for each level."""

from .gauges import LEVELS
from .verdicts import Verdict

FOUND = {"healthy": "not found", "watch": "suspected", "ill": "found"}
NAMES = {
    "data": "unsuitable data",
    "decoder output": "bounded decoder",
    "not finite": "numbers not finite",
    "rate and distortion": "rate under one bit",
    "effective beta": "beta far from 1",
    "variance of the likelihood": "wrong variance",
}
# symptom: the sentences for healthy, watch and ill
SENTENCES = {
    "not finite": ("All numbers are finite.", "", "A number of the model is NaN or infinite."),
    "data": (
        "The values of x suit the likelihood.",
        "The likelihood takes the values of x, but their scale is unusual.",
        "The likelihood does not take x as x is.",
    ),
    "decoder output": (
        "The decoder reaches every value that the likelihood needs.",
        "",
        "The decoder ends in a function that keeps its output in a range, and the likelihood needs more.",
    ),
    "impossible values": ("", "", "The loss has values that no likelihood and no code can have."),
    "not converged": (
        "The loss of held-out data no longer falls.",
        "The loss of held-out data may still fall.",
        "The loss of held-out data still falls.",
    ),
    "no better than the mean": (
        "The model knows more than the mean of each feature.",
        "The model is hardly better than the mean of each feature.",
        "The model is worse than the mean of each feature.",
    ),
    "overfit": (
        "Held-out data have about the loss of train data.",
        "Held-out data have a higher loss than train data, or their loss has begun to rise.",
        "Held-out data have a far higher loss than train data, or their loss has risen far.",
    ),
    "posterior collapse": (
        "The latents carry information about x.",
        "The latents carry about one bit of x, or only a little more.",
        "The latents carry less than one bit about x: the decoder does without them.",
    ),
    "holes in the latent space": (
        "The codes of the data fill the region of the prior, as far as the numbers show.",
        "The codes of the data and the draws of the prior differ, so some samples may be unlike data.",
        "The codes of the data and the draws of the prior lie apart, so samples are unlike data.",
    ),
    "rate and distortion": (
        "The posterior of a sample differs from the prior by more than one bit.",
        "",
        "The posterior of a sample is nearly the prior.",
    ),
    "effective beta": (
        "The loss is -ELBO, or near to -ELBO.",
        "The KL and the likelihood do not count alike.",
        "The KL and the likelihood do not count alike by far: the loss is no -ELBO.",
    ),
    "variance of the likelihood": (
        "The variance of the likelihood is that of the residuals.",
        "The variance of the likelihood is some times too large or too small.",
        "The variance of the likelihood is many times too large or too small.",
    ),
    "blur": (
        "The reconstructions have much of the data's detail.",
        "The reconstructions have little of the data's detail.",
        "The reconstructions have hardly any of the data's detail.",
    ),
}


def name(symptom: str) -> str:
    """The symptom as the name of an illness, which is found or not found."""
    return NAMES.get(symptom, symptom)


def sentence(verdict: Verdict) -> str:
    """One sentence without a number."""
    if not_judged(verdict):
        return f"{verdict.evidence[:1].upper()}{verdict.evidence[1:]}."
    return SENTENCES[verdict.symptom][LEVELS.index(verdict.level)]


def not_judged(verdict: Verdict) -> bool:
    """Whether something else must be mended first, or too few samples were given."""
    return verdict.evidence.startswith("not judged") or verdict.evidence.endswith("too few to judge")


def found(verdict: Verdict) -> str:
    return "not judged" if not_judged(verdict) else FOUND[verdict.level]


def by_level(verdicts: list[Verdict]) -> list[Verdict]:
    """The worst first; verdicts of one level keep their order."""
    return sorted(verdicts, key=lambda v: -LEVELS.index(v.level))
