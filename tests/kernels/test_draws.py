"""n_samples=: K draws of z for each x, against the same call with K copies of x, and against K calls."""

import math

import cases
import pixels
import pytest
import repeated
import rows
import tables
import torch
from cases import same
from known import BACKENDS
from repeated import copies
from torch.utils._python_dispatch import TorchDispatchMode

import vae_kernels as vk
from vae_kernels import backends
from vae_kernels.backends import compiled as ops
from vae_kernels.core import draws

close = torch.testing.assert_close
pytestmark = pytest.mark.usefixtures("poisoned")

K = 3
# (5,): no event. (5, 3): several samples in one block, which hold the end of x and its beginning again. Wide rows.
SHAPES = [(5,), (5, 3), (1, 7), (2, 1), (4, 2, 3, 5), (3, 131), (2, 1031), (0, 4), (3, 0)]
FAST = [name for name in BACKENDS if name != "triton"]
KERNELS = [name for name in BACKENDS if name != "torch"]  # which copy neither x nor its weight


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(likelihood, shape, k=K, seed=0, dtypes=cases.DTYPES[0]):
    """x [B, ...], and the parameters [K, B, ...] of the likelihood."""
    x, _ = cases.draw(likelihood, shape, dtypes, seed=seed)
    each = [cases.draw(likelihood, shape, dtypes, seed=seed + 1 + i)[1] for i in range(k)]
    return x, [torch.stack(parts) for parts in zip(*each, strict=True)]


def outcome(function, recon, incoming):
    """The result under an incoming gradient, and the gradients of the parts of recon."""
    leaves = [p.detach().requires_grad_() for p in recon]
    result = function(tuple(leaves) if len(leaves) > 1 else leaves[0])
    return [result.detach(), *torch.autograd.grad(result, leaves, incoming.reshape(result.shape).to(result.dtype))]


def compare(x, recon, weight=None, **settings):
    """nll with n_samples and nll of copies of x have the same bits, and so have their gradients."""
    k, batch = recon[0].shape[:2]
    incoming = torch.randn(k, batch, generator=generator(9))
    total = settings.pop("log_total", None)
    given = {"weight": weight, "log_total": total, "n_samples": k}
    ours = outcome(lambda p: vk.nll(p, x, **given, **settings), recon, incoming)
    assert ours[0].shape == (k, batch)
    by_sample = weight is not None and weight.dim() == x.dim() and weight.shape[0] == batch
    weight = copies(weight, k) if by_sample else weight
    total = None if total is None else copies(total, k)
    theirs = outcome(
        lambda p: vk.nll(p, copies(x, k), weight=weight, log_total=total, **settings),
        [p.flatten(0, 1) for p in recon],
        incoming,
    )
    for a, b in zip(ours, theirs, strict=True):
        assert same(a.flatten(0, 1), b.reshape(a.flatten(0, 1).shape))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), cases.pairs(BACKENDS))
def test_the_bits_are_those_of_copies(backend, likelihood, shape):
    x, recon = drawn(likelihood, shape)
    compare(x, recon, likelihood=likelihood, backend=backend)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("shape", [(5, 3, 2, 2), (4, 2, 7, 13)], ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), [(b, "gaussian") for b in BACKENDS] + [("cpu", "poisson")])
def test_weights(backend, likelihood, shape, form, dtype):
    x, recon = drawn(likelihood, shape)
    weight = cases.weight(cases.WEIGHTS[form](shape), dtype)
    if form == "pixel":  # a weight that is laid out anew
        x, recon = x.contiguous(memory_format=torch.channels_last), recon
    compare(x, recon, weight, likelihood=likelihood, backend=backend)


@pytest.mark.parametrize("k", [1, 2, 70])
@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
@pytest.mark.parametrize("backend", FAST)
def test_types(backend, dtypes, k):
    x, recon = drawn("gaussian", (3, 37), k, dtypes=dtypes)
    compare(x, recon, likelihood="gaussian", backend=backend)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", KERNELS)  # without "torch", whose sums follow the memory order
def test_layouts(backend, layout):
    lay = cases.LAYOUTS[layout]
    x, recon = drawn("gaussian", (4, 2, 3, 5))
    compare(lay(x), recon, likelihood="gaussian", backend=backend)
    recon = [lay(p.flatten(0, 1)).unflatten(0, p.shape[:2]) for p in recon]
    compare(x, recon, cases.weight(x.shape, torch.float32), likelihood="gaussian", backend=backend)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 5), (3, 700)], ids=str)
def test_positions(backend, shape):
    x = torch.randint(7, shape, generator=generator())
    logits = torch.randn(K, shape[0], 7, *shape[1:], generator=generator(1))
    for weight in (
        None,
        torch.rand(shape, generator=generator(2)) > 0.3,
        torch.rand(shape[0], *[1] * (len(shape) - 1)),
    ):
        compare(x, [logits], weight, likelihood="categorical", backend=backend)
    inner = logits.movedim(2, -1).contiguous().movedim(-1, 2)
    compare(x, [inner], likelihood="categorical", backend=backend)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("byte", [False, True])
def test_pixels(backend, inner, byte):
    likelihood = pixels.Mixture(components=2)
    x = torch.randint(256, (2, 3, 4, 5), generator=generator())
    x = x.to(torch.uint8) if byte else x / 255
    packed = torch.randn(K, 2, 20, 4, 5, generator=generator(1))
    if inner:
        packed = packed.movedim(2, -1).contiguous().movedim(-1, 2)
    for weight in (None, torch.rand(2, 1, 4, 5, generator=generator(2)), torch.rand(2, 1, 1, 1), torch.rand(1, 4, 5)):
        compare(x, [packed], weight, likelihood=likelihood, backend=backend)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("batch", [5, 40])
def test_tables(backend, batch, codes):
    """40 rows: a block of 32 rows holds the end of the table and its beginning again."""
    likelihood, x, params = tables.draw(tables.TABLES["all"], batch, codes)
    packed = torch.stack([tables.draw(tables.TABLES["all"], batch, codes, seed=i)[2][0] for i in range(K)])
    x = x.float()
    for form in ("none", "number", "column", "sample", "cell"):
        weight = None if form == "none" else torch.rand(tables.FORMS[form](batch, len(likelihood.columns)))
        compare(x, [packed, params[1].expand(K, batch, -1)], weight, likelihood=likelihood, backend=backend)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", rows.NAMES)
def test_rows(backend, name):
    shape = (5, 37)
    total = None if name == "multinomial" else torch.randn(5, generator=generator(3))
    if name == "multinomial":
        x, recon = torch.randint(9, shape, generator=generator()).float(), [torch.randn(K, *shape)]
    else:
        x, recon = drawn(name, shape)
    for weight in (None, cases.weight((5, 1), torch.float32), cases.weight(shape, torch.float32)):
        if name != "multinomial" or weight is None or weight.shape[1] == 1:
            compare(x, recon, weight, likelihood=name, backend=backend, log_total=total)


class Operations(TorchDispatchMode):
    """The names of all operations that touch data."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not function.is_view:
            self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


@pytest.mark.skipif("triton" not in BACKENDS, reason="triton cannot be run here")
@pytest.mark.parametrize(
    "case", [c if c in repeated.QUICK else pytest.param(c, marks=pytest.mark.full) for c in repeated.CASES]
)
def test_the_ops_of_triton(case):
    """Forward, backward, and the gradients that are corrected in place."""
    backends.choose("triton", ())
    repeated.CASES[case](ops.KERNELS["triton"])


@pytest.mark.parametrize("backend", KERNELS)
def test_nobody_copies_x_or_its_weight(backend, monkeypatch):
    """What autograd keeps of x is x, and what the op reads is x too."""
    monkeypatch.setattr(draws, "_copies", None)
    x, mask = torch.rand(4, 9), torch.rand(4, 9) > 0.3
    recon, kept = torch.randn(K, 4, 9, requires_grad=True), []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
    with Operations() as made, hooks:
        nll = vk.nll(recon, x, weight=mask, n_samples=K, backend=backend)
        torch.autograd.grad(nll, recon, torch.rand(K, 4))
    if backend == "cpu":  # the interpreter of Triton copies all arguments
        assert not [name for name in made.names if any(word in name for word in ("copy", "clone", "repeat", "index"))]
    sizes = {tuple(t.shape) for t in kept}
    assert sizes == {(4, 9), (K * 4, 9)} and {x.data_ptr(), mask.data_ptr()} <= {t.data_ptr() for t in kept}


@pytest.mark.parametrize("backend", [name for name in KERNELS if name != "lean"])  # which has no ops
@pytest.mark.parametrize("rows", [2, 4, 0])
def test_the_ops_refuse_samples_that_do_not_fit(backend, rows):
    backends.choose(backend, ())
    kernels = ops.KERNELS["triton" if backend == "triton" else "compiled"]
    x, logits = torch.rand(rows, 5), torch.randn(3, 5)
    rest = [], None, None, None, None, None, None, 1.0, 1.0, 1.0, 0, 0, 0
    text = f"x has {rows} samples beside 3"
    with pytest.raises((RuntimeError, ValueError), match=text):
        kernels["elbo"](x, [logits], "bernoulli", *rest, False, 1.0)
    levels = torch.zeros(rows, dtype=torch.int64)
    with pytest.raises((RuntimeError, ValueError), match=text):
        kernels["position"]("categorical", levels, logits, None)
    name, packed, options = "discretized_logistic_mixture", torch.randn(3, 20, 5), [256.0, 0.0, 1.0, -math.inf]
    with pytest.raises((RuntimeError, ValueError), match=text):
        kernels["pixel"](name, torch.rand(rows, 3, 5), packed, None, options, False, 1.0)
    cells = torch.zeros(rows, 2), torch.zeros(3, 2), torch.zeros(2), None, tables.Mixed(("gaussian",) * 2).plan
    with pytest.raises((RuntimeError, ValueError), match=text):
        kernels["segments"](*cells[:-1], cells[-1].table("cpu"), 3, 1.0)


@pytest.mark.skipif("cpu" not in BACKENDS, reason="there is no compiled library")
def test_the_ops_refuse_pixels_and_positions_that_do_not_fit():
    options = [256.0, 0.0, 1.0, -math.inf]
    for x, packed in ((torch.rand(2, 3, 5), torch.randn(2, 20, 10)), (torch.rand(1, 3, 17), torch.randn(1, 20, 34))):
        with pytest.raises(RuntimeError, match="packed and x are no pixels in the same order"):
            torch.ops.vae_kernels.pixel_log_prob("discretized_logistic_mixture", x, packed, options)
    levels = torch.zeros(2, 7, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="logits and x are not positions in the same order"):
        torch.ops.vae_kernels.position("categorical", levels, torch.randn(2, 4, 6), None)


@pytest.mark.parametrize("backend", FAST)
def test_a_missing_element_is_missing_in_all_draws(backend):
    """NaN in x, and in every draw of recon, where the mask is False."""
    x, recon = drawn("gaussian", (5, 9))
    mask = torch.rand(5, 9, generator=generator(3)) > 0.4
    clean = vk.nll(tuple(recon), x, likelihood="gaussian", weight=mask, n_samples=K, backend=backend)
    spoiled = [torch.where(mask, p, math.nan).requires_grad_() for p in recon]
    nll = vk.nll(tuple(spoiled), torch.where(mask, x, math.nan), likelihood="gaussian", weight=mask, n_samples=K,
                 backend=backend)  # fmt: skip
    assert same(nll, clean)
    for grad in torch.autograd.grad(nll.sum(), spoiled):
        assert grad.isfinite().all() and (grad[:, ~mask] == 0).all() and (grad[:, mask] != 0).any()


@pytest.mark.parametrize("backend", FAST)
def test_samples_of_one_pixel(backend):
    """x [B, 3]: the kernels take all samples as the pixels of one sample."""
    x, packed = torch.rand(5, 3, generator=generator()), torch.randn(K, 5, 20, generator=generator(1))
    for weight in (None, torch.rand(5, 1, generator=generator(2)), torch.rand(5, 1, generator=generator(3)) > 0.5):
        compare(x, [packed], weight, likelihood=pixels.Mixture(components=2), backend=backend)
