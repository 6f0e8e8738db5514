"""The order of the verdicts, and what one verdict means for the others.

What is seen first stands first. If x or the decoder does not belong to the likelihood, the other numbers mean nothing:
no verdict on them is "healthy". While the loss still falls, no other change is advised, except that of a setting which
no training mends: a beta that is far from 1, or a constant variance that is far too large.
"""

from dataclasses import replace

from . import first
from .cause import is_setting
from .verdicts import Verdict, verdicts, weight

SETTINGS = ("effective beta",)  # verdicts on what was set, not on what was learned


def judge(measures, values, seen, losses, likelihood, one_variance):
    """The verdicts on a model whose numbers are finite. seen: the Pass over the data."""
    at_first = [first.data(values, one_variance), first.decoder(seen.outputs, values, likelihood)]
    beyond = first.impossible(seen.nll, seen.kl, measures.latents, likelihood)
    if beyond is not None and at_first[0].level != "ill":  # else x is the reason
        at_first.append(beyond)
    void = [verdict for verdict in at_first if verdict.level == "ill"]
    falls = first.converged(losses)
    learned = [first.against_the_mean(losses), first.overfit(losses), *verdicts(measures)]
    found = [verdict for verdict in (falls, *learned) if verdict is not None]
    if void:
        found = [_void(verdict, void[0]) for verdict in found]
    elif falls is not None and falls.level != "healthy":
        if weight(measures.beta).level == "ill":
            found = [_of_another_loss(verdict) if verdict is falls else verdict for verdict in found]
        else:
            found = [verdict if verdict is falls else _later(verdict) for verdict in found]
    return at_first + found


def unjudged(broken, values, model_beta, history, one_variance):
    """The verdicts on a model whose numbers are not finite."""
    found: list[Verdict] = [first.not_finite(broken, history), first.data(values, one_variance)]
    return [*found, weight(model_beta)]


def _void(verdict, reason: Verdict):
    if verdict.symptom in SETTINGS:
        return verdict
    return Verdict(verdict.symptom, "watch", f"not judged: first mend '{reason.symptom}'")


def _later(verdict):
    """A symptom that may go away with more epochs."""
    if verdict.level == "healthy" or verdict.symptom in SETTINGS or is_setting(verdict):
        return verdict
    return replace(verdict, advice="train longer first; then judge again", change={})


def _of_another_loss(falls):
    """-ELBO still falls, but -ELBO is not what was trained."""
    cause = "with this beta the training makes another loss small, not -ELBO"
    return replace(falls, cause=cause, advice="set beta first; then judge again")
