"""What an argument may mean inside a loss: a decoder may give a probability where our formula takes a logit."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Meaning:
    """One way to read an argument. `into` computes what our formula takes, and `text` is the same as Python text.

    says: what a report says about the argument; "" for the plain meaning.
    """

    name: str
    text: str
    into: Callable[[torch.Tensor], torch.Tensor]
    says: str = ""

    def of(self, argument):
        """The Python text for this argument."""
        return self.text.format(argument)


PLAIN = Meaning("", "{}", lambda t: t)
PROBABILITIES = Meaning("probabilities", "torch.logit({})", torch.logit)
SIGMOID = Meaning("sigmoid", "torch.sigmoid({})", torch.sigmoid, "the loss takes the sigmoid of recon")
TANH = Meaning("tanh", "torch.tanh({})", torch.tanh, "the loss takes the tanh of recon")
TANH_PROBABILITY = Meaning(
    "tanh as probability", "2 * {}", lambda t: 2 * t, "the loss takes (tanh(recon) + 1) / 2 for the probability"
)
SOFTMAX = Meaning("softmax", "{}.softmax(1)", lambda t: t.softmax(1), "the loss takes the soft-max of recon")
EXP = Meaning("exponential", "torch.exp({})", torch.exp, "the loss takes the exponential of recon")
SOFTPLUS = Meaning("softplus", "torch.nn.functional.softplus({})", F.softplus, "the loss takes the softplus of recon")
RATE = Meaning("rate", "{}.log()", torch.log, "recon is read as the mean itself, not as its logarithm")
SOFTPLUS_RATE = Meaning(
    "softplus rate",
    "torch.nn.functional.softplus({}).log()",
    lambda t: F.softplus(t).log(),
    "the softplus of recon is read as the mean",
)
LOG_SIGMA = Meaning("log sigma", "2 * {}", lambda t: 2 * t, "{} is read as log sigma, half of the log-variance")
VARIANCE = Meaning("variance", "{}.log()", torch.log, "{} is read as the variance itself, not as its logarithm")
SIGMA = Meaning(
    "sigma", "2 * {}.log()", lambda t: 2 * t.log(), "{} is read as the standard deviation, not as the log-variance"
)
SOFTPLUS_SIGMA = Meaning(
    "softplus sigma",
    "2 * torch.nn.functional.softplus({}).log()",
    lambda t: 2 * F.softplus(t).log(),
    "the softplus of {} is read as the standard deviation",
)
SOFTPLUS_VARIANCE = Meaning(
    "softplus variance",
    "torch.nn.functional.softplus({}).log()",
    lambda t: F.softplus(t).log(),
    "the softplus of {} is read as the variance",
)
SCALE = Meaning("scale", "{}.log()", torch.log, "{} is read as the scale itself, not as its logarithm")
INVERSE_DISPERSION = Meaning(
    "inverse dispersion", "{}.log()", torch.log, "{} is read as the inverse dispersion itself, not as its logarithm"
)
SOFTPLUS_SCALE = Meaning(
    "softplus scale",
    "torch.nn.functional.softplus({}).log()",
    lambda t: F.softplus(t).log(),
    "the softplus of {} is read as the scale",
)

LOGARITHMS = (RATE, VARIANCE, SIGMA, SCALE, INVERSE_DISPERSION)  # of positive values only
LOG_VARIANCES = (LOG_SIGMA, VARIANCE, SIGMA, SOFTPLUS_SIGMA, SOFTPLUS_VARIANCE)
OF_PARAMETER = {
    "logits": (PROBABILITIES, TANH_PROBABILITY, SIGMOID, TANH, SOFTMAX),
    "loc": (SIGMOID, TANH, EXP, SOFTPLUS),
    "logvar": LOG_VARIANCES,
    "logscale": (SCALE, SOFTPLUS_SCALE),
    "log_rate": (RATE, SOFTPLUS_RATE),
    "log_mean": (RATE, SOFTPLUS_RATE),
    "log_inverse_dispersion": (INVERSE_DISPERSION,),
}
OF_X = (
    Meaning("round", "{}.round()", torch.round, "the loss rounds x"),
    Meaning("x / 255", "{} / 255", lambda x: x / 255, "the loss divides x by 255"),
    Meaning("(x + 1) / 2", "({} + 1) / 2", lambda x: (x + 1) / 2, "the loss moves x from [-1, 1] to [0, 1]"),
    Meaning("2 * x - 1", "2 * {} - 1", lambda x: 2 * x - 1, "the loss moves x from [0, 1] to [-1, 1]"),
)
BYTES = Meaning(
    "bytes",
    "{}.float()",
    lambda x: x * 255,
    "the loss reads the bytes of x as they are; fused_elbo reads uint8 as x / 255, so give it x.float()",
)


def clamp(low, high):
    """The meaning of a clamp to [low, high]; None is no bound."""
    bounds = ", ".join(f"{name}={value!r}" for name, value in (("min", low), ("max", high)) if value is not None)
    return Meaning("clamp", f"{{}}.clamp({bounds})", lambda t: t.clamp(low, high))


def after(meaning, first):
    """The meaning that reads what another one gives."""
    if first is PLAIN:
        return meaning
    return Meaning(meaning.name, meaning.of(first.text), lambda t: meaning.into(first.into(t)), meaning.says)
