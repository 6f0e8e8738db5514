"""All that compete in a case. An objective is a function (params, x, mu, logvar) -> (loss, z or None)."""

from dataclasses import dataclass
from typing import Any

import torch

from .. import functional
from . import rivals

EAGER, COMPILE, OURS, COPY = "eager", "torch.compile", "vae_kernels", "copy"


@dataclass(frozen=True)
class Contender:
    """kind: EAGER, COMPILE or OURS; name: which of these; mode: of torch.compile."""

    kind: str
    name: str
    objective: Any
    mode: str | None = None

    def ready(self):
        """The objective, compiled anew if that is what it is."""
        if self.mode is None:
            return self.objective
        return torch.compile(self.objective, mode=self.mode, dynamic=False)


def contenders(case, modes=("default",), few=False, backends=("auto",)):
    """The contenders of a case. modes: of torch.compile; few: only the best eager form; backends: ours to time."""
    eager = eagers(case)
    if few:
        eager = dict([next(iter(eager.items()))])
    first, objective = next(iter(eager.items()))
    found = [Contender(EAGER, name, f) for name, f in eager.items()]
    found += [Contender(COMPILE, first if m == "default" else f"{first}, {m}", objective, m) for m in modes]
    for backend in backends:
        mine = ours(case, backend)
        if few:
            mine = dict([next(iter(mine.items()))])
        suffix = "" if backend == "auto" else f", {backend}"
        found += [Contender(OURS, name + suffix, f) for name, f in mine.items()]
    return found


def eagers(case):
    """{name: objective}, the best first."""
    if case.part == "sample":
        return {"by hand": rivals.sample_alone}
    key, sampled = (case.likelihood, case.outputs), case.part == "objective"
    found = {name: rivals.by_hand(f, case.likelihood, sampled) for name, f in rivals.rivals(*key).items()}
    found["torch.distributions"] = rivals.with_distributions(*key, sampled)
    if sampled:  # Pyro's estimator always samples
        found["Pyro"] = rivals.with_pyro(*key)
    return {name: f for name, f in found.items() if f is not None}


def ours(case, backend):
    """{name: objective}, the best first."""
    likelihood = case.likelihood

    def packed(params):
        return params[0] if len(params) == 1 else params

    def loss(params, x, mu, logvar):
        return functional.fused_elbo(packed(params), x, mu, logvar, likelihood=likelihood, backend=backend), None

    def drop_in(params, x, mu, logvar):
        return loss(params, x, mu, logvar)[0], rivals.sample_by_hand(mu, logvar)

    def sampled(params, x, mu, logvar):
        z, kl = functional.sample_kl(mu, logvar, backend=backend)
        return functional.fused_elbo(packed(params), x, kl=kl, likelihood=likelihood, backend=backend), z

    def sample(params, x, mu, logvar):
        z, kl = functional.sample_kl(mu, logvar, reduction="mean", backend=backend)
        return kl, z

    return {
        "objective": {"sample_kl + fused_elbo": sampled, "fused_elbo, z by hand": drop_in},
        "loss": {"fused_elbo": loss},
        "sample": {"sample_kl": sample},
    }[case.part]
