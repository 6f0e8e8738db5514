"""The ops themselves: torch's opcheck, and fakes that agree with the real results in everything but the values.
Compilers depend on the fakes."""

import itertools

import pytest
import torch
from known import BACKENDS, compiled
from torch.library import opcheck

import vae_kernels as vk
from vae_kernels.core import layout
from vae_kernels.core.objective import KlFloor

OPS = torch.ops.vae_kernels
PREFIXES = [prefix for prefix, backend in (("", "cpu"), ("triton_", "triton")) if backend in BACKENDS]
NAMES = [name + part for name in ("elbo", "sample", "position", "mixture") for part in ("", "_backward")] + ["log_prob"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def channels_last(t):
    return t.contiguous(memory_format=torch.channels_last)


def objective(params=1, latent=2, *, shape=(4, 3, 5), dims=(6,), dtype=torch.float32, form=None, order=None, x=None):
    """(x, params, likelihood, latent) as the op takes them, in the layouts that functional.py makes."""
    recon = [torch.randn(shape, dtype=dtype) for _ in range(params)]
    if order is not None:
        recon = [order(p) for p in recon]
    if form is not None:
        recon[1] = torch.randn(form, dtype=dtype)
    latents = [torch.randn(shape[0], *dims, dtype=dtype) for _ in range(latent)]
    if latent == 2 and order is not None:
        latents = torch.randn(shape[0], 2 * dims[0], dtype=dtype).chunk(2, 1)  # gaps between rows, as halves have them
    target = torch.rand(shape) if x is None else x(shape)
    if recon:
        target, recon = layout.likelihood(target, tuple(recon))
    latents = layout.latent(tuple(latents)) if latent else ()
    return target if recon else None, list(recon), "gaussian" if params == 2 else "bernoulli", list(latents)


def rows_apart(t):
    return torch.cat([t, t], 1)[:, : t.shape[1]]


OBJECTIVES = {
    "plain": lambda: objective(),
    "double": lambda: objective(dtype=torch.float64),
    "half": lambda: objective(dtype=torch.bfloat16),
    "uint8": lambda: objective(x=lambda shape: torch.randint(256, shape, dtype=torch.uint8)),
    "channels_last": lambda: objective(shape=(4, 3, 5, 2), order=channels_last),
    "rows apart": lambda: objective(2, order=rows_apart),
    "number": lambda: objective(2, form=()),
    "row": lambda: objective(2, form=(3, 5)),
    "channel": lambda: objective(2, form=(3, 1)),
    "sample": lambda: objective(2, form=(4, 1, 1)),
    "bool": lambda: objective(x=lambda shape: torch.rand(shape) > 0.5),
    "elements": lambda: objective(2, dims=(2, 3)),
    "prior": lambda: objective(latent=4),
    "kl": lambda: objective(latent=1, dims=()),
    "kl of dims": lambda: objective(latent=1),
    "no latent": lambda: objective(latent=0),
    "no likelihood": lambda: objective(params=0),
    "empty batch": lambda: objective(shape=(0, 3)),
}
ROWS = {  # (likelihood, its parameters, whether there is a log_total, settings of objective())
    "rows": ("negative_binomial", 2, True, {}),
    "rows of a gene": ("zinb", 3, True, {"form": (3, 5), "dtype": torch.bfloat16}),
    "rows of poisson": ("poisson", 1, True, {"shape": (4, 3, 5, 2), "order": channels_last}),
    "rows of one dim": ("poisson", 1, True, {"shape": (4,), "dtype": torch.float64}),
    "rows given their sums": ("multinomial", 1, False, {}),
    "empty rows": ("multinomial", 1, False, {"shape": (0, 3)}),
}


def row_arguments(name, reduction=1, need=None, terms=True):
    likelihood, params, with_total, settings = ROWS[name]
    x, params, _, latent = objective(params, x=lambda shape: torch.randint(4, shape), **settings)
    log_total = torch.randn(x.shape[0], *[1] * (x.dim() - 1)) if with_total else None
    need = (1 << len(params) + len(latent) + with_total) - 1 if need is None else need
    weights = None, None, None, None, None, log_total, 1.0, 1.0, 0.0, 0
    return x, params, likelihood, latent, *weights, reduction, need, terms, 1.0


WEIGHTS = {  # functions of the shapes of x and mu: four weights, nats, their factors, the floor
    "floats": lambda x, mu: (None, None, None, None, None, 0.5, 2.0, 0.0, 0),
    "tensors": lambda x, mu: (torch.tensor(0.5), torch.tensor(2.0), None, None, None, 1.0, 1.0, 0.0, 0),
    "by dim": lambda x, mu: (None, torch.rand(mu[1:]), None, None, None, 1.0, 1.0, 0.0, 0),
    "masks": lambda x, mu: (None, None, torch.rand(x) > 0.5, torch.rand(mu) > 0.5, None, 1.0, 1.0, 0.0, 0),
    "by sample": lambda x, mu: (
        None,
        None,
        torch.rand(x[0], *[1] * (len(x) - 1)),
        torch.rand(mu[1:]),
        None,
        1.0,
        1.0,
        0.0,
        0,
    ),
    "by feature": lambda x, mu: (
        None,
        None,
        torch.rand(x[1:]),
        torch.rand(mu[0], *[1] * (len(mu) - 1)),
        None,
        1.0,
        1.0,
        0.0,
        0,
    ),
    "one weight": lambda x, mu: (
        None,
        None,
        torch.tensor(2.0, dtype=torch.float64),
        torch.tensor(True),
        None,
        1.0,
        1.0,
        0.0,
        0,
    ),
    "floor": lambda x, mu: (None, None, None, None, None, 1.0, 2.0, 0.3, KlFloor.PER_GROUP),
    "floor of samples": lambda x, mu: (None, None, None, None, torch.tensor(0.5), 1.0, 1.0, 2.0, KlFloor.PER_SAMPLE),
}


def elbo_arguments(name, weights="floats", reduction=1, need=None, terms=True):
    x, params, likelihood, latent = OBJECTIVES[name]()
    weights = WEIGHTS[weights](*(t.shape if t is not None else () for t in (x, latent[0] if latent else None)))
    need = (1 << len(params) + len(latent)) - 1 if need is None else need
    return x, params, likelihood, latent, *weights[:5], None, *weights[5:], reduction, need, terms, 1.0


def sample_arguments(n_samples=0, dtype=torch.float32, halves=False, prior=0, packed=False, weight=None):
    shape = 4, 2, 3
    mu, logvar = torch.randn(4, 4, 3, dtype=dtype).chunk(2, 1) if halves else torch.randn(2, *shape, dtype=dtype)
    return (
        *layout.latent((mu, logvar)),
        [torch.randn(shape, dtype=dtype) for _ in range(prior)],
        None if weight is None else torch.rand(weight) > 0.5,
        torch.tensor([3, 4]),
        n_samples,
    )


SAMPLES = {
    "plain": {}, "samples": {"n_samples": 3}, "double": {"dtype": torch.float64}, "half": {"dtype": torch.float16},
    "halves": {"halves": True, "n_samples": 2}, "prior": {"prior": 2},
    "packed": {"halves": True, "prior": 2, "packed": True}, "mask": {"weight": (4, 2, 3), "prior": 2},
    "mask of samples": {"weight": (4, 1, 1), "n_samples": 2},
}  # fmt: skip


def calls(prefix):
    """(name, op, arguments) for every op with this prefix, with several patterns of arguments."""
    ops = [getattr(OPS, prefix + name) for name in NAMES]
    elbo, elbo_backward, sample, sample_backward, position, position_backward, mixture, mixture_backward, log_prob = ops
    for name, reduction in itertools.product(OBJECTIVES, (0, 1, 2)):
        yield f"elbo {name} {reduction}", elbo, lambda n=name, r=reduction: elbo_arguments(n, reduction=r)
    for weights in WEIGHTS:
        yield f"elbo of {weights}", elbo, lambda w=weights: elbo_arguments("elements", w)
        yield f"elbo_backward of {weights}", elbo_backward, lambda w=weights: backward_arguments("elements", w)
    for name in ROWS if not prefix else ():  # gpu/ has the tests of the rows of Triton
        for reduction in (0, 1):
            yield f"elbo {name} {reduction}", elbo, lambda n=name, r=reduction: row_arguments(n, r)
        yield f"elbo_backward {name}", elbo_backward, lambda n=name: row_backward_arguments(n)
        yield f"elbo {name} need", elbo, lambda n=name: row_arguments(n, need=0b1000, terms=False)
    for need in (0, 1, 0b1010):
        yield f"elbo need {need}", elbo, lambda n=need: elbo_arguments("elements", need=n, terms=False)
    for name in OBJECTIVES:
        yield f"elbo_backward {name}", elbo_backward, lambda n=name: backward_arguments(n)
    for name, settings in ELEMENTS.items():
        yield f"log_prob {name}", log_prob, lambda s=settings: log_prob_arguments(**s)
    for name, settings in SAMPLES.items():
        yield f"sample {name}", sample, lambda s=settings: (*sample_arguments(**s), True)
        for wanted in ((True, True), (True, False), (False, True)):
            arguments = lambda s=settings, w=wanted: sample_backward_arguments(w, **s)  # noqa: E731
            yield f"sample_backward {name} {wanted}", sample_backward, arguments
    for name, settings in POSITIONS.items():
        yield f"position {name}", position, lambda s=settings: position_arguments(**s)
        yield f"position_backward {name}", position_backward, lambda s=settings: position_backward_arguments(**s)
    for name, settings in {"plain": {}, "double": {"dtype": torch.float64}, "empty batch": {"n": 0}}.items():
        yield f"mixture {name}", mixture, lambda s=settings: (*mixture_arguments(**s), 6)
        yield f"mixture_backward {name}", mixture_backward, lambda s=settings: mixture_backward_arguments(15, **s)
    segments, segments_backward = (getattr(OPS, f"{prefix}segments{part}") for part in ("", "_backward"))
    for name, settings in TABLES.items():
        yield f"segments {name}", segments, lambda s=settings: (*table_arguments(**s), 3, 0.5)
        for need in (1, 2, 3):
            arguments = lambda s=settings, n=need: (torch.randn(4), *table_arguments(**s), n)  # noqa: E731
            yield f"segments_backward {name} {need}", segments_backward, arguments
    pixel, pixel_backward, pixel_log_prob = (
        getattr(OPS, f"{prefix}pixel{part}") for part in ("", "_backward", "_log_prob")
    )
    for name, settings in PIXELS.items():
        for ahead in (False, True):
            yield f"pixel {name} {ahead}", pixel, lambda s=settings, a=ahead: (*pixel_arguments(**s), a, 0.5)
        yield f"pixel_backward {name}", pixel_backward, lambda s=settings: pixel_backward_arguments(**s)
        yield f"pixel_log_prob {name}", pixel_log_prob, lambda s=settings: pixel_log_prob_arguments(**s)
    if not prefix:  # the ops of the CPU alone
        for name, settings in {"plain": {}, "double": {"dtype": torch.float64}, "one sample": {"batch": 1}}.items():
            arguments = lambda s=settings: decomposition_arguments(**s)  # noqa: E731
            yield f"decomposition {name}", OPS.decomposition, arguments
            arguments = lambda s=settings: decomposition_backward_arguments(**s)  # noqa: E731
            yield f"decomposition_backward {name}", OPS.decomposition_backward, arguments
    yield "sample without kl", sample, lambda: (*sample_arguments(), False)


def backward_arguments(name, weights="floats"):
    arguments = elbo_arguments(name, weights, reduction=0)
    loss = OPS.elbo(*arguments)[0]
    return torch.randn_like(loss), *arguments[:-2]


def row_backward_arguments(name):
    arguments = row_arguments(name, reduction=0)
    return torch.randn_like(OPS.elbo(*arguments)[0]), *arguments[:-2]


def log_prob_arguments(shape=(4, 3, 5, 2), order=None, dtype=torch.float32, row=False):
    loc, x = torch.randn(2, *shape, dtype=dtype)
    logvar = torch.randn(shape[1:] if row else shape, dtype=dtype)
    x, params = layout.likelihood(x, (loc if order is None else order(loc), logvar))
    return "gaussian", x, list(params)


ELEMENTS = {
    "plain": {}, "vectors": {"shape": (4, 3)}, "empty batch": {"shape": (0, 3)}, "double": {"dtype": torch.float64},
    "half": {"dtype": torch.float16}, "channels_last": {"order": channels_last}, "rows apart": {"order": rows_apart},
    "row": {"row": True},
}  # fmt: skip


def sample_backward_arguments(wanted, **settings):
    arguments = sample_arguments(**settings)
    incoming = (torch.randn_like(t) if w else None for t, w in zip(OPS.sample(*arguments, True), wanted, strict=True))
    return *incoming, *arguments, (1 << 2 + len(arguments[2])) - 1, settings.get("packed", False)


def position_arguments(shape=(4, 3, 5, 2), order=None, dtype=torch.float32, weight=None):
    logits = torch.randn(shape, dtype=dtype)
    x = torch.randint(3, (shape[0], *shape[2:]))
    x, (logits,) = layout.likelihood(x, (logits if order is None else order(logits),))
    return "categorical", x, logits, None if weight is None else torch.rand(weight) > 0.5


def position_backward_arguments(**settings):
    arguments = position_arguments(**settings)
    nll, top_and_total = OPS.position(*arguments)
    return torch.randn_like(nll), *arguments, top_and_total


def pixel_arguments(shape=(2, 20, 3, 2), channels=3, order=None, dtype=torch.float32, weight=None):
    packed = torch.randn(shape, dtype=dtype)
    x = torch.randint(256, (shape[0], channels, *shape[2:]), dtype=torch.uint8)
    x, (packed,) = layout.likelihood(x, (packed if order is None else order(packed),))
    weight = None if weight is None else layout.term_weight(torch.rand(weight) > 0.5, layout.terms_like(x, (packed,)))
    return "discretized_logistic_mixture", x, packed, weight, [256.0, 0.0, 1.0, -7.0]


def pixel_backward_arguments(**settings):
    arguments = pixel_arguments(**settings)
    return torch.randn_like(OPS.pixel(*arguments, False, 1.0)[0]), *arguments


def pixel_log_prob_arguments(**settings):
    likelihood, x, packed, _, options = pixel_arguments(**settings)
    return likelihood, x, packed, options


def mixture_arguments(n=4, dtype=torch.float32):
    z, loc, logvar, log_weight = (torch.randn(s, dtype=dtype) for s in ((n, 3), (5, 3), (5, 3), (5,)))
    return z, loc, logvar, log_weight.log_softmax(0)


def mixture_backward_arguments(need, **settings):
    arguments = mixture_arguments(**settings)
    log_p, peak, log_sum = OPS.mixture(*arguments, 0)
    return torch.randn_like(log_p), *arguments, peak, log_sum, need


def decomposition_arguments(batch=5, dtype=torch.float32):
    return *torch.randn(3, batch, 4, dtype=dtype), -6.0, -2.0


TABLES = {"plain": {}, "by row": {"logscale": (4, 3), "weight": (4, 1)}, "codes": {"codes": True, "weight": (3,)},
          "double": {"dtype": torch.float64}, "half": {"dtype": torch.float16, "weight": (4, 3)}}  # fmt: skip


def table_arguments(logscale=(3,), weight=None, codes=False, dtype=torch.float32):
    table = vk.likelihoods.Mixed(["gaussian", ("categorical", 4), "poisson"], codes=codes)
    recon = torch.randn(4, table.width, dtype=dtype), torch.randn(logscale, dtype=dtype)
    weight = None if weight is None else torch.rand(weight) > 0.5
    return table.sample(recon), *recon, weight, table.plan.table(torch.device("cpu"))


def decomposition_backward_arguments(**settings):
    arguments = decomposition_arguments(**settings)
    *parts, kept = OPS.decomposition(*arguments)
    return *map(torch.randn_like, parts), *arguments, kept


POSITIONS = {
    "plain": {}, "vectors": {"shape": (4, 3)}, "empty batch": {"shape": (0, 3, 2)}, "double": {"dtype": torch.float64},
    "half": {"dtype": torch.float16}, "channels_last": {"order": channels_last}, "rows apart": {"order": rows_apart},
    "mask": {"weight": (4, 5, 2)}, "mask of positions": {"weight": (5, 2)},
}  # fmt: skip


PIXELS = {
    "plain": {}, "grey": {"shape": (2, 6, 5), "channels": 1}, "one pixel": {"shape": (2, 20)},
    "empty batch": {"shape": (0, 20, 2)}, "no pixels": {"shape": (2, 20, 0)}, "double": {"dtype": torch.float64},
    "half": {"dtype": torch.float16}, "channels_last": {"order": channels_last}, "rows apart": {"order": rows_apart},
    "mask": {"weight": (2, 1, 3, 2)}, "mask of rows": {"weight": (2, 1, 1, 1), "order": channels_last},
}  # fmt: skip


CALLS = {prefix: {name: (op, make) for name, op, make in calls(prefix)} for prefix in PREFIXES}


ALONE = "rescale_", "correct_", "pixel_correct_", "one_number"


def test_every_op_is_called():
    """The calls above cover every op, with some exceptions. The two ops of the pool take no tensor, so they have no
    fake to compare. What works in place runs on CUDA only. one_number gives no tensor, and no compiler sees it."""
    ours = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("vae_kernels::")}
    ours = {name for name in ours if "Tensor" in str(getattr(OPS, name.split("::")[1]).default._schema)}
    called = {op.default.name() for found in CALLS.values() for op, _ in found.values()}
    called |= {f"vae_kernels::{name}" for name in ALONE}
    assert ours == called | {f"vae_kernels::triton_{name}" for name in NAMES}


@pytest.mark.parametrize("prefix, name", [(prefix, name) for prefix in PREFIXES for name in CALLS[prefix]])
def test_the_fake_is_the_real_result_without_its_values(prefix, name):
    op, make = CALLS[prefix][name]
    arguments = make()
    mode = torch._subclasses.FakeTensorMode()
    fake = lambda a: mode.from_tensor(a) if isinstance(a, torch.Tensor) else a  # noqa: E731
    with mode:
        faked = op(*torch.utils._pytree.tree_map(fake, arguments))
    real = op(*arguments)
    if isinstance(real, torch.Tensor):
        faked, real = [faked], [real]
    describe = lambda t: (t.shape, t.stride(), t.dtype, t.device)  # noqa: E731
    assert len(real) and [describe(t) for t in faked] == [describe(t) for t in real]


@pytest.mark.full
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["plain", "half", "channels_last", "row", "prior", "kl"])
def test_opcheck_of_the_objective(prefix, name):
    floors = ("floor", "floor of samples") if name == "prior" else ()
    for weights in ("tensors",) if name in ("channels_last", "kl") else ("tensors", "masks", *floors):
        opcheck(getattr(OPS, prefix + "elbo").default, elbo_arguments(name, weights))
        opcheck(getattr(OPS, prefix + "elbo_backward").default, backward_arguments(name, weights))


@compiled
@pytest.mark.parametrize("name", [name for name in ROWS if name != "empty rows"])  # whose mean is a NaN
def test_opcheck_of_rows(name):
    opcheck(OPS.elbo.default, row_arguments(name))
    opcheck(OPS.elbo_backward.default, row_backward_arguments(name))


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["plain", "half", "channels_last", "row"])
def test_opcheck_of_log_prob(prefix, name):
    opcheck(getattr(OPS, prefix + "log_prob").default, log_prob_arguments(**ELEMENTS[name]))


@pytest.mark.full
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["plain", "half", "packed", "prior", "mask"])
def test_opcheck_of_the_sample(prefix, name):
    opcheck(getattr(OPS, prefix + "sample").default, (*sample_arguments(**SAMPLES[name]), True))
    opcheck(getattr(OPS, prefix + "sample_backward").default, sample_backward_arguments((True, True), **SAMPLES[name]))


@pytest.mark.full
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("need", [15, 5, 0])
def test_opcheck_of_the_mixture(prefix, need):
    opcheck(getattr(OPS, prefix + "mixture").default, (*mixture_arguments(), need))
    opcheck(getattr(OPS, prefix + "mixture_backward").default, mixture_backward_arguments(need))


@pytest.mark.full
@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck_of_the_decomposition(dtype):
    opcheck(OPS.decomposition.default, decomposition_arguments(dtype=dtype))
    opcheck(OPS.decomposition_backward.default, decomposition_backward_arguments(dtype=dtype))


@pytest.mark.full
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["plain", "half", "channels_last", "mask"])
def test_opcheck_of_position(prefix, name):
    opcheck(getattr(OPS, prefix + "position").default, position_arguments(**POSITIONS[name]))
    opcheck(getattr(OPS, prefix + "position_backward").default, position_backward_arguments(**POSITIONS[name]))
