"""The result of an audit, and how it reads."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Audit:
    """What audit() found.

    effective_beta  weight of the KL over that of the negative log-likelihood, both summed over a sample: a float, or a
                    tensor [latent dims] in float64; None if the loss has no such form
    likelihood      a name in vae_kernels.LIKELIHOODS, "none", or None if it is none of them
    reduction       "mean", "sum" or "none": of `equal`
    findings        [(level, sentence)], level "wrong", "note" or "fine"
    equal           the text of the call that equals the loss; None if there is none
    equal_error     the largest relative difference between them, in value and in each gradient
    meant           the text of the call that is probably meant; None if there is none
    meant_beta      the effective beta of that call, measured as that of the loss was
    """

    effective_beta: float | torch.Tensor | None
    likelihood: str | None
    reduction: str
    findings: list
    equal: str | None = None
    equal_error: float | None = None
    meant: str | None = None
    meant_beta: float | torch.Tensor | None = None

    def __str__(self):
        lines = [self._headline(), ""]
        lines += [f"  {level:5}  {sentence}" for level, sentence in self.findings]
        if self.equal is not None:
            error = f"largest relative difference, gradients included: {self.equal_error:.1g}"
            lines += ["", f"The same as ({error})", "", f"    {self.equal}"]
        if self.meant is not None and self.meant != self.equal:
            lines += [
                "",
                f"Probably meant (effective beta, measured: {shown(self.meant_beta)})",
                "",
                f"    {self.meant}",
            ]
        return "\n".join(lines)

    def _headline(self):
        if self.effective_beta is None:
            return "This is no weighted sum of a negative log-likelihood and a KL."
        name = (self.likelihood or "").replace("_", " ")
        if not isinstance(self.effective_beta, torch.Tensor) and self.effective_beta == 0:
            return f"This is a {name} likelihood without a KL: effective beta = 0."
        return f"This is -ELBO of a {name} likelihood with effective beta = {shown(self.effective_beta)}."


def shown(beta):
    """To three digits; the range of a beta that differs between dimensions."""
    if isinstance(beta, torch.Tensor):
        return f"{shown(beta.min().item())} to {shown(beta.max().item())}, by dimension"
    return f"{float(f'{beta:.3g}'):g}"
