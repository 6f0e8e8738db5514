"""Tables of mixed columns: columns, values, and the comparison of a backend with the formulas in float64."""

import cases
import torch

import vae_kernels as vk
from vae_kernels.formulas.columns import KINDS

Mixed = vk.likelihoods.Mixed
COUNTS = "poisson", "negative_binomial"
NUMBERS = KINDS[:-1]  # all kinds but "categorical"
# Each kind alone; all kinds in no order; widths around those that the loop treats alike (64 numbers, 128 categories),
# and over one run of sums (1024); many columns, which are more numbers than a task has (4096).
TABLES = {
    **{str(column): (column, column) for column in NUMBERS},
    "categorical": (("categorical", 2), ("categorical", 5)),
    "one": ("gaussian",),
    "all": (*NUMBERS, ("categorical", 3), *NUMBERS[::-1], ("categorical", 17), ("categorical", 3)),
    "wide": (("categorical", 128), "gaussian", ("categorical", 129), ("categorical", 1500), "poisson"),
    "long": (("categorical", 40), "gaussian"),
    "strips": (*["gaussian"] * 63, ("categorical", 2), ("categorical", 64), ("categorical", 65), "laplace"),
    "many": (*NUMBERS, ("categorical", 9)) * 310,
}
# One row and none, around the 32 rows of a block, several blocks and tasks
ROWS = [1, 0, 31, 32, 33, 70, 500]
FORMS = {
    "none": None,
    "number": lambda b, c: (),
    "column": lambda b, c: (c,),
    "one row": lambda b, c: (1, c),
    "sample": lambda b, c: (b, 1),
    "cell": lambda b, c: (b, c),
}
WEIGHTS = {name: form for name, form in FORMS.items() if form is not None}


def draw(columns, rows, codes=False, dtype=torch.float32, form="column", seed=0):
    """(likelihood, x, params): x in float64, the parameters of this type, and logscale of this form."""
    g = torch.Generator().manual_seed(seed)
    likelihood = Mixed(columns, codes=codes)
    packed = 1.5 * torch.randn(rows, likelihood.width, generator=g, dtype=torch.float64)
    params = (packed.to(dtype),)
    if FORMS[form] is not None:
        shape = FORMS[form](rows, len(columns))
        params = (*params, (0.7 * torch.randn(shape, generator=g, dtype=torch.float64)).to(dtype))
    x = (
        likelihood.sample(tuple(p.double() for p in params), generator=g)
        if rows
        else packed[:, : likelihood.plan.x_width]
    )
    return likelihood, x, params


def outcome(likelihood, x, params, incoming, **settings):
    """[nll, *gradients of the parameters] under an incoming gradient [B], or 0-d for another reduction."""
    leaves = [p.detach().requires_grad_() for p in params]
    nll = vk.nll(tuple(leaves), x, likelihood=likelihood, **settings)
    grads = torch.autograd.grad(nll, leaves, incoming.to(nll.dtype))
    for leaf, grad in zip(leaves, grads, strict=True):
        assert grad.dtype == leaf.dtype and grad.shape == leaf.shape
    return [nll.detach(), *grads]


def compare(backend, likelihood, x, params, weight=None, reduction="none", given=None):
    """Compares value and gradients of a backend with float64. The budget is twice the error of plain PyTorch in the
    same types. `given`: (x, params) for the backend in place of those, where missing cells hold anything."""
    g = torch.Generator().manual_seed(7)
    incoming = torch.randn(len(x) if reduction == "none" else (), generator=g, dtype=torch.float64).to(x.device)
    settings = {"reduction": reduction}
    true_weight = weight if weight is None or weight.dtype == torch.bool else weight.double()
    wide = [p.double() for p in params]
    true = outcome(likelihood, x.double(), wide, incoming, backend="torch", weight=true_weight, **settings)
    theirs = outcome(likelihood, x, params, incoming, backend="torch", weight=weight, **settings)
    ours = outcome(likelihood, *(given or (x, params)), incoming, backend=backend, weight=weight, **settings)
    counts = any(column in COUNTS for column in likelihood.columns)  # more roundings than other formulas
    sizes = dict(
        zip(("nll", "packed", "logscale"), (0.0, *sizes_of(likelihood, x.double(), wide, incoming)), strict=True)
    )
    for name, *values in zip(sizes, ours, theirs, true, strict=False):
        size = sizes[name]
        if name == "logscale" and values[0].shape != size.shape:
            summed = size.sum(0) if values[0].dim() < 2 or values[0].shape[0] == 1 else size.sum(1, keepdim=True)
            size = (summed.sum() if values[0].dim() == 0 else summed).view(values[0].shape)
        cases.check(*values, params[0].dtype, name, "poisson" if counts else None, size)
    return ours


def sizes_of(likelihood, x, params, incoming):
    """For each number of packed, and each cell of logscale, the size of the terms whose difference the gradient is: a
    count and its mean, or x and a tanh, which is rounded. 0 for other columns."""
    rows, (packed, *given) = len(x), params
    of_packed, of_cell = x.new_zeros(rows, likelihood.width), x.new_zeros(rows, len(likelihood.columns))
    logscale = (given[0] if given else of_cell).expand(of_cell.shape)
    for c, column in enumerate(likelihood.columns):
        at = likelihood.plan.rows[c][2]
        p, value = packed[:, at], x[:, c if likelihood.codes else at]
        if column in COUNTS:
            of_packed[:, at] = of_cell[:, c] = value + p.exp() * (1 + p.abs())
        elif isinstance(column, tuple) and column[1] == "tanh":
            loc, precision = p.tanh(), (-logscale[:, c]).exp()
            terms = (loc.abs() + value.abs()) * precision
            if column[0] == "gaussian":
                of_packed[:, at] = terms * precision * (1 - loc * loc)
                terms = terms * 2 * (value - loc).abs() * precision
            of_cell[:, c] = terms
    incoming = incoming.abs().reshape(-1, 1)
    return of_packed * incoming, of_cell * incoming
