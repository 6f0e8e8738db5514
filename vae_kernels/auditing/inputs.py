"""The findings about what a loss does with its arguments: weights, recon, x, and logvar."""

import math

import torch

from ..formulas import ALL
from . import calls, floors, noise
from .fit import target
from .meanings import BYTES, PLAIN
from .report import shown


def of(reading, point, names):
    """The findings, as findings.of() gives them."""
    yield from _missing(reading, point, names[0])
    yield from _missing_latents(reading, point, names[1])
    yield from _latents(reading, point)
    if reading.likelihood is not None and reading.likelihood.name != "none":
        yield from _recon(reading, point)
        yield from _targets(reading, point)
    elif reading.likelihood is None and (shapes := _of_no_likelihood(point)):
        yield "note", shapes


def _of_no_likelihood(point):
    """A sentence about shapes that no likelihood of the audit has, or ""."""
    recon, x = point.recon[0].shape, point.x.shape
    if recon.numel() == x.numel() or (recon[:1], recon[2:]) == (x[:1], x[1:]):  # elements, or levels
        return ""
    came = f"recon has the shape {tuple(recon)}, and x the shape {tuple(x)}"
    return f"{came}: the audit knows likelihoods of single elements and of levels, none of pixels and none of tables"


def _missing(reading, point, name):
    if point.weight is None or reading.likelihood is None or reading.likelihood.name == "none":
        return
    of = "number of its observed elements" if reading.masked else "sum of its weights"
    missing = (point.weights == 0).double().mean().item()
    if reading.likelihood.scaling == "ignored":
        why = "" if name else ", and has no argument `weight` or `mask`"
        count = f": the {missing:.1%} of x that have the weight 0 count" if missing else ""
        yield "wrong", f"the loss does not use the weight{why}{count}"
    elif reading.likelihood.scaling == "inverted":
        yield (
            "wrong",
            "the loss reads the mask the other way: it counts what is missing. Here True is an observed element",
        )
    elif reading.likelihood.scaling == "by sample":
        some, beta = reading.by_sample[reading.by_sample > 0], reading.effective_beta
        sentence = (
            f"the reconstruction of each sample is divided by the {of}: an element of a sample with few counts more"
        )
        if isinstance(beta, float):
            least, largest = (beta * s.item() / reading.sizes["O"] for s in (some.min(), some.max()))
            sentence += f", and beta is {least:.3g} to {largest:.3g}, by sample"
        yield "wrong", sentence
    elif missing:
        yield "fine", f"the {missing:.1%} of x that have the weight 0 do not count"


def _missing_latents(reading, point, name):
    if point.latent_weight is None or reading.kl is None or reading.kl.name == "none":
        return
    missing = (point.latent_weights == 0).double().mean().item()
    if reading.kl.scaling == "ignored":
        why = "" if name else ", and the loss has no argument `latent_weight` or `latent_mask`"
        count = f": the {missing:.1%} of mu that have the weight 0 count" if missing else ""
        yield "wrong", f"the KL does not use the latent_weight{why}{count}"
    elif missing:
        yield "fine", f"the {missing:.1%} of mu that have the weight 0 do not count"


def _latents(reading, point):
    kl = reading.kl
    if kl is None or kl.name == "none":
        return
    if kl.reads[0].says:
        yield "note", kl.reads[0].says.format("logvar")
    if reading.of_logvar:
        yield _clamped("logvar", reading.of_logvar, point.logvar)
    if reading.sampled is not None:
        yield "note", "the KL is estimated from one sample of z, as log q(z) - log p(z)"
        yield noise.finding(reading.sampled, "the noise of this sample")
    if reading.floor is not None:
        yield _bent(reading)


def _bent(reading):
    floor = reading.floor
    what = floors.SAYS[floor.unit]
    if floor.below:
        beta = reading.effective_beta
        return "note", (
            f"a capacity of {floor.nats:.4g} nats: {what} is pulled to it. Above it the effective beta is "
            f"{shown(beta)}, below it {shown(-beta)}. vk.controls.capacity does the same"
        )
    more = "" if floor.unit != "per_element" else ". fused_elbo has no free bits of this unit: docs/controls.md"
    return "note", (
        f"free bits of {floor.nats:.4g} nats: {what} costs at least so much, and has no gradient below. "
        f"The effective beta holds above{more}"
    )


def _clamped(name, bounds, values):
    """The finding about an argument that the loss clamps."""
    low = values < bounds.low if bounds.low is not None else values != values
    high = values > bounds.high if bounds.high is not None else values != values
    share = (low | high).double().mean().item()
    text = f"the loss clamps {name}: {_beyond(bounds)} {name} gets no gradient"
    if share:
        return "wrong", f"{text}, and {share:.1%} of the example's values are there"
    return "note", f"{text}. No value of the example is there"


def _recon(reading, point):
    likelihood = reading.likelihood
    inside = all(bool(((r >= 0) & (r <= 1)).all()) for r in point.recon)
    first, *others = likelihood.reads
    if likelihood.argument == "probabilities":
        yield "note", "recon is read as probabilities; logits are exact where a sigmoid is rounded to 0 or 1"
    elif calls.bounded_logits(reading):
        yield "wrong", f"{first.says}, and then reads the result as logits: these lie in a short interval, so no " \
                       "probability comes close to 0 or 1"  # fmt: skip
    elif first.says:
        again = first.name == "sigmoid" and inside
        doubt = ", but all of recon is in [0, 1] already: is this a second sigmoid?" if again else ""
        yield ("wrong" if again else "fine"), first.says + doubt
    elif likelihood.argument == "logits" and inside:
        yield (
            "wrong",
            "the loss takes recon for logits, but all of it is in [0, 1]: is there a sigmoid before the loss?",
        )
    for meaning, part in zip(others, reading.parts[1:], strict=False):
        if meaning.says:
            yield "note", meaning.says.format(part)
    for part in reading.parts[len(likelihood.reads) :]:
        yield "wrong", f"{part} has no gradient: the loss does not use it"
    if likelihood.of_x is not PLAIN:
        yield ("note" if likelihood.of_x is BYTES else "fine"), likelihood.of_x.says
    if reading.of_recon.soft:
        yield "note", _added(likelihood.argument, reading.of_recon)
    elif reading.of_recon:
        yield _clamped(reading.first, reading.of_recon, point.recon[0])


def _added(argument, bounds):
    """The sentence about a small number inside a logarithm. The probability or the mean has this size at a bound."""
    if argument in ("probabilities", "logits"):
        at = bounds.low if bounds.low is not None else bounds.high
        probability = at if argument == "probabilities" else 1 / (1 + math.exp(-at))
        size = probability if bounds.low is not None else 1 - probability
        return f"{_adds(size)}: a probability that is wrong by almost 1 has hardly any gradient"
    if argument.startswith("log_") and bounds.low is not None:
        return f"{_adds(math.exp(bounds.low))}: a mean that is much smaller has hardly any gradient"
    return f"{argument} has less than half of its gradient {_beyond(bounds)}"


def _adds(size):
    return f"the loss adds about {size:.1g} inside a logarithm"


def _beyond(bounds):
    if bounds.low is None or bounds.high is None:
        return f"{'above' if bounds.low is None else 'below'} {bounds.high if bounds.low is None else bounds.low:.6g}"
    return f"outside [{bounds.low:.6g}, {bounds.high:.6g}]"


def _targets(reading, point):
    name = reading.likelihood.name
    support, x = ALL[name].SUPPORT, target(point, name)
    assert x is not None, "a likelihood was found, so x is a target of it"
    x = reading.likelihood.of_x.into(x)
    weights = point.weights.reshape(x.shape)
    observed, whole = weights > 0, "x" if point.weight is None else "the observed x"
    if support == "levels":
        bad, fault = (x < 0) | (x >= point.recon[0].shape[1]), f"outside 0..{point.recon[0].shape[1] - 1}"
    elif support == "counts":
        bad = (x < 0) | (x != x.round())
        fault = "negative or fractional, expected counts"
    elif support is not None:
        bad, fault = (x < support[0]) | (x > support[1]), f"outside [{support[0]:g}, {support[1]:g}]"
    else:
        bad, fault = ~torch.isfinite(x), "not finite"
    if bad.any():
        share = bad[observed].double().mean().item()
        yield "wrong", f"{share:.2%} of {whole} are {fault}: this likelihood is not defined for them"
    elif name == "bernoulli":
        entropies = -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x))
        entropy = (weights * entropies).sum().item() / len(x)
        if entropy:
            floor = f"the entropy of its targets, {entropy:.4g} nats a sample"
            yield "note", f"x is not binary: the nll of this batch cannot fall below {floor}"
