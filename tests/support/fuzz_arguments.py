"""Random calls of the public functions: correct calls in which some arguments are made wrong. Each call must give the
right result, or raise a TypeError or ValueError that names an argument. tests/api/test_fuzz.py makes some of these
calls; `python tests/soak/fuzz.py` makes many."""

import random
import re
import warnings

import numpy as np
import torch

import vae_kernels as vk
from vae_kernels.formulas.columns import KINDS

FUNCTIONS = ("fused_elbo", "nll", "gaussian_kl", "sample_kl", "reparameterize", "mixture_log_prob")
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
OTHER = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool, torch.complex64, torch.float8_e5m2)
# Functions that make odd values, which no argument or only few arguments take. Each call gets new values.
ODD = (
    *(lambda v=v: v for v in (None, True, 0, -1, 3, 2**63, 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf"), 1j)),
    *(lambda v=v: v for v in ("", "auto", "mean", "gaussian", b"mean", int, Ellipsis, (), (1,), (1, 2, 3))),
    *(list, dict, object, set, lambda: [None], lambda: np.ones(3), lambda: np.float32(2), lambda: torch.Generator()),
    *(lambda: torch.ones(()), lambda: torch.ones(0), lambda: torch.ones(2, 3).to_sparse(), lambda: torch.ones(1, 1)),
    *(lambda: torch.empty(2, 3, device="meta"), lambda: (torch.ones(2, 3), torch.ones(2, 3))),
    *(lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), lambda: torch.ones(2, 3).to_mkldnn()),
    lambda: torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.quint8),
)
WORDS = {
    "likelihood": (*vk.LIKELIHOODS, "bernouli", "logits", "mixed"),
    "reduction": ("none", "mean", "sum", "mean ", "avg"),
    "backend": ("auto", "torch", "cpu", "cuda", "triton", "gpu"),
}


def tensor(rng, shape, low=-2.0, high=2.0):
    dtype = rng.choices(FLOATS, (6, 2, 2, 2))[0]
    t = torch.tensor([rng.uniform(low, high) for _ in range(int(np.prod(shape)))], dtype=torch.float64)
    t = t.reshape(shape).to(dtype)
    how = rng.randrange(6)
    if how == 0 and t.dim() > 1:
        t = t.transpose(0, -1).contiguous().transpose(0, -1)
    if how == 1 and t.dim():
        t = torch.stack([t, t], -1)[..., 0]
    if how == 2 and t.dim():
        t = t[:1].expand(t.shape) if t.shape[0] else t
    return t.requires_grad_(rng.random() < 0.5)


def table(rng, batch):
    """Correct arguments for a table with columns of different kinds."""
    kinds = (*KINDS[:-1], ("categorical", 2), ("categorical", 40))
    columns = [rng.choice(kinds) for _ in range(rng.choice((1, 2, 5)))]
    likelihood, count = vk.likelihoods.Mixed(columns, codes=rng.random() < 0.5), len(columns)
    packed, shapes = tensor(rng, (batch, likelihood.width)), ((batch, count), (count,), (batch, 1), (1, count), ())
    logscale = tensor(rng, rng.choice(shapes), -1, 1)
    call = {"likelihood": likelihood, "x": likelihood.sample((packed, logscale))}
    call["recon"] = (packed, logscale) if rng.random() < 0.8 else packed
    if rng.random() < 0.3:
        call["weight"] = tensor(rng, rng.choice(shapes), 0, 2).detach()
    return call


def right(rng, function):
    """Correct arguments for this function."""
    batch = rng.choice((0, 1, 2, 3, 5, 17))
    event = tuple(rng.choice((0, 1, 2, 3, 7)) for _ in range(rng.randrange(4)))
    latent = tuple(rng.choice((1, 2, 5)) for _ in range(rng.randrange(3)))
    shape, mu = (batch, *event), (batch, *latent)
    call = {}
    if function in ("fused_elbo", "nll") and rng.random() < 0.1:
        call |= table(rng, batch)
    elif function in ("fused_elbo", "nll"):
        likelihood = rng.choice(vk.LIKELIHOODS)
        formula = vk.formulas.ALL[likelihood]
        if likelihood in vk.formulas.LEVELS:
            levels = rng.choice((1, 2, 9))
            call |= {"x": torch.randint(levels, shape), "recon": tensor(rng, (batch, levels, *event))}
        elif likelihood in vk.formulas.PIXEL:
            call |= {"x": tensor(rng, (batch, 3, *event), 0, 1).detach(), "recon": tensor(rng, (batch, 100, *event))}
        else:
            x = tensor(rng, shape, 0, 1)
            x = x.detach().mul(3).round() if formula.SUPPORT == "counts" else x
            n = len(formula.PARAMETERS) - (rng.random() < 0.3 and len(formula.DEFAULTS))
            others = [tensor(rng, rng.choice((shape, shape[1:], ()))) for _ in range(n - 1)]
            recon = tensor(rng, shape)
            call |= {"x": x, "recon": (recon, *others) if others else recon}
            if likelihood in vk.formulas.LOG_TOTAL and rng.random() < 0.4:
                call["log_total"] = tensor(rng, rng.choice(((batch,), (batch, 1))))
            if rng.random() < 0.2:
                rows = likelihood in vk.formulas.ROW
                call["weight"] = tensor(rng, (batch, *[1] * len(event)) if rows else shape, 0, 2).detach()
        call |= {"likelihood": likelihood}
        if rng.random() < 0.3:  # K draws for each x; the other parameters stay as they are, and broadcast
            k = rng.choice((1, 2, 3))
            first = call["recon"][0] if isinstance(call["recon"], tuple) else call["recon"]
            draws = tensor(rng, (k, *first.shape))
            recon = (draws, *call["recon"][1:]) if isinstance(call["recon"], tuple) else draws
            call |= {"recon": recon, "n_samples": k}
    if function == "fused_elbo":
        call |= {"kl": tensor(rng, mu, 0, 3)} if rng.random() < 0.3 else {}
        call |= {"beta": rng.choice((0, 1, 0.5, torch.tensor(0.3))), "return_terms": rng.random() < 0.5}
    if function not in ("nll", "mixture_log_prob") and "kl" not in call:
        call |= {"mu": tensor(rng, mu), "logvar": tensor(rng, mu)}
        if rng.random() < 0.3 and function != "reparameterize":
            call |= {"prior": (tensor(rng, mu), tensor(rng, mu[1:]))}
    if function in ("sample_kl", "reparameterize"):
        call |= {"n_samples": rng.choice((None, 1, 3)), "generator": torch.Generator().manual_seed(3)}
        call |= {"shard": (1, batch + 2)} if rng.random() < 0.2 else {}
    if function == "mixture_log_prob":
        components, dims = rng.choice((1, 3, 40)), rng.choice((1, 2, 7))
        call |= {"z": tensor(rng, (batch, dims)), "loc": tensor(rng, (components, dims))}
        call |= {"logvar": tensor(rng, (components, dims)), "logits": tensor(rng, (components,))}
    elif function != "reparameterize":
        call["reduction"] = rng.choice(("none", "mean", "sum"))
    return call


def plain(t):
    return t.layout is torch.strided and not t.is_quantized and not t.is_nested


def spoil(rng, call):
    """Makes one argument wrong: it gets another type, shape, dtype or device, or it is given where it was left out."""
    names = [*call, "obs_logvar", "prior", "rec_weight", "kl", "backend", "beta", "mu", "logvar"]
    names += ["log_total", "weight", "n_samples"]
    name = rng.choice(names)
    value, how = call.get(name), rng.randrange(5)
    if name in WORDS and how < 4:
        return name, rng.choice(WORDS[name])
    if isinstance(value, torch.Tensor) and plain(value) and how < 3:
        if how == 0:
            return name, value.detach().to(rng.choice(FLOATS + OTHER))
        if how == 1:
            return name, tensor(rng, [rng.choice((n, n, n + 1, 1, 0)) for n in value.shape][rng.randrange(2) :])
        return name, rng.choice((value.detach().to("meta"), value[None], value.flatten(), value.new_ones(())))
    if isinstance(value, tuple) and value and how < 3:
        return name, rng.choice((value[:1], (*value, value[0]), [*value], (value[0], rng.choice(ODD)())))
    return name, rng.choice(ODD)()


def answer(function, call):
    """The results of the function as tensors, with the gradient of each input, or the exception."""
    inputs = [t for v in call.values() for t in (v if isinstance(v, (tuple, list)) else [v])]
    inputs = [t for t in inputs if isinstance(t, torch.Tensor) and t.requires_grad]
    result = getattr(vk, function)(**call)
    if isinstance(result, vk.ElboTerms):
        result = result.loss, result.nll, result.kl
    results = [t for t in (result if isinstance(result, tuple) else (result,)) if t is not None]
    loss = sum(t.double().sum() for t in results)
    grads = torch.autograd.grad(loss, inputs, allow_unused=True) if inputs and loss.requires_grad else ()
    return [t.detach() for t in (*results, *(g for g in grads if g is not None))]


def defined(call):
    """Whether the documentation defines the result. It does not for numbers that are not counts, or beyond float32."""
    numbers = [v for k, v in call.items() if k in ("beta", "rec_weight", "obs_logvar") and isinstance(v, (int, float))]
    if any(abs(v) > 1e3 for v in numbers):
        return False
    x = counts_of(call)
    return x is None or bool(((x >= 0) & (x == x.round())).all())


def counts_of(call):
    """The elements of x that are counts, in float64; or None."""
    likelihood = call.get("likelihood", "bernoulli")
    if isinstance(likelihood, vk.likelihoods.Mixed):
        columns = [c for c, column in enumerate(likelihood.columns) if column in ("poisson", "negative_binomial")]
        return call["x"][:, [c if likelihood.codes else likelihood.plan.rows[c][2] for c in columns]].double()
    return call["x"].double() if "x" in call and vk.formulas.ALL[likelihood].SUPPORT == "counts" else None


def double(value, known):
    """The same value in float64, without losing a digit. `known` has the tensors made so far, because one tensor may be
    two arguments."""
    if isinstance(value, (tuple, list)):
        return type(value)(double(v, known) for v in value)
    if isinstance(value, torch.Tensor) and value.dtype in FLOATS:
        return known.setdefault(id(value), value.detach().double().requires_grad_(value.requires_grad))
    return value


def judge(function, call):
    """A sentence that says what is wrong with the answer to this call, or None."""
    try:
        ours = answer(function, call)
    except (TypeError, ValueError) as error:
        # the message must begin with the name of an argument
        named = re.match(r"[a-z_]+", str(error))
        return None if named and named[0] in names(function) else f"{type(error).__name__} names nothing: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if any(t.device.type == "meta" for t in ours) or not defined(call):
        return None
    if function in ("sample_kl", "reparameterize"):
        return None  # the result depends on the noise, whose bits tests/kernels/test_noise.py compares
    known = {}
    truth = answer(function, {k: double(v, known) for k, v in call.items()} | {"backend": "torch"})
    for a, b in zip(ours, truth, strict=True):
        # a value of 16 bits is rounded to 2^-9 at the end, and a sum of hundreds of terms of both signs is in float32
        scale = 1 + float(b[b.isfinite()].abs().max()) if b.isfinite().any() else 1
        if a.shape != b.shape or not torch.allclose(a.double(), b, rtol=1e-2, atol=1e-4 * scale, equal_nan=True):
            return f"{a} is not {b}"
    return None


def names(function):
    code = getattr(vk, function).__code__
    return set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


def one(rng):
    """Makes one call, and gives (the function, what is wrong with its answer)."""
    function = rng.choice(FUNCTIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about nested and quantized tensors
        call = right(rng, function)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            name, value = spoil(rng, call)
            if name in names(function):
                call[name] = value
        return function, judge(function, call)


def run(seed, count, one=one):
    """(the number of right answers, [(seed, function, what is wrong)]). one: makes one call, as `one` above does."""
    good, found = 0, []
    for i in range(count):
        torch.manual_seed(i)
        function, wrong = one(random.Random(seed * 10**9 + i))
        good += wrong is None
        if wrong:
            found.append((seed * 10**9 + i, function, wrong))
    return good, found
