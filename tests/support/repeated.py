"""The ops with K samples of the parameters for each sample of x, against the same ops with K copies of x and of its
weight: the bits must be equal."""

import cases
import layouts
import pixels
import tables
import torch
from forms import of_form

from vae_kernels.core import layout
from vae_kernels.formulas import discretized_logistic_mixture
from vae_kernels.likelihoods import options_of

K = 3
MASK, WEIGHT = torch.bool, torch.float32


def copies(t, k=K):
    """t [B, ...] k times, one copy after the other, in the memory order of t."""
    return layout.copies(t, k)


def _of_each(weight, x):
    """Whether a weight has a number for each sample of x."""
    return weight is not None and weight.dim() == x.dim() and weight.shape[0] == x.shape[0]


def _same(run, x, weight):
    """run(x, weight) gives tensors. They have the same bits beside x and beside its copies."""
    ours = run(x, weight)
    theirs = run(copies(x), copies(weight) if _of_each(weight, x) else weight)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert cases.same(a, b)


def _weight(form, dtype, shape):
    return None if form is None else _weights(of_form(shape, form).shape, dtype)


def _weights(shape, dtype):
    """Every third is 0: one number in three, or one sample in three."""
    w = torch.rand(shape, generator=torch.Generator().manual_seed(3)) + 0.1
    w[torch.arange(w.numel()).view(shape) % 3 == 1] = 0
    return w.to(dtype)


def _incoming(rows, dtype=torch.float32):
    """What mean() sends back, and another number for every third sample."""
    expected = 1 / rows
    return expected, torch.where(torch.arange(rows) % 3 == 1, -0.7, torch.full((rows,), expected, dtype=dtype))


def elements(ops, likelihood="gaussian", shape=(5, 37), form="element", weight=(None, None), dtypes=cases.DTYPES[0],
             log_total=False):  # fmt: skip
    """elbo with all gradients, elbo_backward and, where no gradient is a sum, correct_. form: of the parameters beside
    the first."""
    rows = K * shape[0]
    x, params = cases.draw(likelihood, (rows, *shape[1:]), dtypes, cases.FORMS.get(form))
    ones = [1] * (len(shape) - 1)
    total = torch.randn(rows, *ones, generator=torch.Generator().manual_seed(3)) if log_total else None
    need = (1 << len(params) + log_total) - 1
    expected, grad = _incoming(rows, torch.float64 if dtypes[0] == torch.float64 else torch.float32)

    def run(x, weight):
        request = x, list(params), likelihood, [], None, None, weight, None, None, total, 1.0, 1.0, 0.0, 0, 0, need
        loss, terms, *ahead = ops["elbo"](*request, True, expected)
        out = [loss, terms, *[g.clone() for g in ahead], *ops["elbo_backward"](grad, *request)]
        if "correct_" in ops and form == "element" and not log_total and likelihood != "multinomial":
            ops["correct_"](ahead, grad, expected, *request)
            out += ahead
        return out

    _same(run, x[: shape[0]].clone(), _weight(*weight, shape))


def levels(ops, shape=(4, 3), n=7, inner=False, weight=(None, None)):
    """position and position_backward, of n levels."""
    rows, g = K * shape[0], torch.Generator().manual_seed(0)
    logits = torch.randn(rows, n, *shape[1:], generator=g)
    if inner:
        logits = logits.movedim(1, -1).contiguous().movedim(-1, 1)
    _, grad = _incoming(rows)

    def run(x, weight):
        nll, kept = ops["position"]("categorical", x, logits, weight)
        return nll, kept, ops["position_backward"](grad, "categorical", x, logits, weight, kept)

    _same(run, torch.randint(n, shape, generator=g), _weight(*weight, shape))


def of_pixels(ops, shape=(2, 11), inner=False, weight=(None, None), channels=3, of_x=torch.uint8):
    """pixel with its gradient, pixel_backward and pixel_correct_. shape: the batch and the pixels."""
    likelihood, rows = pixels.Mixture(components=2, channels=channels), K * shape[0]
    packed, x = pixels.draw(likelihood, rows, shape[1:], of_x=of_x)
    if inner:
        packed, x = (layouts.LAYOUTS["innermost"](t) for t in (packed, x))
    numbers = [float(n) for n in discretized_logistic_mixture.numbers(*options_of(likelihood))]
    expected, grad = _incoming(rows)

    def run(x, weight):
        request = likelihood.name, x, packed, weight, numbers
        nll, ahead = ops["pixel"](*request, True, expected)
        out = [nll, ahead.clone(), ops["pixel_backward"](grad, *request)]
        if "pixel_correct_" in ops:
            ops["pixel_correct_"](ahead, grad, expected, *request)
            out.append(ahead)
        return out

    _same(run, x[: shape[0]], _weight(*weight, (shape[0], 1, *shape[1:])))


def table(ops, rows=3, codes=False, form="column", weight=None):
    """segments and segments_backward. weight: a name in tables.FORMS, or None."""
    likelihood, x, (packed, logscale) = tables.draw(tables.TABLES["all"], K * rows, codes, form=form)
    columns = likelihood.plan
    _, grad = _incoming(K * rows)

    def run(x, weight):
        request = x, packed, logscale, weight, columns.table(x.device)
        return [*ops["segments"](*request, 3, 1.0), *ops["segments_backward"](grad, *request, 3)]

    weight = None if weight is None else _weights(tables.FORMS[weight](rows, columns.count), WEIGHT)
    _same(run, x[:rows].float(), weight)


# name -> what is compared, of a mapping of ops by their names. The cases are small: an interpreter is slow.
CASES = {
    "elements": lambda ops: elements(ops),
    "several samples in a tile": lambda ops: elements(ops, shape=(5, 3), weight=("element", MASK)),
    "one sample of x": lambda ops: elements(ops, shape=(1, 7), weight=("sample", WEIGHT)),
    "a parameter for all": lambda ops: elements(ops, form="column", weight=("row", WEIGHT)),
    "a parameter of each sample": lambda ops: elements(ops, shape=(5, 2, 3, 3), form="sample", weight=("number", MASK)),
    "bf16 and bytes": lambda ops: elements(ops, "bernoulli", (3, 261), dtypes=cases.DTYPES[7]),
    "float64": lambda ops: elements(ops, "gaussian", (3, 65), dtypes=cases.DTYPES[1], weight=("sample", MASK)),
    "rows of poisson counts": lambda ops: elements(ops, "poisson", log_total=True, weight=("element", WEIGHT)),
    "rows of poisson alike": lambda ops: elements(ops, "poisson", log_total=True, weight=("sample", WEIGHT)),
    "levels": lambda ops: levels(ops, weight=("element", MASK)),
    "levels inside": lambda ops: levels(ops, inner=True, weight=("sample", WEIGHT)),
    "levels of one position": lambda ops: levels(ops, (5,), weight=("element", WEIGHT)),
    "pixels": lambda ops: of_pixels(ops, weight=("element", MASK)),
    "grey pixels": lambda ops: of_pixels(ops, (2, 3), weight=("element", MASK), channels=1),
    "pixels inside": lambda ops: of_pixels(ops, inner=True, weight=("sample", WEIGHT), of_x=torch.float32),
    "a table": lambda ops: table(ops, weight="cell"),
    "a table of codes": lambda ops: table(ops, codes=True, form="cell", weight="sample"),
}
QUICK = "elements", "several samples in a tile", "rows of poisson alike", "levels", "levels of one position", "a table"
