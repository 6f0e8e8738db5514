"""Two calls of this package as text: the call that equals a reading, and the call that the user probably means."""

import math

import torch

from .fit import CLOSE


def parts(reading):
    """For each term a pair: a text that explains the weight by sizes, and the weight that no size explains, which is
    the user's own. The power of B is taken out of both."""
    gaussian = reading.likelihood.name == "gaussian" and reading.obs_logvar is None
    rec_texts = _of_the_elements(reading)
    if gaussian:
        rec_texts += [(2 * w, f"a squared error without its 1/2, {text}") for w, text in rec_texts]
    rec = _part(reading.rec_weight, reading.rec_power, rec_texts, reading)
    if isinstance(reading.kl_weight, torch.Tensor):
        return rec, ("weighted by dimension", reading.kl_weight * _batch(reading, reading.kl_power))
    return rec, _part(reading.kl_weight, reading.kl_power, _of_the_latents(reading), reading)


def _of_the_latents(reading):
    """The texts of a sum over the latent dimensions."""
    d, n, observed, latents = (reading.sizes[name] for name in ("D", "L", "O", "P"))
    texts = [(1, f"summed over the {n} latent dims"), (1 / n, f"averaged over the {n} latent dims")]
    if abs(latents - n) > CLOSE * n:
        sums = f"summed over the {n} latent dims with their weights, {latents:.4g} a sample in this batch"
        count = f"divided by the latent weights' sum, {latents:.4g} a sample in this batch"
        texts = [(1, sums), (1 / latents, count), (1 / n, f"{sums}, and divided by {n}")]
        texts += [(n / latents, f"{count}, and multiplied by {n}")]
    return [*texts, (1 / d, f"divided by the {d} elements of x"), (1 / observed, f"divided by {_count(reading)}")]


def _of_the_elements(reading):
    """The texts of a sum over the elements."""
    d, observed = reading.sizes["D"], reading.sizes["O"]
    if abs(observed - d) <= CLOSE * d:
        return [(1, f"summed over the {d} elements"), (1 / d, f"averaged over the {d} elements")]
    those, count = f"the {d} elements with their weights", _count(reading)
    if reading.masked:
        those = f"the {_which(reading)} elements, {observed:.4g} of {d}"
    return [
        (1, f"summed over {those}"),
        (1 / observed, f"divided by {count}"),
        (1 / d, f"summed over {those}, and divided by all {d}"),
        (d / observed, f"divided by {count}, and multiplied by all {d}"),
    ]


def _count(reading):
    """What a mean over the elements that count is divided by."""
    d, observed = reading.sizes["D"], reading.sizes["O"]
    if reading.masked:
        return f"the number of {_which(reading)} elements, {observed:.4g} of {d} a sample in this batch"
    return f"the weights' sum, {observed:.4g} a sample in this batch"


def _which(reading):
    return "missing" if reading.likelihood.scaling == "inverted" else "observed"


def _batch(reading, power):
    return reading.sizes["B"] ** ((not reading.per_sample) if power is None else power)


def _part(weight, power, texts, reading):
    weight = weight * _batch(reading, power)
    for value, text in texts:
        if abs(abs(weight) - value) <= CLOSE * value:
            return text, math.copysign(1.0, weight)
    return (f"with a weight of {weight:.4g}" if weight else "absent"), weight


def reduction(reading):
    if reading.per_sample:
        return "none"
    return "sum" if reading.rec_power == 0 and reading.kl_power in (0, None) else "mean"


def equal(reading):
    """A call that gives the same loss and gradients: (text, the tensors that the text names besides the arguments)."""
    how = reduction(reading)
    scale = reading.sizes["B"] if how == "mean" else 1
    names, options, recon, x, logvar = _options(reading)
    weight, rec_weight, rec_text = _weight(reading, scale)
    options += f", weight={weight}" if weight else ""
    beta = reading.kl_weight * scale
    latent_weight = ", latent_weight=latent_weight" if _of_latents(reading) else ""
    tail = "" if how == "mean" else f', reduction="{how}"'
    if isinstance(beta, torch.Tensor):
        names["beta"], beta_text = beta, "beta"
        negative = False
    else:
        beta_text, negative = _number(reading, beta, scale, (1,)), beta < 0
    if rec_weight < 0 or negative:
        tail = f', reduction="{how}"'
        rec, sign = _times(rec_text), "-" if beta_text[0] == "-" else "+"
        size = _times(beta_text.removeprefix("-"))
        text = (
            f"{rec}vk.nll({recon}, {x}{options}{tail}) {sign} {size}vk.gaussian_kl(mu, {logvar}{latent_weight}{tail})"
        )
    else:
        weights = "" if beta_text == "1.0" else f", beta={beta_text}"
        if abs(rec_weight - 1) > CLOSE:
            weights += f", rec_weight={rec_text}"
        text = f"vk.fused_elbo({recon}, {x}, mu, {logvar}{options}{latent_weight}{weights}{tail})"
    if reading.missing:
        constant = reading.constant / (reading.sizes["B"] if how == "none" else 1)
        text += f" {'-' if constant < 0 else '+'} {abs(constant):.12g}"
    return text, names


def _weight(reading, scale):
    """(the text of the weight that the loss has, or ""; rec_weight beside this weight; and its text)"""
    rec_weight, scaling = reading.rec_weight * scale, reading.likelihood.scaling
    if not reading.weight or scaling == "ignored":
        return "", rec_weight, number(rec_weight, reading.sizes)
    if scaling == "by sample":
        rec_weight *= reading.sizes["O"]
        return _by_sample(reading), rec_weight, number(rec_weight, reading.sizes)
    text = _number(reading, rec_weight, scale, (1, 2, reading.sizes["D"], 2 * reading.sizes["D"]))
    return reading.weight if scaling == "given" else f"~{reading.weight}", rec_weight, text


def _number(reading, value, scale, numerators):
    """The text of a weight. A fraction of the number of observed elements is written as one: the fraction holds for
    other batches too."""
    size = "len(x)" if scale > 1 else "1"
    count = f"(~{_whole(reading)})" if reading.likelihood.scaling == "inverted" else _whole(reading)
    for times in numerators if reading.weight and reading.likelihood.scaling != "ignored" else ():
        share = times / reading.sizes["O"] * scale / reading.sizes["B"]
        if abs(value - 1) > CLOSE and abs(value - share) <= CLOSE * share:
            return f"{'' if times == 1 else f'{times} * '}{size} / {count}.sum()"
    return number(value, reading.sizes)


def _of_latents(reading):
    """Whether the loss has the latent_weight."""
    return reading.latent_weight and reading.kl.scaling == "given" and reading.kl.name != "none"


def _by_sample(reading):
    """The text of the weight divided by its sum in each sample. A sample without weights has the weight 0."""
    dims = ", ".join(map(str, range(1, reading.dims)))
    share = f"{reading.weight} / {_whole(reading)}.sum({dims if reading.dims == 2 else f'({dims})'}, keepdim=True)"
    return share if bool((reading.by_sample > 0).all()) else f"({share}).nan_to_num()"


def _whole(reading):
    """The text of the weight with a number for each element."""
    return reading.weight if reading.whole else f"{reading.weight}.expand_as(x)"


def _times(factor):
    return "" if factor == "1.0" else f"{factor} * "


def meant(reading):
    """The call that computes -ELBO: (text, names). It has a beta only if no size explains the weight of the KL."""
    names, options, recon, x, logvar = _options(reading)
    (_, rec), (_, kl) = parts(reading)
    beta = kl / rec if rec else 1.0
    options += f", weight={reading.weight}" if reading.weight else ""
    options += ", latent_weight=latent_weight" if reading.latent_weight else ""
    if isinstance(beta, torch.Tensor):
        names["beta"] = beta
        options += ", beta=beta"
    elif beta > 0 and abs(beta - 1) > CLOSE:
        options += f", beta={number(beta, reading.sizes)}"
    how = reduction(reading)
    tail = "" if how == "mean" else f', reduction="{how}"'
    return f"vk.fused_elbo({recon}, {x}, mu, {logvar}{options}{tail})", names


def _options(reading):
    names, options = {}, ""
    if reading.likelihood.name != "bernoulli":
        options = f', likelihood="{reading.likelihood.name}"'
    if isinstance(reading.obs_logvar, torch.Tensor):
        names["obs_logvar"] = reading.obs_logvar
        options += ", obs_logvar=obs_logvar"
    elif reading.obs_logvar is not None:
        options += f", obs_logvar={reading.obs_logvar:.12g}"
    recon = f"torch.logit({reading.first})" if reading.likelihood.argument == "probabilities" else "recon"
    x = "x" if reading.same_shape else f"x.reshape({reading.first}.shape)"
    return names, options, recon, x, "2 * logvar" if reading.kl.argument == "log sigma" else "logvar"


def number(value, sizes):
    """A number as text. A fraction of a size is written as a fraction: 1 / 784 says more than 0.00127551020408."""
    for numerator in (1, 2):
        for name in ("D", "L", "B"):
            if sizes[name] > 2 and abs(abs(value) * sizes[name] - numerator) <= CLOSE * numerator:
                return f"{'-' if value < 0 else ''}{numerator} / {sizes[name]}"
    return f"{float(f'{value:.6g}')}" if abs(value - float(f"{value:.6g}")) <= 1e-9 * abs(value) else f"{value:.12g}"


def run(text, names, recon, x, mu, logvar, weight, latent_weight):
    """The value of a call's text for these arguments of a loss."""
    import vae_kernels as vk

    scope = {"vk": vk, "torch": torch, "recon": recon, "x": x, "mu": mu, "logvar": logvar}
    scope |= {"weight": weight, "latent_weight": latent_weight}
    return eval(text, {"__builtins__": {"len": len}}, scope | {k: v.to(mu.dtype) for k, v in names.items()})
