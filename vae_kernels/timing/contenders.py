"""The contenders of a case. An objective is a function (params, x, mu, logvar) -> (loss, z or None)."""

import functools
from dataclasses import dataclass
from typing import Any

import torch

from .. import densities, distributions, functional
from ..formulas import ALL, PIXEL
from . import helpers, masks, rivals

EAGER, COMPILE, OURS, COPY = "eager", "torch.compile", "vae_kernels", "copy"
OPTIONS = {"cpp_wrapper": {"cpp_wrapper": True}}  # what torch.compile takes as options, and not as a mode
MODES = "default", "lite", "reduce-overhead", "max-autotune", *OPTIONS  # "lite" is new in PyTorch 2.13
BY_SAMPLE = ADDED, MEAN = "(nll + kl).mean()", "nll.mean()"  # our ways that give each sample its loss first


@dataclass(frozen=True)
class Contender:
    """kind: EAGER, COMPILE or OURS. name: the name among the contenders of this kind. mode: of torch.compile, one of
    MODES."""

    kind: str
    name: str
    objective: Any
    mode: str | None = None

    def ready(self):
        """The objective, or a newly compiled one if the contender has a mode."""
        if self.mode is None:
            return self.objective
        return compiled(self.objective, self.mode)


def known_modes():
    """The MODES that this PyTorch has."""
    import torch._inductor as inductor  # its import takes a second

    return tuple(mode for mode in MODES if mode in OPTIONS or mode in inductor.list_mode_options())


def compiled(function, mode):
    """torch.compile of a function for one shape. mode: one of MODES."""
    if mode in OPTIONS:
        return torch.compile(function, options=OPTIONS[mode], dynamic=False)
    return torch.compile(function, mode=mode, dynamic=False)


def contenders(case, modes=("default",), few=False, backends=("auto",)):
    """The contenders of a case. modes: of torch.compile. few: only the best eager form, our first way to write the case
    and our way by samples. backends: our backends to time."""
    eager = eagers(case)
    if few:
        eager = dict([next(iter(eager.items()))])
    first, objective = next(iter(eager.items()))
    found = [Contender(EAGER, name, f) for name, f in eager.items()]
    found += [Contender(COMPILE, first if m == "default" else f"{first}, {m}", objective, m) for m in modes]
    for backend in backends:
        mine = ours(case, backend)
        if few:
            mine = {name: f for i, (name, f) in enumerate(mine.items()) if i == 0 or name in BY_SAMPLE}
        suffix = "" if backend == "auto" else f", {backend}"
        found += [Contender(OURS, name + suffix, f) for name, f in mine.items()]
    return found


def eagers(case):
    """{name: objective}, the best first."""
    if case.part == "sample":
        return {"by hand": rivals.sample_alone}
    if case.part == "decomposition":
        return {"by hand": helpers.decomposition_by_hand(case.batch)}
    if case.part in masks.PARTS:
        return masks.by_hand(case)
    key, sampled = (case.likelihood, case.outputs), case.part == "objective"
    if case.part == "terms":
        in_torch = rivals.in_distributions(*key)
        found = rivals.rivals(*key) if in_torch is None else {"torch.distributions": in_torch}
        found["plain formula"] = rivals.plain_formula(case.likelihood)  # torch's result may be wrong, and is not timed
        return {name: rivals.nll_alone(f, case.likelihood) for name, f in found.items()}
    if case.part in ("nll", "free bits"):
        made = {"nll": rivals.nll_alone, "free bits": helpers.free_bits_by_hand}[case.part]
        found = rivals.rivals(*key) | {"torch.distributions": rivals.in_distributions(*key)}
        return {name: made(f, case.likelihood) for name, f in found.items() if f is not None}
    found = {name: rivals.by_hand(f, case.likelihood, sampled) for name, f in rivals.rivals(*key).items()}
    found["torch.distributions"] = rivals.with_distributions(*key, sampled)
    if sampled:  # Pyro's estimator always samples
        found["Pyro"] = rivals.with_pyro(*key)
    return {name: f for name, f in found.items() if f is not None}


def ours(case, backend):
    """{name: objective}: the ways to write the objective with this library. The README's way is the first."""
    settings = {"likelihood": case.likelihood, "backend": backend}

    def packed(params):
        return params[0] if len(params) == 1 else params

    if case.part in masks.PARTS:
        return {"nll, weight": masks.ours(case, backend)}

    def nll(params, x, mu, logvar):
        return functional.nll(packed(params), x, reduction="mean", **settings), None

    def terms(params, x, mu, logvar):
        return -densities.log_prob(packed(params), x, **settings).sum() / len(x), None

    def in_distributions(params, x, mu, logvar):
        named = dict(zip(ALL[case.likelihood].PARAMETERS, params, strict=False))
        made = distributions.BY_LIKELIHOOD[case.likelihood].from_recon(named, backend=backend, validate_args=False)
        return -made.log_prob(x.movedim(1, -1) if case.likelihood in PIXEL else x).sum() / len(x), None

    def nll_of_each(params, x, mu, logvar):
        return functional.nll(packed(params), x, **settings).mean(), None

    def loss(params, x, mu, logvar):
        return functional.fused_elbo(packed(params), x, mu, logvar, **settings), None

    def drop_in(params, x, mu, logvar):
        return loss(params, x, mu, logvar)[0], rivals.sample_by_hand(mu, logvar)

    def sampled(params, x, mu, logvar):
        z, kl = functional.sample_kl(mu, logvar, backend=backend)
        return functional.fused_elbo(packed(params), x, kl=kl, **settings), z

    def added(params, x, mu, logvar):
        z, kl = functional.sample_kl(mu, logvar, backend=backend)
        return (functional.nll(packed(params), x, **settings) + kl).mean(), z

    def sample(params, x, mu, logvar):
        z, kl = functional.sample_kl(mu, logvar, reduction="mean", backend=backend)
        return kl, z

    return {
        "objective": {
            "sample_kl + fused_elbo": sampled,
            ADDED: added,
            "fused_elbo, z by hand": drop_in,
        },
        "loss": {"fused_elbo": loss},
        "nll": {"nll, mean": nll, MEAN: nll_of_each},
        "terms": {"log_prob": terms, "distributions": in_distributions},
        "free bits": {"fused_elbo, free_bits": functools.partial(helpers.free_bits, **settings)},
        "decomposition": {"kl_decomposition": functools.partial(helpers.decomposition, backend=backend)},
        "sample": {"sample_kl": sample},
    }[case.part]
