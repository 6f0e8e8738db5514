"""`vk.audit(loss_fn, example)`: finds out which objective a handwritten loss computes."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..typing import Recon
from . import calls, findings, fit, floors, gradients, probe, samplers, steps
from .reading import read
from .report import Audit


def audit(
    loss_fn: Callable[..., torch.Tensor],
    example: Sequence[Recon],
    *,
    weight: torch.Tensor | None = None,
    latent_weight: torch.Tensor | None = None,
    sample: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    step: Callable[[Callable[..., torch.Tensor]], Any] | None = None,
    seed: int = 0,
) -> Audit:
    """Call a loss of a variational autoencoder, and report which objective it computes:

        print(vk.audit(my_loss, (recon, x, mu, logvar)))

    The audit calls the loss about fifty times: with random values of recon, mu and logvar and the x of the example,
    with another batch size, with shorter axes, with extreme values. It compares the gradients of the loss with the
    gradients of the KL and of every likelihood of this package. The audit finds:

    - the effective beta: the weight of a sample's KL divided by the weight of its negative log-likelihood, both in nats
      and summed over everything but the batch (beta of Higgins et al. 2017, equation 4; 1 is -ELBO)
    - which sums the loss turns into means: over the batch, the elements of x, the latent dimensions, or single axes;
      and which constants of the loss equal one of these sizes
    - constants of the densities that the loss leaves out
    - a KL with the wrong sign, a KL that lacks a part, free bits or a capacity; gradients that are missing
    - how the loss reads its arguments: as probabilities, variances, log sigma; sigmoids and clamps inside the loss
    - targets outside the likelihood's support
    - the entropy of soft targets: the nll of a Bernoulli cannot be less
    - with a weight: whether the loss uses the weight, what the sum is divided by, and a NaN at elements of weight 0

    The audit reads a squared error as a Gaussian of unit variance, unless the loss contains the logarithm of the
    variance.

    Args:
        loss_fn: a callable (recon, x, mu, logvar) -> loss, 0-d or [B], differentiable. It may draw noise only for the
            KL. If your loss takes other arguments, wrap it in a lambda.
        example: the (recon, x, mu, logvar) that the loss gets for one batch. recon may be a tuple, or a mapping by the
            names of a likelihood's parameters. With one sample only, the audit cannot tell how the weights depend on
            the batch size.
        weight: None, or a mask or weights that broadcast to x, as fused_elbo takes them. The audit then compares your
            loss with our loss with this weight. Your loss gets the weight as its argument `weight` or `mask`, or as its
            fifth argument if this argument has no default. A loss without such an argument gets only the four
            arguments, because it may find the missing elements in x: a NaN, or the level -100 of
            torch.nn.functional.cross_entropy.
        latent_weight: the same for the KL: None, or a mask or weights that broadcast to mu. The loss gets this weight
            as its argument `latent_weight` or `latent_mask`.
        sample: None, or the function (mu, logvar) -> z of your model. The audit then says whether its noise is N(0, 1),
            and whether the standard deviation of z is that of the KL.
        step: None, or a function step(loss) that trains your model for one step with this loss. It must call
            loss(recon, x, mu, logvar) where it calls your loss now. The audit runs some hundred steps, with your loss
            and with the equal call in turns. These steps train the model further. If your model must not change, give a
            step that trains a copy.
        seed: the seed of the random values.

    Returns:
        Audit: `effective_beta` (None if the loss is no weighted sum of a likelihood and a KL), `likelihood`,
        `reduction`, `findings`, and the texts `equal` and `meant` of two fused_elbo calls. The audit has run each of
        these calls. With step=, `step` has the share of the loss in your step, the most that any loss can gain by
        Amdahl's law, the gain that was measured, and the largest difference of the two losses over 100 steps. str() of
        the Audit is a report, and html() is the same report as a page.

    Raises:
        TypeError, ValueError: the example or the result of the loss has another form. The audit does not catch an error
            of the loss itself.
    """
    if not callable(loss_fn):
        raise TypeError(f"loss_fn: got {type(loss_fn).__name__}, expected a callable (recon, x, mu, logvar) -> loss")
    if step is not None:
        steps.check(step)
    point = probe.point(example, weight, latent_weight)
    loss, names = probe.taking_weights(loss_fn, point)
    result, call = _audited(loss, point, names, sample, seed)
    if step is None:
        return result
    swapped = None if call is None else calls.function(call, loss_fn, point, names)
    if swapped is None:
        sentence = "step: not measured, because no call of this package equals the loss and takes the same arguments"
        return replace(result, findings=findings.ordered([*result.findings, ("note", sentence)]))
    return replace(result, step=steps.measured(step, loss_fn, swapped))


def _audited(loss_fn, point, names, sample, seed):
    """(the Audit, the call that equals the loss as (text, tensors that the text names), or None)"""
    point, poison = _without_poison(loss_fn, point, seed)
    reading, moving, apart = _read(loss_fn, point, seed)
    found = [*poison, *findings.of_gradients(loss_fn, point, seed, apart, reading)]
    found += findings.of(reading, point, names, moving, apart)
    if sample is not None:
        found += samplers.findings_of(sample, probe.synthetic(point, seed), reading.kl)
    name = reading.likelihood and reading.likelihood.name
    if moving or reading.effective_beta is None or (reading.floor is not None and reading.floor.below):
        return Audit(None, name, calls.reduction(reading), findings.ordered(found)), None
    call, error = None if apart else calls.equal(reading), None
    if call is not None:
        equal = _callable(call)
        elsewhere = max(_difference(loss_fn, equal, probe.synthetic(point, seed + 1, spread)) for spread in SPREADS)
        if not elsewhere <= SAME:
            sentence = "the loss has a part that is no likelihood, no KL and no constant: there is no one beta"
            return Audit(None, name, calls.reduction(reading), findings.ordered([*found, ("wrong", sentence)])), None
        error = _difference(loss_fn, equal, point)
        if not error <= SAME:
            sentence = "on the example the loss is another than at drawn values: is something clamped, or not finite?"
            found.append(("wrong", sentence))
        error = max(elsewhere, error)
    meant = calls.meant(reading)
    result = Audit(
        effective_beta=reading.effective_beta,
        likelihood=name,
        reduction=calls.reduction(reading),
        findings=findings.ordered(found),
        equal=call and call[0],
        equal_error=error,
        meant=meant and meant[0],
        meant_beta=meant and read(_callable(meant), point, seed, reading.floor, ours=True).effective_beta,
    )
    return result, call


# Points near the prior and far from the prior: free bits or a capacity give the KL another weight there.
SPREADS = (0.01, 0.2, 2.0)


def _read(loss_fn, point, seed):
    """(the Reading, the terms whose weight changes from point to point, the result of gradients.detached())"""
    apart = gradients.detached(loss_fn, probe.synthetic(point, seed))
    reading = read(loss_fn, point, seed)
    moving = _moving(loss_fn, reading, point, seed)
    silent = reading.kl is not None and reading.kl.name == "none" and reading.used  # all of the KL may be below a floor
    if reading.sampled is None and (reading.kl is None or "KL" in moving or silent):
        floor = floors.find(loss_fn, probe.synthetic(point, seed))
        if floor is not None:
            return read(loss_fn, point, seed, floor), [name for name in moving if name != "KL"], apart
    return reading, moving, apart


def _moving(loss_fn, reading, point, seed):
    """The names of the terms that have another weight near the prior, or far from the prior."""
    names = {"reconstruction": reading.likelihood}
    if reading.sampled is None:  # the weight of a sampled KL is measured at several points already
        names["KL"] = reading.kl
    found = []
    for name, term in names.items():
        if term is None or term.name == "none":
            continue
        for spread in SPREADS:
            at = probe.synthetic(point, seed + 1, spread)
            weight = fit.again(term, probe.measure(loss_fn, at), at)
            if name not in found and (weight is None or not fit.matches(weight, term.weight)):
                found.append(name)
    return found


SAME = 1e-3  # relative: ten times the error that a weight may have (fit.CLOSE)


def _callable(call):
    """A loss function from a call: the text of the call, and the tensors that the text names."""
    text, names = call
    return functools.partial(calls.run, text, names)


def _without_poison(loss_fn, point, seed):
    """(the point, findings). If the x of weight 0 makes the loss or a gradient NaN or infinite, this x is 0 in the
    point."""
    filled = point.filled()
    if point.weight is None or probe.measure(loss_fn, probe.synthetic(point, seed)).finite():
        return point, []
    if not probe.measure(loss_fn, probe.synthetic(filled, seed)).finite():
        return point, []
    sentence = (
        "what x holds where its weight is 0 makes the loss or its gradients NaN or infinite, as 0 * NaN is NaN: "
        "torch.where(weight != 0, x, 0) before the loss. Here x is 0 there from now on"
    )
    return filled, [("wrong", sentence)]


def _difference(one, other, at):
    """The largest relative difference of two losses at a point, in value and in each gradient."""
    a, b = probe.measure(one, at), probe.measure(other, at)
    pairs = [(torch.tensor(a.value), torch.tensor(b.value)), (a.mu, b.mu), (a.logvar, b.logvar)]
    pairs += zip(a.recon, b.recon, strict=True)
    tiny = torch.finfo(torch.float64).tiny
    return torch.stack([((x - y).norm() / x.norm().clamp(min=tiny)).double() for x, y in pairs]).max().item()


__all__ = ["Audit", "audit"]
