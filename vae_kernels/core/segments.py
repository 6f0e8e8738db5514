"""A table of columns: the checks of x, recon and the weight, which read shape, dtype and device alone, as in checks.py,
and their layouts."""

from typing import Any

import torch

from ..likelihoods import by_name, labels_of
from . import checks, layout, weights

# The largest integer up to which a type holds all integers. The other types hold every code.
_HOLDS = {
    torch.bool: 1,
    torch.int8: 127,
    torch.uint8: 255,
    torch.bfloat16: 256,
    torch.float16: 2048,
    torch.int16: 32767,
}


def laid_out(recon, x, likelihood, obs_logvar, log_total, beside=None) -> Any:
    """x and (packed, logscale), checked, as the kernels read them. beside: None, or a tensor with as many samples as
    recon, in place of x."""
    checks.likelihood(likelihood)  # the name alone has no columns
    if obs_logvar is not None:
        raise ValueError(
            f"obs_logvar: has no effect with likelihood={likelihood.name!r}; give recon=(packed, logscale)"
        )
    if log_total is not None:
        raise ValueError(f"log_total: has no effect with likelihood={likelihood.name!r}")
    if _is_plain(recon, x, likelihood.plan):
        return x, recon
    check_target(x, likelihood)
    packed, logscale = parameters(recon, likelihood, x if beside is None else beside)
    return layout.row_major(layout.readable(x)), (layout.row_major(packed), logscale)


def _is_plain(recon, x, plan):
    """Whether the checks would find no error, and the kernels read the tensors as they are. Written to be fast."""
    if type(recon) is not tuple or len(recon) != 2 or not checks.plain((*recon, x)):
        return False
    rows, widths = recon[0].shape[0], (plan.x_width, plan.width)
    return (x.shape, recon[0].shape, recon[1].shape) == ((rows, widths[0]), (rows, widths[1]), (plan.count,))


def check_target(x, likelihood):
    """x [B, columns] of numbers and codes, or [B, width] with one-hot categories."""
    plan = likelihood.plan
    checks.tensor("x", x, checks.TARGETS)
    if x.dim() != 2 or x.shape[1] != plan.x_width:
        form = "one number for each column" if plan.codes else "K numbers for a categorical column, which is one-hot"
        hint = ""
        if x.dim() == 2 and x.shape[1] == (plan.width if plan.codes else plan.count):
            hint = f"; Mixed(..., codes={not plan.codes}) takes this x"
        raise ValueError(f"x: got shape {tuple(x.shape)}, expected (B, {plan.x_width}): {form}{hint}")
    most = plan.most_categories
    if plan.codes and x.dtype in _HOLDS and most - 1 > _HOLDS[x.dtype]:
        raise TypeError(f"x: got dtype {x.dtype}, which does not hold all codes of {most} categories")


def joined(numbers, codes, plan):
    """x [B, columns] of the numbers and the codes, each in the order of the columns."""
    if not plan.codes:
        raise ValueError("join: makes x with one number for each column; expected Mixed(..., codes=True)")
    checks.tensor("numbers", numbers, checks.TARGETS)
    checks.tensor("codes", codes, checks.LEVELS)
    checks.on_device_of("numbers", numbers, "codes", codes)
    of_codes = [c for group in plan.groups if group.is_categorical for c in group.columns]
    places = {"codes": sorted(of_codes), "numbers": sorted({*range(plan.count)} - {*of_codes})}
    rows = numbers.shape[0] if numbers.dim() else "B"
    for name, t in (("numbers", numbers), ("codes", codes)):
        if t.dim() != 2 or t.shape != (rows, len(places[name])):
            with_without = "with" if name == "codes" else "without"
            expected = f"({rows}, {len(places[name])}), one for each column {with_without} categories"
            raise ValueError(f"{name}: got shape {tuple(t.shape)}, expected {expected}")
    dtype = torch.float64 if numbers.dtype == torch.float64 else torch.float32
    x = numbers.new_empty((numbers.shape[0], plan.count), dtype=dtype)
    x[:, plan.places(tuple(places["numbers"]), x.device)] = numbers.to(dtype)
    x[:, plan.places(tuple(places["codes"]), x.device)] = codes.to(dtype)
    return x


def parameters(recon, likelihood, x=None):
    """packed [B, width], and logscale [columns] or [B, columns], whose last dimension lies in one run of memory."""
    plan = likelihood.plan
    given = by_name(recon, likelihood)
    labels = labels_of(recon, given)
    for name, p in given.items():
        checks.tensor(labels[name], p)
        checks.on_device_of("recon", given["packed"], labels[name], p)
    packed, logscale = given["packed"], given.get("logscale")
    if x is not None:
        checks.on_device_of("x", x, labels["packed"], packed)
    rows = "B" if x is None else x.shape[0]  # len() would make a constant of it in torch.export
    if packed.dim() != 2 or packed.shape[1] != plan.width or (x is not None and packed.shape[0] != rows):
        raise ValueError(
            f"{labels['packed']}: got shape {tuple(packed.shape)}, expected ({rows}, {plan.width}): K logits for each "
            "categorical column, and one number for each other column"
        )
    if logscale is None:
        dtype = torch.float64 if packed.dtype == torch.float64 else torch.float32
        return packed, packed.new_zeros(plan.count, dtype=dtype)
    shape = logscale.shape
    fits = len(shape) <= 2 and all(n in (1, m) for n, m in zip(reversed(shape), (plan.count, packed.shape[0])))  # noqa: B905
    if not fits:
        raise ValueError(
            f"{labels['logscale']}: got shape {tuple(shape)}, expected ({plan.count},), one number for each column, or "
            f"one that broadcasts to ({packed.shape[0]}, {plan.count})"
        )
    return packed, _against(logscale, (packed.shape[0], plan.count))


def _against(logscale, shape):
    """logscale as [columns], or as [B, columns] where the samples differ."""
    if logscale.dim() == 2 and logscale.shape[0] == 1:
        logscale = logscale[0]
    whole = shape if logscale.dim() == 2 else shape[1:]
    if logscale.shape != whole:
        logscale = layout.wide(logscale).expand(whole)
    return layout.row_major(logscale) if logscale.dim() == 2 else logscale.contiguous()


def terms(x, columns):
    """A tensor of the shape of the terms, [B, columns], that takes no memory."""
    return x.new_empty(()).expand(x.shape[0], columns.count)


def weight(weight, x, columns):
    """The weight of the terms: 0-d, [columns], [B, 1] or [B, columns]."""
    weights.check("weight", weight, terms(x, columns), "the terms", "rec_weight")
    if weight.dim() == 2 and weight.shape[0] == 1:
        weight = weight[0]
    if weight.numel() == 1 and weight.dim() < 2:
        return weight.reshape(())
    return layout.row_major(weight) if weight.dim() == 2 else weight.contiguous()
