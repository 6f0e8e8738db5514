"""Two calls of this package as text: the call that equals a reading, and the call that the user probably means."""

import inspect

import torch

from ..formulas import ALL
from .fit import CLOSE
from .meanings import PLAIN
from .terms import of as parts


def reduction(reading):
    if reading.per_sample:
        return "none"
    return "sum" if reading.rec_power == 0 and reading.kl_power in (0, None) else "mean"


def equal(reading):
    """A call that gives the same loss and gradients: (text, the tensors that the text names besides the arguments).
    None if there is no such call."""
    if reading.sampled is not None or (reading.floor is not None and reading.floor.unit == "per_element"):
        return None
    if reading.floor is not None and reading.rec_weight < 0:
        return None
    how = reduction(reading)
    scale = reading.sizes["B"] if how == "mean" else 1
    names, options, recon, x, logvar = _options(reading, clamped=True)
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
            f"{rec}vk.nll({recon}, {x}{options}{tail}) {sign} "
            f"{size}vk.gaussian_kl(mu, {logvar}{_prior(reading)}{latent_weight}{tail})"
        )
    else:
        options += _prior(reading)
        weights = "" if beta_text == "1.0" else f", beta={beta_text}"
        if abs(rec_weight - 1) > CLOSE:
            weights += f", rec_weight={rec_text}"
        text = f"vk.fused_elbo({recon}, {x}, mu, {logvar}{options}{latent_weight}{weights}{tail})"
    if reading.missing and not reading.random:
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
    """The call that computes -ELBO: (text, names), with meant_beta(). None if this package has no such call."""
    if reading.floor is not None and reading.floor.unit == "per_element":
        return None
    names, options, recon, x, logvar = _options(reading, clamped=False)
    beta = meant_beta(reading)
    options += _prior(reading)
    options += f", weight={reading.weight}" if reading.weight else ""
    options += ", latent_weight=latent_weight" if reading.latent_weight else ""
    if isinstance(beta, torch.Tensor):
        names["beta"] = beta
        options += ", beta=beta"
    elif abs(beta - 1) > CLOSE:
        options += f", beta={number(beta, reading.sizes)}"
    rec, kl = parts(reading)
    summed = not reading.per_sample and rec.batch == 0 and kl.batch == 0
    how = "none" if reading.per_sample else "sum" if summed else "mean"
    tail = "" if how == "mean" else f', reduction="{how}"'
    return f"vk.fused_elbo({recon}, {x}, mu, {logvar}{options}{tail})", names


def meant_beta(reading):
    """The beta that is meant: 1, or a weight of the loss's own. If such a weight was chosen beside the sizes that the
    loss divides by, the effective beta stays."""
    rec, kl = parts(reading)
    own, beta = kl.own / rec.own, reading.effective_beta
    if isinstance(beta, torch.Tensor):
        return beta
    if not own or abs(abs(own) - 1) <= CLOSE:
        return 1.0
    return abs(own) if is_accident(reading) else abs(beta)


def is_accident(reading):
    """Whether beta has a factor that is a size, because the loss averages a part of the terms and sums the other part,
    and no weight of its own makes up for this size. The weight of a capacity may be large."""
    size, own = size_in_beta(reading), own_weight(reading)
    if size == 1.0 or (reading.floor is not None and reading.floor.below):
        return False
    return own >= 1 - CLOSE if size > 1 else own <= 1 + CLOSE


def own_weight(reading):
    """The weight of the KL that no size explains, beside that of the reconstruction. 1 if there is no KL."""
    rec, kl = parts(reading)
    own = torch.as_tensor(kl.own / rec.own).abs().double().mean().item()
    return own or 1.0


def size_in_beta(reading):
    """The factor of beta that is a size, other than that of the batch; 1 if there is none."""
    rec, kl = parts(reading)
    own = torch.as_tensor(kl.own / rec.own)
    if not own.any():
        return 1.0
    ratio = torch.as_tensor(reading.effective_beta / own * reading.sizes["B"] ** (kl.batch - rec.batch)).mean().item()
    # 1/2 comes from a squared error without its factor 1/2
    return 1.0 if any(abs(ratio - fine) <= CLOSE for fine in (1, 0.5)) else ratio


def _options(reading, clamped):
    """(the tensors that the text names, and the texts of the options, recon, x and logvar). clamped: with the clamps
    and the meanings that a loss should not have."""
    names, options = {}, ""
    if reading.likelihood.name != "bernoulli":
        options = f', likelihood="{reading.likelihood.name}"'
    if isinstance(reading.obs_logvar, torch.Tensor):
        names["obs_logvar"] = reading.obs_logvar
        options += ", obs_logvar=obs_logvar"
    elif reading.obs_logvar is not None:
        options += f", obs_logvar={reading.obs_logvar:.12g}"
    if clamped:
        reads, of_kl = reading.likelihood.clamped, reading.kl.clamped
    else:
        reads, of_kl = (
            tuple(PLAIN if bounded_logits(reading) else r for r in reading.likelihood.reads),
            reading.kl.reads,
        )
    texts = [meaning.of(part) for meaning, part in zip(reads, reading.parts, strict=False)]
    whole = all(r is PLAIN for r in reads) and len(reads) == len(reading.parts)
    if reading.logscale is not None:
        texts, whole = [*texts, f"{reading.first}.new_tensor({_plain(reading.logscale)})"], False
    recon = "recon" if whole else texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
    x = "x" if reading.same_shape else f"x.reshape({reading.first}.shape)"
    logvar = of_kl[0].of("logvar") if of_kl else "logvar"
    return names, options, recon, reading.likelihood.of_x.of(x), logvar


def _prior(reading):
    """The text of the options that belong to the KL."""
    options = ""
    if reading.kl.prior is not None:
        options += f", prior=({', '.join(f'mu.new_tensor({_plain(p)})' for p in reading.kl.prior)})"
    if reading.floor is not None and reading.floor.unit != "per_element":
        options += f', free_bits=vk.FreeBits({_plain(reading.floor.nats)}, "{reading.floor.unit}")'
    return options


def bounded_logits(reading):
    """Whether the loss squashes recon, and then reads the result as logits."""
    return reading.likelihood.argument in ("sigmoid", "tanh", "softmax") and reading.likelihood.name in LOGITS


LOGITS = [name for name, formula in ALL.items() if formula.PARAMETERS == ("logits",)]


def _plain(number):
    """A number without the digits of a rounding."""
    return (
        f"{float(f'{number:.6g}'):g}"
        if abs(number - float(f"{number:.6g}")) <= 1e-7 * abs(number)
        else f"{number:.12g}"
    )


def number(value, sizes):
    """A number as text. A fraction of a size is written as a fraction: 1 / 784 says more than 0.00127551020408."""
    for numerator in (1, 2):
        for name in ("D", "L", "B"):
            if sizes[name] > 2 and abs(abs(value) * sizes[name] - numerator) <= CLOSE * numerator:
                return f"{'-' if value < 0 else ''}{numerator} / {sizes[name]}"
    return f"{float(f'{value:.6g}')}" if abs(value - float(f"{value:.6g}")) <= 1e-7 * abs(value) else f"{value:.12g}"


def run(text, names, recon, x, mu, logvar, weight, latent_weight):
    """The value of a call's text for these arguments of a loss."""
    import vae_kernels as vk

    scope = {"vk": vk, "torch": torch, "recon": recon, "x": x, "mu": mu, "logvar": logvar}
    scope |= {"weight": weight, "latent_weight": latent_weight}
    return eval(text, {"__builtins__": {"len": len}}, scope | {k: v.to(mu.dtype) for k, v in names.items()})


WEIGHTS = "weight", "latent_weight"


def function(call, loss_fn, point, of_weights):
    """A call's text as a function with the arguments of the loss, for a training step: it is compiled once. None if the
    text needs a weight that the loss does not get.

    call: the result of equal() or meant(). of_weights: the names that the loss has for weight and latent_weight, or
    None.
    """
    import vae_kernels as vk

    text, names = call
    needed = set(compile(text, "call", "eval").co_names)
    if any(ours in needed and name is None for ours, name in zip(WEIGHTS, of_weights, strict=True)):
        return None
    own = _four_names(loss_fn)
    given = [name for name in of_weights if name is not None and name not in own]
    known = ["recon", "x", "mu", "logvar"]
    known += [ours for ours, name in zip(WEIGHTS, of_weights, strict=True) if name is not None]
    theirs = [*own, *(name for name in of_weights if name is not None)]
    lines = [f"def loss({', '.join([*own, *(f'{name}=None' for name in given)])}):"]
    if theirs != known:
        lines.append(f"    {', '.join(known)} = {', '.join(theirs)}")
    scope = {"vk": vk, "torch": torch, "__builtins__": {"len": len}}
    scope |= {name: t.to(point.mu.device, point.mu.dtype) for name, t in names.items()}
    exec("\n".join([*lines, f"    return {text}"]), scope)
    return scope["loss"]


def _four_names(loss_fn):
    """The names of the first four arguments of a loss, or ours if the loss has no such names."""
    called = loss_fn.forward if isinstance(loss_fn, torch.nn.Module) else loss_fn
    try:
        parameters = list(inspect.signature(called).parameters.values())[:4]
    except (TypeError, ValueError):  # a function that is not written in Python
        parameters = []
    named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return named if len(named) == 4 else ["recon", "x", "mu", "logvar"]
