"""The findings about a loss: one sentence for each, the worst first. The findings come from the reading and from the
example."""

import torch

from . import calls, gradients, inputs, probe
from .fit import CLOSE
from .report import shown

LEVELS = ("wrong", "note", "fine")


def of(reading, point, names, moving=(), apart=()):
    """A list of (level, sentence); level is "wrong", "note" or "fine".

    names: those that taking_weights() gives. moving: the names of the terms whose weight changes from point to point.
    apart: the result of gradients.detached().
    """
    found = [*_terms(reading, apart), *_moving(moving)]
    if not moving:
        found += [*_signs(reading), *_batch(reading), *_weights(reading)]
    if not moving and not apart and not reading.random:
        found += _constants(reading)
    return ordered([*found, *inputs.of(reading, point, names)])


def _moving(moving):
    why = {
        "reconstruction": "as if a variance were estimated from the batch",
        "KL": "as if the KL were bent by a function",
    }
    for name in moving:
        yield "wrong", f"the weight of the {name} changes from point to point, {why[name]}: there is no one beta"


def ordered(found):
    """The findings with the worst first."""
    return sorted(found, key=lambda finding: LEVELS.index(finding[0]))


def _terms(reading, apart):
    if not reading.finite:
        yield "wrong", "the loss or one of its gradients is NaN or infinite where recon, mu and logvar are about 1"
    if reading.likelihood is None:
        yield "wrong", "the gradient of recon is not that of a known likelihood, times a number"
        if reading.unknown:
            yield "note", reading.unknown
    elif reading.likelihood.name == "none":
        yield "wrong", "recon has no gradient: there is no reconstruction term"
    elif reading.rec_weight is None:
        yield "wrong", "the elements of x have weights of their own, which no variance inside the loss explains"
    if reading.random and reading.sampled is None:
        yield "note", "two calls with the same arguments give two values: the audit cannot read a term that draws noise"
    if reading.kl is None:
        yield "wrong", "the gradients of mu and logvar are not those of the KL to N(0, I), times a number"
        yield from () if apart else _pieces(reading)
    elif reading.kl.name == "none" and reading.used:
        yield "note", "the weight of the KL is 0 at this call, as at the start of a warm-up: audit its last weight too"
    elif reading.kl.name == "none" and not apart:
        yield "wrong", "mu and logvar have no gradient: there is no KL term, this is an autoencoder"
    elif reading.kl.prior is not None:
        mean, logvar = reading.kl.prior
        variance = torch.tensor(logvar).exp().item()
        yield "note", f"the prior is N({_near(mean)}, {_near(variance)}) for each latent dim, not N(0, 1)"


def _pieces(reading):
    """What the loss has in place of the KL."""
    by_mu, by_logvar = reading.latent_gradients
    if not by_mu.any() or not by_logvar.any():
        name = "logvar" if by_mu.any() else "mu"
        yield "wrong", f"{name} has no gradient: a part of the KL, -(1 + logvar - mu^2 - exp(logvar)) / 2, is missing"
    elif reading.pieces is not None:
        a, b, c, d = reading.pieces
        texts = (_term(a / 2, "mu^2"), _term(b, "mu"), _term(c, "exp(logvar)"), _term(d, "logvar"))
        sums = " ".join(filter(None, texts)).removeprefix("+ ")
        yield "wrong", f"they are those of {sums}, times a number; in the KL all factors are 0.5 or -0.5"


def _term(factor, what):
    return f"{'-' if factor < 0 else '+'} {abs(factor):.4g} {what}" if abs(factor) > CLOSE else ""


def _near(number):
    return f"{number if abs(number) > CLOSE else 0.0:.4g}"


def _signs(reading):
    for name, weight in (("reconstruction", reading.rec_weight), ("KL", reading.kl_weight)):
        if weight is not None and bool((torch.as_tensor(weight) < 0).any()):
            yield "wrong", f"the {name} has the wrong sign: a lower loss makes it larger"


def _batch(reading):
    if reading.rec_weight == 0 or reading.kl_weight is None or reading.rec_weight is None:
        return
    terms = dict(zip(("reconstruction", "KL"), calls.parts(reading), strict=True))
    powers = {"reconstruction": reading.rec_power, "KL": reading.kl_power}
    if reading.kl.name == "none":
        terms.pop("KL")
        powers.pop("KL")
    constants = {name: term.names for name, term in terms.items() if term.constant}
    if None in powers.values():
        sentence = "the loss took no batch of another size: how its weights depend on the batch size was not measured"
        yield "note", sentence if reading.refused else "the weights depend on the batch size, by no power of it"
        return
    b = reading.sizes["B"]
    terms = dict(sorted(terms.items(), key=lambda item: item[1].constant))  # a sentence about a constant comes last
    each = {
        n: _of_batch(powers[n], term.constant, f"a constant, {b}, which is {term.names}") for n, term in terms.items()
    }
    alike = len(set(each.values())) == 1
    text = (
        " and ".join(f"the {n} {t}" for n, t in each.items()) if not alike else f"the loss {next(iter(each.values()))}"
    )
    totals = {term.batch for term in terms.values()}
    if len(totals) > 1:
        unless = "".join(f", {term.unless}" for term in terms.values() if term.unless)
        yield "note" if unless else "wrong", f"{text}: beta depends on the batch size{unless}"
    elif constants and len(set(powers.values())) > 1:
        less = " and the ".join(constants)
        sentence = f"right but for the last, smaller batch, in which the {less} counts for too little"
        yield "note", f"{text}: {sentence}; len(x) is right in every batch"
    elif constants and totals == {1}:
        yield "fine", f"{text}: a last, smaller batch has a smaller loss and the same beta"
    elif reading.per_sample and totals == {0}:
        yield "fine", "one loss for each sample"
    else:
        yield {0: "note", 1: "fine"}.get(totals.pop(), "wrong"), text


def _of_batch(power, constant, what):
    """What a term does with the batch size: the power that was measured, and that of a constant."""
    texts = []
    if power or not constant:
        texts.append(
            {0: "is summed over the batch", 1: "is averaged over the batch", 2: "is divided by the batch twice",
             -1: "is multiplied by the batch size"}.get(power)
            or f"is {'divided' if power > 0 else 'multiplied'} by the batch size {abs(power)} times"
        )  # fmt: skip
    if constant:
        texts.append(f"is {'divided' if constant > 0 else 'multiplied'} by {what}")
    return " and ".join(texts)


def _weights(reading):
    if reading.rec_weight is None or reading.kl_weight is None or not reading.rec_weight:
        return
    rec, kl = calls.parts(reading)
    beta = reading.effective_beta
    off = isinstance(beta, torch.Tensor) or abs(beta - 1) > CLOSE
    accident, own = calls.is_accident(reading), calls.own_weight(reading)
    level = "wrong" if accident else "note" if off else "fine"
    yield level, f"reconstruction {rec.text}; KL {kl.text}"
    if calls.size_in_beta(reading) != 1.0 and abs(own - 1) > CLOSE and not isinstance(beta, torch.Tensor):
        weight = f"the loss has a weight of its own, {shown(own)}, beside these sums and means"
        yield level, f"{weight}: the effective beta is {shown(beta)}, and changes with these sizes"
    for name, term in (("reconstruction", rec), ("KL", kl)):
        if term.doubt:
            yield "note", f"the weight of the {name} may be a size: {term.doubt}"
    unit = reading.likelihood.name == "gaussian" and reading.obs_logvar is None and len(reading.likelihood.reads) == 1
    if not off and not rec.half and not kl.half and abs(rec.own - 1) > CLOSE:
        yield "fine", f"both terms have the same weight: the loss is {rec.own:.4g} times -ELBO"
    if not isinstance(beta, torch.Tensor):
        if isinstance(kl.own, float) and abs(kl.own - 2) <= CLOSE and abs(rec.own - 1) <= CLOSE:
            yield "note", "a weight of 2 is also what a KL has whose factor 1/2 was forgotten"
        if rec.half and kl.half:
            yield "fine", "both terms lack their factor 1/2: beta is the same, and the loss is twice as large"
        if unit and off and beta > 0 and (reading.floor is None or not reading.floor.below):
            yield "note", f"that is beta = 1 with a Gaussian of standard deviation {beta**0.5:.3g} in place of 1"
    if reading.obs_logvar is not None:
        yield "fine", "the Gaussian's variance is inside the loss, with its own term"
    if reading.logscale is not None:
        yield "fine", "the Laplace density's scale is inside the loss, with its own term"


def _constants(reading):
    texts = {
        "2pi": "the Gaussian's log(2 pi) / 2 of each element is left out",
        "kl": "the -1/2 of each latent dimension's KL is left out",
        "2": "the Laplace density's log 2 of each element is left out",
        "0": "each element of weight 0 adds the nll of 0 given 0: the weight multiplies recon and x, not the terms",
        "x!": "the log(x!) of each count is left out",
        "own": "there is a constant of its own",
    }
    for name in reading.missing:
        yield (
            "note",
            f"{texts[name]}: no gradient changes, but the value is no -ELBO ({reading.constant:+.4g} in this batch)",
        )


def of_gradients(loss_fn, point, seed, apart, reading):
    """The findings about gradients that are not the derivatives of the loss, and about a KL that is bent at 0 nats.
    apart: the result of gradients.detached()."""
    for name, some in apart.items():
        if some:
            yield "wrong", f"the gradient of {name} is not the derivative of the loss: a part of the loss is detached"
        else:
            yield "wrong", f"the loss depends on {name}, but {name} gets no gradient: is there a detach() or no_grad()?"
    if reading.kl is not None and reading.kl.name == "kl" and reading.floor is None:
        bends = gradients.bends(loss_fn, probe.synthetic(point, seed))
        what = {"abs": "|KL - C| with a capacity C", "clamp": "max(KL, C) with free bits C"}
        for bend in sorted(bends):
            sentence = f"the loss has {what[bend]}, and C is 0: this has no effect, for no KL is below 0"
            yield "note", f"{sentence}. Audit the loss with its last C too"
