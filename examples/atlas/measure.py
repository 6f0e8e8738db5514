"""Measures a loss of the atlas: one row of bench/results/atlas/losses.csv."""

import csv
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

import vae_kernels as vk

from .case import CASES, Case, Loss, place

FIELDS = ("package", "version", "loss", "place", "settings", "how", "likelihood", "shape", "effective_beta", "averaged",
          "noise_std", "kl_gradient", "differs", "beside", "equal", "error", "read_by", "note", "python", "torch",
          "vae_kernels", "command")  # fmt: skip
SAME = 1e-3  # relative; as in vk.audit
SAMPLES = 100_000  # of the noise: the standard error of its standard deviation is 0.2 %


def row(case: Case) -> dict:
    """The measured row of a case whose package is installed."""
    loss = case.adapter()
    found = audited(loss)
    if found["effective_beta"] == "" and loss.likelihood:
        found |= by_gradients(loss)
    return {
        "package": case.package,
        "version": case.version,
        "loss": case.loss,
        "place": place(case.package, loss.function),
        "settings": loss.settings,
        "how": loss.how,
        "shape": shape(loss.example),
        "noise_std": "" if loss.sample is None else f"{noise_std(loss):.3g}",
        "kl_gradient": kl_gradient(loss),
        "beside": loss.beside,
        "note": loss.note,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vae_kernels": vk.__version__,
        "command": f'python examples/audit_atlas.py "{case.package}"',
        **found,
    }


def audited(loss: Loss) -> dict:
    """What vk.audit says."""
    audit = vk.audit(loss.call, loss.example)
    averaged = [text for _, text in audit.findings if is_of_averages(text)]
    differs = [text for level, text in audit.findings if level != "fine" and not is_of_averages(text)]
    return {
        "likelihood": audit.likelihood or "",
        "effective_beta": shown(audit.effective_beta),
        "averaged": "; ".join(averaged),
        "differs": "; ".join(differs),
        "equal": audit.equal or "",
        "error": "" if audit.equal_error is None else f"{audit.equal_error:.1g}",
        "read_by": "vk.audit",
    }


def is_of_averages(text):
    """Whether a finding of vk.audit says which sums the loss turns into means."""
    return text.startswith("reconstruction ") or (" batch" in text and " by " in text) or "over the batch" in text


def shown(beta):
    if beta is None:
        return ""
    if isinstance(beta, torch.Tensor):
        return f"{shown(beta.min().item())} to {shown(beta.max().item())}"
    return f"{float(f'{beta:.4g}'):g}"


def shape(example):
    """ "batch x elements / latents" """
    _, x, mu, _ = example
    return f"{len(x)} x {'x'.join(map(str, x.shape[1:]))} / {'x'.join(map(str, mu.shape[1:]))}"


def noise_std(loss):
    """The standard deviation of the noise of the package's sample of z: of (z - mu) / exp(logvar / 2), expected 1."""
    mu, logvar = loss.example[2:]
    repeats = (1 + SAMPLES // mu.numel(),) + (1,) * (mu.dim() - 1)
    mu, logvar = mu.double().repeat(repeats), logvar.double().repeat(repeats)
    torch.manual_seed(0)
    return ((loss.sample(mu, logvar) - mu) / torch.exp(logvar / 2)).std().item()


@dataclass(frozen=True)
class Gradients:
    """The gradients of a loss by recon, mu and logvar, in float64; zeros where there is none."""

    recon: torch.Tensor
    latent: torch.Tensor  # [2, ...]: by mu and logvar


def gradients(function, example, dtype=torch.float64):
    """The Gradients, in float64, or in float32 if the loss refuses float64."""
    recon, x, mu, logvar = example
    parts = recon.values() if isinstance(recon, dict) else recon if isinstance(recon, tuple) else (recon,)
    *parts, mu, logvar = leaves = [t.to(dtype, copy=True).requires_grad_() for t in (*parts, mu, logvar)]
    given = parts[0]
    if isinstance(recon, (dict, tuple)):
        given = dict(zip(recon, parts, strict=True)) if isinstance(recon, dict) else tuple(parts)
    torch.manual_seed(0)
    try:
        value = function(given, x.to(dtype), mu, logvar).sum()
    except RuntimeError:
        if dtype == torch.float32:
            raise
        return gradients(function, example, torch.float32)
    found = torch.autograd.grad(value, leaves, materialize_grads=True, allow_unused=True)
    return Gradients(torch.cat([g.flatten() for g in found[:-2]]), torch.stack(found[-2:]))


def kl_gradient(loss):
    """Which of mu and logvar have a gradient by the loss itself."""
    by_mu, by_logvar = gradients(loss.call, loss.example).latent
    names = [name for name, grad in (("mu", by_mu), ("logvar", by_logvar)) if grad.any()]
    return {2: "yes", 1: f"only {names[0]}" if names else "", 0: "no"}[len(names)]


def by_gradients(loss: Loss) -> dict:
    """The weights of the likelihood and of the KL by least squares of the gradients, for a likelihood that vk.audit
    does not read. The effective beta is left out if the gradients of a term are no multiple of ours."""
    half = tuple(t[::2] for t in loss.example)
    (rec, kl), (rec_half, kl_half) = (weights(loss, example) for example in (loss.example, half))
    found = {"likelihood": loss.likelihood if rec else "", "read_by": "gradients", "averaged": "", "differs": ""}
    if rec is None or kl is None:
        apart = "mu and logvar are not those of the KL to N(0, I)" if rec else "recon are not those of the likelihood"
        return found | {"differs": f"the gradients of {apart}, times a number"}
    powers = {
        name: round(torch.tensor(b / a).log2().item()) for name, a, b in (("nll", rec, rec_half), ("KL", kl, kl_half))
    }
    size = len(loss.example[1]) if powers["nll"] == 1 else 1
    text = f'vk.fused_elbo(recon, x, mu, logvar, likelihood="{loss.likelihood}"'
    options = {"beta": kl * size, "rec_weight": rec * size}
    for name, value in options.items():
        text += "" if abs(value - 1) < 1e-4 else f", {name}={value:.6g}"
    reduction = "mean" if size > 1 else "sum"

    def ours(recon, x, mu, logvar):
        return vk.fused_elbo(recon, x, mu, logvar, likelihood=loss.likelihood, reduction=reduction, **options)

    theirs, same = gradients(loss.call, loss.example), gradients(ours, loss.example)
    error = max(difference(a, b) for a, b in ((theirs.recon, same.recon), (theirs.latent, same.latent)))
    words = {0: "summed over", 1: "averaged over"}
    return found | {
        "effective_beta": shown(kl / rec),
        "averaged": "; ".join(f"the {n} is {words.get(p, f'of power -{p} of')} the batch" for n, p in powers.items()),
        "equal": f"{text})" if size > 1 else f'{text}, reduction="sum")',
        "error": f"{error:.1g}",
    }


def weights(loss, example):
    """(the weight of the nll, the weight of the KL), both of a sum over the batch; None where no number fits."""

    def nll(recon, x, mu, logvar):
        return vk.nll(recon, x, likelihood=loss.likelihood, reduction="sum")

    def kl(recon, x, mu, logvar):
        return vk.gaussian_kl(mu, logvar, reduction="sum")

    found = gradients(loss.call, example)
    return multiple(found.recon, gradients(nll, example).recon), multiple(found.latent, gradients(kl, example).latent)


def multiple(grad, truth):
    """The number w with grad = w truth, or None."""
    weight = ((grad * truth).sum() / (truth * truth).sum()).item()
    return weight if difference(grad, weight * truth) < SAME else None


def difference(a, b):
    """The relative difference of two gradients."""
    return ((a - b).norm() / a.norm()).item() if a.any() else b.norm().item()


def saved(rows: list[dict], path: Path) -> list[dict]:
    """Writes the rows into the CSV in place of the rows of the same losses. The other rows stay."""
    kept = read(path) if path.exists() else []
    measured = {(r["package"], r["loss"]): r for r in [*kept, *rows]}
    keys = [(case.package, case.loss) for case in CASES]
    result = [measured[key] for key in keys if key in measured]  # a loss that the atlas has no more is left out
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(result)
    return result


def read(path: Path) -> list[dict]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
