"""The findings about a loss: one sentence for each, the worst first. The findings come from the reading and from the
example."""

import torch

from ..formulas import ALL
from . import calls
from .fit import CLOSE, target


def of(reading, point, names):
    """A list of (level, sentence); level is "wrong", "note" or "fine". names: those that taking_weights() gives."""
    found = [*_terms(reading), *_signs(reading), *_batch(reading), *_weights(reading), *_constants(reading)]
    found += [*_missing(reading, point, names[0]), *_missing_latents(reading, point, names[1])]
    if reading.likelihood is not None and reading.likelihood.name != "none":
        found += [*_recon(reading, point), *_targets(reading, point)]
    return sorted(found, key=lambda finding: ("wrong", "note", "fine").index(finding[0]))


def _terms(reading):
    if reading.likelihood is None:
        yield "wrong", "the gradient of recon is not that of a known likelihood, times a number"
    elif reading.likelihood.name == "none":
        yield "wrong", "recon has no gradient: there is no reconstruction term"
    elif reading.rec_weight is None:
        yield "wrong", "the elements of x have weights of their own, which no variance inside the loss explains"
    if reading.kl is None:
        yield (
            "wrong",
            "the gradients of mu and logvar are not those of the KL to N(0, I), times a number",
        )
    elif reading.kl.name == "none":
        yield "wrong", "mu and logvar have no gradient: there is no KL term, this is an autoencoder"
    elif reading.kl.argument == "log sigma":
        yield "note", "logvar is read as log sigma, half of the log-variance"


def _signs(reading):
    for name, weight in (("reconstruction", reading.rec_weight), ("KL", reading.kl_weight)):
        if weight is not None and bool((torch.as_tensor(weight) < 0).any()):
            yield "wrong", f"the {name} has the wrong sign: a lower loss makes it larger"


def _batch(reading):
    powers = {"reconstruction": reading.rec_power, "KL": reading.kl_power}
    texts = {0: "is summed over the batch", 1: "is averaged over the batch", 2: "is divided by the batch twice"}
    if reading.rec_weight == 0 or reading.kl_weight is None or reading.rec_weight is None:
        return
    if reading.kl.name == "none":
        powers.pop("KL")
    if None in powers.values():
        yield "note", "the loss took no batch of another size: its part in the weights was not measured"
    elif reading.per_sample:
        yield "fine", "one loss for each sample"
    elif len(set(powers.values())) > 1:
        each = " and ".join(f"the {n} {texts.get(p, f'has the weight B^-{p}')}" for n, p in powers.items())
        yield "wrong", f"{each}: beta depends on the batch size"
    else:
        power = powers["reconstruction"]
        level = {0: "note", 1: "fine"}.get(power, "wrong")
        yield level, f"the loss {texts.get(power, f'has the weight B^-{power}')}"


def _weights(reading):
    if reading.rec_weight is None or reading.kl_weight is None or not reading.rec_weight:
        return
    (rec, rec_own), (kl, kl_own) = calls.parts(reading)
    beta = reading.effective_beta
    off = isinstance(beta, torch.Tensor) or abs(beta - 1) > CLOSE
    level = "wrong" if _by_accident(reading, kl_own / rec_own) else "note" if off else "fine"
    yield level, f"reconstruction {rec}; KL {kl}"
    unit = reading.likelihood.name == "gaussian" and reading.obs_logvar is None and reading.likelihood.argument == "loc"
    if unit and off and not isinstance(beta, torch.Tensor) and beta > 0:
        yield "note", f"that is beta = 1 with a Gaussian of standard deviation {beta**0.5:.3g} in place of 1"
    if reading.obs_logvar is not None:
        yield "fine", "the Gaussian's variance is inside the loss, with its own term"


def _by_accident(reading, own):
    """Whether beta has a factor that is a size: then the loss averages a part of the terms and sums the other part."""
    if not torch.as_tensor(own).any():
        return False
    powers = (reading.kl_power or 0) - (reading.rec_power or 0)
    ratio = torch.as_tensor(reading.effective_beta / own * reading.sizes["B"] ** powers).mean().item()
    return all(abs(ratio - fine) > CLOSE for fine in (1, 0.5))  # 1/2 comes from a squared error without its factor 1/2


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


def _constants(reading):
    texts = {
        "2pi": "the Gaussian's log(2 pi) / 2 of each element is left out",
        "kl": "the -1/2 of each latent dimension's KL is left out",
        "2": "the Laplace density's log 2 of each element is left out",
        "0": "each element of weight 0 adds the nll of 0 given 0: the weight multiplies recon and x, not the terms",
        "own": "there is a constant of its own",
    }
    for name in reading.missing:
        yield "note", f"{texts[name]}: no gradient, but the value is no -ELBO ({reading.constant:+.4g} in this batch)"


def _recon(reading, point):
    if reading.likelihood.argument == "probabilities":
        yield "note", "recon is read as probabilities; logits are exact where a sigmoid is rounded to 0 or 1"
    elif reading.likelihood.argument == "logits" and all(bool(((r >= 0) & (r <= 1)).all()) for r in point.recon):
        yield (
            "wrong",
            "the loss takes recon for logits, but all of it is in [0, 1]: is there a sigmoid before the loss?",
        )


def _targets(reading, point):
    name = reading.likelihood.name
    support, x = ALL[name].SUPPORT, target(point, name)
    assert x is not None, "a likelihood was found, so x is a target of it"
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
        entropy = (weights * entropies).flatten(1).sum(1).mean().item()
        if entropy:
            floor = f"the entropy of its targets, {entropy:.4g} nats a sample"
            yield "note", f"x is not binary: the nll of this batch cannot fall below {floor}"
