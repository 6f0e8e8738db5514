"""The one cause that explains the most symptoms, and what to try first.

For example, a model with beta = 30 has a collapsed posterior, a rate near 0, blurred pictures and a loss no better than
that of the mean. These are four symptoms of one cause. The tables of this file say which symptom explains which others.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from . import gauges
from .verdicts import Verdict

NOTHING_SENT = frozenset({"posterior collapse", "rate and distortion", "blur", "no better than the mean"})


class Story(NamedTuple):
    """title: what it is. sentence: what follows; "" for the cause that the verdict names. explains: the symptoms that
    follow, or None for all but those of settings."""

    title: str
    sentence: str = ""
    explains: frozenset[str] | None = frozenset()


FIRST = {
    "not finite": Story("a number of the model is not finite", explains=None),
    "data": Story("the data do not suit the likelihood", explains=None),
    "decoder output": Story("the output of the decoder is bounded", explains=None),
    "impossible values": Story("the loss has values that no likelihood can have", explains=None),
}
WIDE = Story(
    "the variance of the likelihood is too large",
    "The likelihood takes structure for noise, so the latents and the pictures lose detail.",
    NOTHING_SENT,
)
LEARNED = {
    "not converged": Story(
        "the training has ended too early",
        "The loss of held-out data still falls, so the other findings are on half a training.",
        None,
    ),
    "posterior collapse": Story(
        "the decoder does without the latents",
        "The latents carry little or nothing about x, so reconstructions are alike.",
        NOTHING_SENT,
    ),
    "overfit": Story(
        "the model knows the train data by heart",
        "Held-out data have a higher loss than train data.",
        frozenset({"no better than the mean", "holes in the latent space"}),
    ),
    "variance of the likelihood": Story(
        "the variance of the likelihood does not fit the residuals", explains=frozenset({"blur"})
    ),
    "holes in the latent space": Story(
        "the draws of the prior and the codes of the data lie apart",
        "Samples are decoded from codes that were never trained.",
    ),
    "no better than the mean": Story(
        "the model knows no more than the mean of the data",
        "A model that gives each x the same distribution has no higher loss.",
    ),
    "rate and distortion": Story("the latents carry less than one bit"),
    "blur": Story("the reconstructions lack the detail of the data"),
    "data": Story("the data do not suit the likelihood"),
}


@dataclass(frozen=True)
class Cause:
    """The one cause that explains the most symptoms.

    level: "healthy", "watch" or "ill".
    title, sentence: what the cause is, and what follows from the cause.
    symptom: the symptom whose verdict names the cause; "" if nothing was found.
    explains: the other symptoms that have this cause.
    advice, change: what to try first, as in a Verdict.
    """

    level: str
    title: str
    sentence: str
    symptom: str = ""
    explains: tuple[str, ...] = ()
    advice: str = ""
    change: dict = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The change as a line of Python; "" if the advice is no setting."""
        if not self.change:
            return ""
        settings = [f"{key}={_python(value)}" for key, value in self.change.items()]
        if "obs_logvar" in self.change:
            settings.insert(0, 'likelihood="gaussian"')
        return f"vk.VAE(encoder, decoder, {', '.join(settings)})"


def common(verdicts: list[Verdict]) -> Cause:
    """The Cause of a list of verdicts."""
    sick = {v.symptom: v for v in verdicts if v.level != "healthy"}
    worst = max((v.level for v in sick.values()), key=gauges.LEVELS.index, default="healthy")
    for verdict, story in _candidates(sick):
        cause = _cause(verdict, story, sick)
        if cause.level == worst:
            return cause
    sentence = "The doctor has found no symptom. Look at the samples too: some faults have no number."
    return Cause("healthy", "no symptom was found", sentence)


def _cause(verdict, story, sick):
    """The Cause of a verdict. Its level is the worst of the verdict and of all that it explains."""
    settings = {s for s, v in sick.items() if s == "effective beta" or is_setting(v)}
    explained = sick.keys() - settings if story.explains is None else story.explains
    explains = tuple(s for s in sick if s in explained and s != verdict.symptom)
    level = max((sick[s].level for s in (verdict.symptom, *explains)), key=gauges.LEVELS.index)
    sentence = story.sentence or f"{verdict.cause[:1].upper()}{verdict.cause[1:]}."
    return Cause(level, story.title, sentence, verdict.symptom, explains, verdict.advice, verdict.change)


def _candidates(sick):
    """(verdict, Story) of everything that was found; what comes first is mended first."""
    for symptom, story in FIRST.items():
        if symptom in sick and sick[symptom].level == "ill":
            yield sick[symptom], story
    if "effective beta" in sick:
        yield sick["effective beta"], _of_beta(sick["effective beta"])
    variance = sick.get("variance of the likelihood")
    if variance is not None and is_setting(variance):
        yield variance, WIDE
    for symptom, story in LEARNED.items():
        if symptom in sick:
            yield sick[symptom], story


def is_setting(verdict: Verdict) -> bool:
    """Whether the verdict is on a variance that was set too large. Training does not correct such a variance."""
    of_variance = verdict.symptom == "variance of the likelihood" and bool(verdict.change)
    return of_variance and verdict.gauge is not None and verdict.gauge.value < 1


def _of_beta(verdict):
    """The Story of a beta that is not 1. If beta is far from 1, -ELBO is not what the training makes small."""
    beta = float(f"{verdict.gauge.value:.3g}")
    also = {"not converged", "overfit"} if verdict.level == "ill" else set()
    costs = f"A nat of the KL costs as much as {beta:g} nats of the likelihood, so"
    if beta > 1:
        sentence = f"{costs} the encoder sends little or nothing to the decoder."
        return Story(f"beta is {beta:g}: the KL outweighs the likelihood", sentence, NOTHING_SENT | also)
    sentence = f"{costs} the codes of the data leave the region of the prior, and samples are unlike data."
    of_low = frozenset({"holes in the latent space", "no better than the mean"})
    return Story(f"beta is {beta:g}: the KL hardly counts", sentence, of_low | also)


def _python(value):
    """A setting as Python."""
    if isinstance(value, torch.nn.Parameter):
        return f"torch.nn.Parameter(torch.tensor({value.item():.3g}))"
    return repr(value)
