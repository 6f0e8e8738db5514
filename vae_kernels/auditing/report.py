"""The result of an audit, and its text."""

from dataclasses import dataclass

import torch

from ..core.page import fragment, page, text
from .steps import StepTimes


@dataclass(frozen=True)
class Audit:
    """The result of audit().

    effective_beta  the weight of the KL divided by the weight of the negative log-likelihood, both summed over a
                    sample: a float, or a tensor [latent dims] in float64; None if the loss is no weighted sum of both.
                    With free bits, this is the weight of a KL above the free bits
    likelihood      a name in vae_kernels.LIKELIHOODS; "none" if recon has no gradient; None if no likelihood matches
    reduction       the reduction of `equal`: "mean", "sum" or "none"
    findings        [(level, sentence)], with the level "wrong", "note" or "fine"
    equal           the text of the call that equals the loss, or None if this package has no such call
    equal_error     the largest relative difference between this call and the loss, in value and in each gradient
    meant           the text of the call that the user probably means, or None. This call has sums, and beta = 1, or the
                    effective beta of the loss if the loss has a weight of its own
    meant_beta      the effective beta of this call, measured in the same way as that of the loss
    step            what the loss costs in the training step, and what `equal` gains there; None without step=
    """

    effective_beta: float | torch.Tensor | None
    likelihood: str | None
    reduction: str
    findings: list
    equal: str | None = None
    equal_error: float | None = None
    meant: str | None = None
    meant_beta: float | torch.Tensor | None = None
    step: StepTimes | None = None

    def __str__(self):
        lines = [self._headline(), ""]
        lines += [f"  {level:5}  {sentence}" for level, sentence in self.findings]
        if self.equal is not None:
            error = f"largest relative difference, gradients included: {self.equal_error:.1g}"
            lines += ["", f"The same as ({error})", "", f"    {self.equal}"]
        if self.meant is not None and self.meant != self.equal:
            lines += ["", self._meaning(), "", f"    {self.meant}"]
        if self.step is not None:
            rows = self.step.rows()
            width = max(len(what) for what, _ in rows)
            lines += ["", "In your training step", "", *(f"    {what:{width}}  {value}" for what, value in rows)]
        return "\n".join(lines)

    def _repr_html_(self):
        """The report for a notebook: the headline, a line for each finding, and the calls."""
        return fragment(self._body())

    def html(self, title: str = "Audit of a loss") -> str:
        """The report as the text of one HTML page, without other files, network or scripts."""
        return page(title, f"<header><h1>{text(title)}</h1></header>\n<main>\n{self._body()}\n</main>")

    def _body(self):
        level = max((level for level, _ in self.findings), key=("fine", "note", "wrong").index, default="fine")
        lines = [f'<section class="banner {level}"><h2>{text(self._headline())}</h2></section>']
        for level, sentence in self.findings:
            lines.append(f'<p class="{level}"><span class="level">{level}</span> {text(sentence)}</p>')
        if self.equal is not None:
            error = f"largest relative difference, gradients included: {self.equal_error:.1g}"
            lines.append(f"<p>The same as ({text(error)})</p><pre><code>{text(self.equal)}</code></pre>")
        if self.meant is not None and self.meant != self.equal:
            lines.append(f"<p>{text(self._meaning())}</p><pre><code>{text(self.meant)}</code></pre>")
        if self.step is not None:
            rows = "".join(f"<dt>{text(what)}</dt><dd>{text(value)}</dd>\n" for what, value in self.step.rows())
            lines.append(f"<h2>In your training step</h2>\n<dl>\n{rows}</dl>")
        return "\n".join(lines)

    def _meaning(self):
        """The heading of the call that is meant. A call with another effective beta is never shown as the same loss."""
        ours, theirs = shown(self.meant_beta), shown(self.effective_beta)
        if ours == theirs:
            return f"Probably meant (its effective beta is the same, {ours})"
        return f"Probably meant (attention: its effective beta is {ours}, and that of your loss is {theirs})"

    def _headline(self):
        if self.effective_beta is None:
            return "This loss has no fixed effective beta. The findings say why."
        name = (self.likelihood or "").replace("_", " ")
        if not isinstance(self.effective_beta, torch.Tensor) and self.effective_beta == 0:
            return f"This is a {name} likelihood without a KL: effective beta = 0."
        return f"This is -ELBO of a {name} likelihood with effective beta = {shown(self.effective_beta)}."


def shown(beta):
    """A beta with three digits. A beta that differs between dimensions is shown as its range."""
    if isinstance(beta, torch.Tensor):
        return f"{shown(beta.min().item())} to {shown(beta.max().item())}, by dimension"
    return f"{float(f'{beta:.3g}'):g}"
