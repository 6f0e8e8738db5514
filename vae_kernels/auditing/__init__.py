"""`vk.audit(loss_fn, example)`: what a loss that somebody wrote by hand really is."""

from collections.abc import Callable, Sequence

import torch

from ..typing import Recon
from . import calls, findings, probe
from .reading import read
from .report import Audit


def audit(loss_fn: Callable[..., torch.Tensor], example: Sequence[Recon], *, seed: int = 0) -> Audit:
    """Probe a loss of a variational autoencoder from outside, and say what it is:

        print(vk.audit(my_loss, (recon, x, mu, logvar)))

    The loss is called at drawn values of recon, mu and logvar (x is the example's), with a batch of two sizes, and its
    gradients are compared with those of the KL and of every likelihood of this package. So are found: the effective
    beta, which is the weight of a sample's KL over that of its negative log-likelihood, both in nats and summed over
    everything but the batch (beta of Higgins et al. 2017, equation 4; 1 is -ELBO); what is averaged over what;
    constants of the densities that are left out; a KL of the wrong sign; probabilities where logits are meant; targets
    that the likelihood does not have; and the entropy of soft targets, below which a Bernoulli's nll cannot fall. A
    squared error is read as a Gaussian of unit variance, unless the loss has the variance's own term.

    Args:
        loss_fn: a callable (recon, x, mu, logvar) -> loss, 0-d or [B]: without noise, and differentiable. If your loss
            takes other arguments, wrap it in a lambda.
        example: (recon, x, mu, logvar) of one batch, as the loss gets them. recon may be a tuple, or a mapping by the
            names of a likelihood's parameters. At least two samples, if the batch's part in the weights is to be told
            from the loss's own.
        seed: of the drawn values.

    Returns:
        Audit: `effective_beta` (None if the loss has no such form), `likelihood`, `reduction`, `findings`, and the
        texts `equal` and `meant` of two fused_elbo calls, each run before it is shown. str() of it is a report.

    Raises:
        TypeError, ValueError: the example, or what the loss gives, is not of that form. What the loss raises passes.
    """
    if not callable(loss_fn):
        raise TypeError(f"loss_fn: got {type(loss_fn).__name__}, expected a callable (recon, x, mu, logvar) -> loss")
    point = probe.point(example)
    reading = read(loss_fn, point, seed)
    found = findings.of(reading, point)
    name = reading.likelihood and reading.likelihood.name
    if reading.effective_beta is None:
        return Audit(None, name, calls.reduction(reading), found)
    equal, meant = (_callable(make(reading)) for make in (calls.equal, calls.meant))
    # near the prior and far from it, where another KL would have another weight
    elsewhere = max(_difference(loss_fn, equal, probe.synthetic(point, seed + 1, spread)) for spread in (0.2, 2.0))
    if not elsewhere <= SAME:
        what = "the weights of the terms differ from point to point, as with free bits or a capacity: no fixed beta"
        return Audit(None, name, calls.reduction(reading), [("wrong", what)])
    error = _difference(loss_fn, equal, point)
    if not error <= SAME:
        what = "on the example the loss is another than at drawn values: is something clamped, or not finite?"
        found.insert(0, ("wrong", what))
    return Audit(
        effective_beta=reading.effective_beta,
        likelihood=name,
        reduction=calls.reduction(reading),
        findings=found,
        equal=calls.equal(reading)[0],
        equal_error=max(elsewhere, error),
        meant=calls.meant(reading)[0],
        meant_beta=read(meant, point, seed).effective_beta,
    )


SAME = 1e-3  # relative: ten times what a weight may be off by


def _callable(call):
    """A loss function out of a call: its text, and the tensors that it names."""
    text, names = call
    return lambda recon, x, mu, logvar: calls.run(text, names, recon, x, mu, logvar)


def _difference(one, other, at):
    """The largest relative difference of two losses at a point, in value and in each gradient."""
    a, b = probe.measure(one, at), probe.measure(other, at)
    pairs = [(torch.tensor(a.value), torch.tensor(b.value)), (a.mu, b.mu), (a.logvar, b.logvar)]
    pairs += zip(a.recon, b.recon, strict=True)
    tiny = torch.finfo(torch.float64).tiny
    return torch.stack([((x - y).norm() / x.norm().clamp(min=tiny)).double() for x, y in pairs]).max().item()


__all__ = ["Audit", "audit"]
