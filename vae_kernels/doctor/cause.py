"""The one cause that explains most of what was found, and what to try first.

A model with beta = 30 has a collapsed posterior, a rate of nothing, blurred pictures and a loss no better than that of
the mean: four symptoms of one cause. causes() of this file says which verdict names the cause, and which it explains.
"""

from dataclasses import dataclass, field

import torch

from . import gauges
from .verdicts import Verdict

FIRST = ("not finite", "data", "decoder output", "impossible values")
NOTHING_SENT = {"posterior collapse", "rate and distortion", "blur", "no better than the mean"}
# symptom: (title, what follows from it, the symptoms that it explains). An earlier symptom explains a later one.
OF_DATA = {
    "not finite": "a number of the model is not finite",
    "data": "the data do not suit the likelihood",
    "decoder output": "the output of the decoder is bounded",
    "impossible values": "the loss has values that no likelihood can have",
}
LEARNED = {
    "not converged": (
        "the training has ended too early",
        "The loss of held-out data still falls, so the other findings are on half a training.",
        None,  # all others
    ),
    "posterior collapse": (
        "the decoder does without the latents",
        "The latents carry little or nothing about x, so reconstructions are alike.",
        NOTHING_SENT,
    ),
    "overfit": (
        "the model knows the train data by heart",
        "Held-out data have a higher loss than train data.",
        {"no better than the mean", "holes in the latent space"},
    ),
    "variance of the likelihood": ("the variance of the likelihood does not fit the residuals", "", {"blur"}),
    "holes in the latent space": (
        "the draws of the prior and the codes of the data lie apart",
        "Samples are decoded from codes that were never trained.",
        set(),
    ),
    "no better than the mean": (
        "the model knows no more than the mean of the data",
        "A model that gives each x the same distribution has no higher loss.",
        set(),
    ),
    "rate and distortion": ("the latents carry less than one bit", "", set()),
    "blur": ("the reconstructions lack the detail of the data", "", set()),
}


@dataclass(frozen=True)
class Cause:
    """level: "healthy", "watch" or "ill". title, sentence: what it is, and what follows from it. symptom: that of the
    verdict that names the cause; "" if nothing was found. explains: the other symptoms that have this cause. advice,
    change: what to try first, as in a Verdict."""

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
    found = [_cause(verdict, text, sick) for verdict, text in _candidates(sick)]
    at = max((v.level for v in sick.values()), key=gauges.LEVELS.index, default="healthy")
    for cause in found:
        if at in (cause.level, *(sick[symptom].level for symptom in cause.explains)):
            return cause
    sentence = "The doctor has found no symptom. Look at the samples too: some faults have no number."
    return Cause("healthy", "no symptom was found", sentence)


def _cause(verdict, text, sick):
    title, sentence, explained = text
    explains = tuple(s for s in sick if s != verdict.symptom and (explained is None or s in explained))
    level = max((sick[s].level for s in (verdict.symptom, *explains)), key=gauges.LEVELS.index)
    advice, change = verdict.advice, verdict.change
    return Cause(level, title, sentence or _sentence(verdict.cause), verdict.symptom, explains, advice, change)


def _candidates(sick):
    """(verdict, (title, sentence, the symptoms that it explains or None for all)), what comes first first."""
    for symptom in FIRST:
        if symptom in sick and sick[symptom].level == "ill":
            yield sick[symptom], (OF_DATA[symptom], _sentence(sick[symptom].cause), None)
    if "effective beta" in sick:
        yield sick["effective beta"], _of_beta(sick["effective beta"])
    variance = sick.get("variance of the likelihood")
    if variance is not None and is_setting(variance):
        sentence = "The likelihood takes structure for noise, so the latents and the pictures lose detail."
        yield variance, ("the variance of the likelihood is too large", sentence, NOTHING_SENT)
    for symptom, text in LEARNED.items():
        if symptom in sick:
            yield sick[symptom], text
    if "data" in sick:
        yield sick["data"], (OF_DATA["data"], _sentence(sick["data"].cause), set())


def is_setting(verdict: Verdict) -> bool:
    """Whether the verdict is on a variance that was set too large: no training mends this."""
    return bool(verdict.change) and verdict.gauge is not None and verdict.gauge.value < 1


def _of_beta(verdict):
    beta = float(f"{verdict.gauge.value:.3g}")
    also = {"not converged", "overfit"} if verdict.level == "ill" else set()  # -ELBO is not what is trained
    costs = f"A nat of the KL costs as much as {beta:g} nats of the likelihood, so"
    if beta > 1:
        sentence = f"{costs} the encoder sends little or nothing to the decoder."
        return f"beta is {beta:g}: the KL outweighs the likelihood", sentence, NOTHING_SENT | also
    sentence = f"{costs} the codes of the data leave the region of the prior, and samples are unlike data."
    of_low = {"holes in the latent space", "no better than the mean"}
    return f"beta is {beta:g}: the KL hardly counts", sentence, of_low | also


def _sentence(text):
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _python(value):
    """A setting as Python."""
    if isinstance(value, torch.nn.Parameter):
        return f"torch.nn.Parameter(torch.tensor({value.item():.3g}))"
    return repr(value)
