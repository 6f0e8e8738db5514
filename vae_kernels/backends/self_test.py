"""Whether a backend agrees with the formulas on a device. "auto" takes a GPU's kernels only if they agree."""

import functools

import torch

from ..core import noise
from ..core.objective import Draw, KlFloor, objective
from ..formulas.columns import KINDS, Columns
from . import reference


def disagreement(module, device):
    """None if the backend agrees with the reference in float64, else a text that says what is wrong.

    Compared are a small objective, the same with NaN under a mask, with free bits and by samples, the terms, a sample,
    a mixture, a table, pixels, and the gradients of all.
    The function waits for the device and takes the time of the first launches. It guards against kernels that are
    wrong on a machine. It does not measure rounding: the tests do, and allow far less than the 1e-4 of the largest
    value that is allowed here.
    """
    try:
        ours, truth = (
            _results(backend, device, dtype) for backend, dtype in ((module, torch.float32), (reference, torch.float64))
        )
    except Exception as error:  # whatever is wrong with the backend, the reference works
        return f"it does not run: {type(error).__name__}: {error}"
    for name in truth:
        off = (ours[name].double() - truth[name]).abs().max()
        if not off <= 1e-4 * truth[name].abs().max():  # also where it is NaN
            return f"its {name} is wrong by {off:.3g}, where the largest value is {truth[name].abs().max():.3g}"
    return None


def _results(module, device, dtype):
    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))
    rows, pixels, latents = 9, 1030, 21  # no multiple of any tile
    x = draw(rows, pixels).sigmoid().to(device, dtype)
    tensors = draw(rows, pixels), draw(rows, latents), draw(rows, latents)
    logits, mu, logvar = inputs = [t.to(device, dtype).requires_grad_() for t in tensors]
    rng = torch.tensor((1, 2), device=device)
    terms = module.elbo(objective(x, (logits,), "bernoulli", (mu, logvar), 1.0, 0.5, "mean", True))
    masks = [(draw(*t.shape) > 0).to(device) for t in (logits, mu)]
    holes = torch.where(masks[0], x, float("nan"))
    masked = module.elbo(objective(holes, (logits,), "bernoulli", (mu, logvar), 1.0, 0.5, "mean", True, *masks))
    floored = module.elbo(
        objective(x, (logits,), "bernoulli", (mu, logvar), reduction="none", nats=0.6, floor=KlFloor.PER_DIM)
    )
    # of the losses of these samples some get the incoming gradient that the kernels expect, 1 / rows, and some do not
    each = module.elbo(objective(x, (logits,), "bernoulli", (mu, logvar), reduction="none"))
    log_p = module.log_prob("bernoulli", x, (logits,))
    losses = 3 * terms.loss + 2 * masked.loss + each.mean() + each[2:4].sum() + (draw(rows).to(floored) * floored).sum()
    losses = losses + (draw(rows, pixels).to(log_p) * log_p).sum()
    z, kl_of_z = module.sample_kl(Draw(mu, logvar, (), rng, None, True))
    eps, _ = module.sample_kl(Draw(torch.zeros_like(mu), torch.zeros_like(mu), (), rng, None, False))
    if not torch.equal(eps.float().cpu(), noise.normals(rng.cpu(), eps.shape)):
        raise ArithmeticError("its noise is not that of the other backends")
    grads = torch.autograd.grad(losses + (z * z).sum() + kl_of_z.sum(), inputs)
    names = "loss", "nll", "kl", "KL of each dim"
    out = dict(zip(names, (terms.loss, *terms.parts()), strict=True))
    out |= dict(zip([f"masked {name}" for name in names], (masked.loss, *masked.parts()), strict=True))
    names = "losses", "floored losses", "log p", "z", "KL of z"
    out |= dict(zip(names, (each, floored, log_p, z, kl_of_z), strict=True))
    out |= dict(zip([f"gradient of {name}" for name in ("recon", "mu", "logvar")], grads, strict=True))
    log_p, *grads = _mixture(module, device, dtype, draw)
    names = [f"mixture's gradient of {name}" for name in ("z", "loc", "logvar", "log weight")]
    out |= {"log p of a mixture": log_p} | dict(zip(names, grads, strict=True))
    names = [f"table's {name}" for name in ("nll", "nll of a column", "gradient of packed", "gradient of logscale")]
    out |= dict(zip(names, _table(module, device, dtype, draw), strict=True))
    return out | dict(zip(("losses of pixels", "pixels' gradient"), _pixels(module, device, dtype, draw), strict=True))


def _mixture(module, device, dtype, draw):
    """log p and its gradients, under another incoming gradient for each of a few tiles of samples and components."""
    shapes = (150, 5), (70, 5), (70, 5), (70,)
    tensors = [draw(*shape).to(device, dtype).requires_grad_() for shape in shapes]
    log_p = module.mixture(*tensors, ahead=False)
    return log_p, *torch.autograd.grad(log_p, tensors, draw(150).to(log_p))


def _table(module, device, dtype, draw):
    """The terms of a table with all kinds of columns, and their gradients: of a few blocks of rows, of categories that
    take a few steps, with missing cells that hold NaN, and with another incoming gradient for each row."""
    rows, columns = 300, Columns((*KINDS[:-1], ("categorical", 2), ("categorical", 19)), False)
    x = draw(rows, columns.width).exp().round()  # counts are numbers too
    for _, width, at in columns.rows[-2:]:
        x[:, at : at + width] = torch.eye(width)[(draw(rows).abs() * width).long() % width]
    weight = draw(rows, columns.count) > -1
    x = torch.where(weight[:, columns.column_of_x], x, float("nan"))
    x, weight = x.to(device, dtype), weight.to(device)
    sizes = (rows, columns.width), (columns.count,)
    params = tuple((0.5 * draw(*size)).to(device, dtype).requires_grad_() for size in sizes)
    request = {"reduction": "none", "terms": True, "weight": weight, "options": (columns,)}
    terms = module.elbo(objective(x, params, columns.likelihood, (), **request))
    grads = torch.autograd.grad(terms.loss, params, draw(rows).to(terms.loss))
    return terms.nll, terms.nll_per_column, *grads


def _pixels(module, device, dtype, draw):
    """The losses of images of three channels and their gradient, where one sample gets another incoming gradient than
    the kernels expect."""
    x = (255 * draw(3, 3, 150).sigmoid()).round().to(device, dtype) / 255
    packed = draw(3, 20, 150).to(device, dtype).requires_grad_()
    options = 2, 256, 3, (0.0, 1.0), None
    request = objective(x, (packed,), "discretized_logistic_mixture", (), reduction="none", options=options)
    losses = module.elbo(request)
    return losses, *torch.autograd.grad(losses.mean() + losses[1], packed)
