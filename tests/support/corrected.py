"""The gradients that an op of a GPU corrects in place, against those of the backward pass: the bits must be equal."""

import cases
import layouts
import pixels
import torch

from vae_kernels.core import layout
from vae_kernels.core.objective import KlFloor
from vae_kernels.formulas import discretized_logistic_mixture
from vae_kernels.likelihoods import options_of

INCOMING = {
    "as expected": lambda expected: expected,
    "one differs": lambda expected: torch.where(torch.arange(len(expected)) == len(expected) - 1, 0.7, expected),
    "every third differs": lambda expected: torch.where(torch.arange(len(expected)) % 3 == 1, -0.7, expected),
    "a neighbour": lambda expected: expected.nextafter(torch.ones_like(expected)),
    "all differ": lambda expected: torch.rand(len(expected), generator=torch.Generator().manual_seed(5)).to(expected),
    "a NaN": lambda expected: torch.where(torch.arange(len(expected)) == 0, float("nan"), expected),
    "one number": lambda expected: torch.tensor(0.7).to(expected).expand(len(expected)),
}
MARK = 12345.0  # exact in every type of a gradient


def compare(
    kernels, likelihood, shape, dims, incoming, dtypes=cases.DTYPES[0], prior=False, weight=None, floor=False,
    device="cpu",
):  # fmt: skip
    """`kernels` has the ops by name: "elbo", "elbo_backward" and "correct_"."""
    x, params = cases.draw(likelihood, shape, dtypes)
    rows, g = shape[0], torch.Generator().manual_seed(2)
    latent = [torch.randn(rows, *dims, generator=g).to(dtypes[0]) for _ in range(4 if prior else 2)]
    x, params = layout.likelihood(x.to(device), tuple(p.to(device) for p in params))
    latent = [t.to(device) for t in latent]
    weights = [None, None]
    if weight is not None:
        weights = [cases.weight(t.shape, weight).to(device) for t in (x, latent[0])]
    of_floor = (None, None, 1.3, 0.7, float(sum(dims)), KlFloor.PER_SAMPLE if floor else KlFloor.NONE)
    need = (1 << len(params) + len(latent)) - 1
    request = (x, list(params), likelihood, latent, None, None, *weights, *of_floor, 0, need)
    expected = 1 / rows
    loss, *ahead = kernels["elbo"](*request, False, expected)
    mean = torch.full((rows,), expected, dtype=loss.dtype)
    grad = INCOMING[incoming](mean).to(device)
    differs = grad != mean.to(device)
    truth = kernels["elbo_backward"](grad, *request)
    marked = [t.clone() for t in ahead]
    for t in marked:
        t[~differs] = MARK
    for grads in (ahead, marked):
        kernels["correct_"](grads, grad, expected, *request)
    for corrected, t, anew in zip(ahead, marked, truth, strict=True):
        assert cases.same(corrected, anew)
        assert (t[~differs] == t.new_tensor(MARK)).all()  # rows where the expected number came are left as they are
        assert cases.same(t[differs], anew[differs])


def compare_pixels(
    kernels, likelihood, incoming, dtype=torch.float32, inner=False, weighted=False, shape=(7, 131), device="cpu"
):  # fmt: skip
    """The same for the ops "pixel", "pixel_backward" and "pixel_correct_"."""
    rows, positions = shape
    packed, x = pixels.draw(likelihood, rows, (positions,), dtype)
    if inner:
        packed, x = (layouts.LAYOUTS["innermost"](t) for t in (packed, x))
    packed, x = packed.to(device), x.to(device)
    weight = cases.weight((rows, 1, positions), torch.bool).to(device) if weighted else None
    numbers = [float(n) for n in discretized_logistic_mixture.numbers(*options_of(likelihood))]
    request, expected = (likelihood.name, x, packed, weight, numbers), 1 / rows
    nll, ahead = kernels["pixel"](*request, True, expected)
    mean = torch.full((rows,), expected, dtype=nll.dtype)
    grad = INCOMING[incoming](mean).to(device)
    differs = grad != mean.to(device)
    truth = kernels["pixel_backward"](grad, *request)
    marked = ahead.clone()
    marked[~differs] = MARK
    for out in (ahead, marked):
        kernels["pixel_correct_"](out, grad, expected, *request)
    assert cases.same(ahead, truth)
    assert (marked[~differs] == marked.new_tensor(MARK)).all() and cases.same(marked[differs], truth[differs])
