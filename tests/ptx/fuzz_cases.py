"""The cases of fuzz.py. Each function draws one from `r` and `g`, runs it on the backend of this name, and raises an
AssertionError where it differs from float64 by more than its types can explain."""

import math

import cases
import layouts
import levels as positions
import pixels as of_pixels
import tables
import test_floor as floors
import test_mixture
import torch
from oracles import ORACLES

import vae_kernels as vk
from vae_kernels import backends
from vae_kernels.backends import compiled as ops
from vae_kernels.backends import reference
from vae_kernels.core import layout as lay_out
from vae_kernels.core.objective import Draw
from vae_kernels.formulas import LIKELIHOODS, LOG_TOTAL

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
EPS = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.03, torch.float16: 0.01}
SHAPES = [(3, 7), (5, 64), (2, 1031), (17, 33), (1, 2051), (4, 3, 5, 6), (33, 8), (6, 516), (65, 4), (9, 2, 4, 8)]
LAYOUTS = {
    "plain": lambda t: t,
    "shifted": cases.LAYOUTS["shifted"],
    "rows": lambda t: torch.cat([t, t], 1)[:, : t.shape[1]] if t.dim() > 1 else t,
    "channels": lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t,
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3) if t.dim() == 4 else t,
}


def error_of(ours, truth):
    there = truth[truth != 0].abs()
    typical = there.median() if len(there) else 0
    return ((ours - truth).abs() / (truth.abs() + typical + 1e-3)).max().item()


def check(ours, truth, eps, what, theirs=None):
    """theirs(): what plain PyTorch gives in the same types. Where that is further from the truth than eps, ours may be
    three times as far; where it overflows, ours may."""
    plain = None
    for k, (a, b) in enumerate(zip(ours, truth, strict=True)):
        a, b = a.detach().double(), b.detach().double()
        if b.numel() == 0 or b.isnan().all():
            continue
        error, allowed = error_of(a, b), eps
        if not error <= allowed and theirs is not None:
            plain = plain or theirs()
            t = plain[k].detach().double()
            lost = ~t.isfinite() & b.isfinite()
            if (a[lost] == t[lost]).all() or a[lost].isnan().all() or not a[lost].isfinite().all():
                a, t = torch.where(lost, b, a), torch.where(lost, b, t)
            error, allowed = error_of(a, b), eps + 3 * error_of(t, b)
        assert error <= allowed, f"output {k}: error {error:.3g}, allowed {allowed:.3g}; {what}"


def wide(value):
    """In float64, where it is a tensor of floats."""
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def same(value):
    return value


def weight(r, shape):
    """A weight that broadcasts to this shape, or None."""
    form = r.choice([None, *cases.WEIGHTS.values()])
    return form and cases.weight(form(shape), r.choice(cases.WEIGHT_DTYPES), seed=r.randrange(1000))


def free_bits(r, latent, of_latent, shape):
    """(nats, unit): the nats lie between the KLs of two units, or above or below the KL of the only one."""
    unit = r.choice(floors.UNITS)
    kl = floors.gaussian_kl(*(t.double().expand(shape) for t in latent))
    if of_latent is not None:
        kl = torch.where(of_latent != 0, of_latent.double() * kl, 0)
    return floors.level(floors.units_of(kl, unit)[0], r.random() < 0.5), unit


def elbo(name, r, g, seed):
    likelihood, shape, main = r.choice(list(ORACLES)), r.choice(SHAPES), r.choice(FLOATS)
    counts = LIKELIHOODS[likelihood].SUPPORT == "counts"
    of_x = r.choice([*FLOATS, *positions.TARGETS, torch.bool])
    forms = [None, *cases.FORMS] if len(shape) == 4 else [None, lambda s: (), lambda s: s[1:], lambda s: s]
    form = r.choice(forms)
    x, params = cases.draw(likelihood, shape, (main, of_x), form, seed=seed % 1000)
    total = None
    if likelihood in LOG_TOTAL and r.random() < 0.5:  # params[0] then has the logits of shares
        total = (torch.randn(shape[0], generator=g) + math.log(x[0].numel())).to(r.choice([main, *FLOATS]))
    of_terms = weight(r, shape)
    if of_terms is not None:
        x = cases.poisoned(x, of_terms != 0)
    layout = r.choice(list(LAYOUTS))
    laid = lambda t, chance: LAYOUTS[layout](t) if t.shape == x.shape and r.random() < chance else t  # noqa: E731
    params = [params[0], *(p.to(r.choice([main, main, *FLOATS])) for p in params[1:])]
    params, x = [laid(p, 0.8) for p in params], laid(x, 0.7)
    of_terms = of_terms if of_terms is None else laid(of_terms, 0.5)
    dims, prior = r.choice([(), (1,), (5,), (21,), (3, 4), (300,)]), r.random() < 0.4
    of_prior = (shape[0], *dims) if r.random() < 0.5 else dims
    shapes = [(shape[0], *dims)] * 2 + [of_prior] * 2 * prior
    latent = [(torch.randn(s, generator=g) * 0.7).to(r.choice([main, *FLOATS])) for s in shapes]
    of_latent = weight(r, (shape[0], *dims))
    reduction, terms = r.choice(["mean", "sum", "none"]), r.random() < 0.5
    betas = [0.7, torch.tensor(0.4), torch.tensor(0.4, dtype=torch.float64)]
    if dims:
        betas.append(torch.linspace(0, 2, math.prod(dims)).view(dims))
    beta, rec_weight = r.choice(betas), r.choice([1.3, torch.tensor(2.5)])
    floor = None
    if dims and r.random() < 0.3:
        floor, beta = free_bits(r, latent, of_latent, (shape[0], *dims)), r.choice(betas[:3])
    totals = [] if total is None else [total]
    needed = [r.random() < 0.8 for _ in range(len(params) + len(latent) + len(totals))]
    of_loss = (shape[0],) if reduction == "none" else ()
    random_incoming = torch.randn(of_loss, generator=g, dtype=torch.float64) + 3
    incoming = random_incoming if r.random() < 0.7 else torch.ones(of_loss)

    def run(backend, to):
        given = [to(t.detach()).requires_grad_(q) for t, q in zip([*params, *latent, *totals], needed, strict=True)]
        n, end = len(params), len(params) + len(latent)
        out = vk.fused_elbo(
            tuple(given[:n]), to(x), *given[n : n + 2], prior=tuple(given[n + 2 : end]) or None, likelihood=likelihood,
            log_total=given[end] if totals else None,
            reduction=reduction, beta=to(beta), rec_weight=to(rec_weight), return_terms=terms, backend=backend,
            weight=to(of_terms), latent_weight=to(of_latent), free_bits=floor,
        )  # fmt: skip
        parts = [out.loss, out.nll, out.kl, out.kl_per_dim] if terms else [out]
        wanted = [t for t in given if t.requires_grad]
        grads = torch.autograd.grad(parts[0], wanted, incoming.to(parts[0])) if wanted else ()
        return [*(p for p in parts if p is not None), *grads]

    types = [t.dtype for t in (x, *params, *latent, *totals)]
    eps = max(EPS.get(t, 0) for t in types) * (20 if counts else 4)
    weights = [w if w is None else (w.shape, w.dtype) for w in (of_terms, of_latent)]
    what = (likelihood, shape, types, layout, dims, prior, reduction, terms, beta, needed, form, weights, floor)
    check(run(name, same), run("torch", wide), eps, what, lambda: run("torch", same))


def sample(name, r, g, seed):
    rows, dims = r.choice([1, 3, 6, 40]), r.choice([(1,), (3,), (4,), (20,), (9,), (2, 5), (130,), (1030,)])
    types, packed = [r.choice(FLOATS) for _ in range(4)], r.choice(["no", "no", "one", "halves"])
    draws, prior = r.choice([None, 1, 3]), r.random() < 0.5
    draw = lambda dtype, n=1: torch.randn(rows, n * dims[0], *dims[1:], generator=g).to(dtype)  # noqa: E731
    if packed == "no":
        moments = [draw(types[0]), draw(types[1])]
    else:
        both = draw(types[0], 2)
        moments = [both] if packed == "one" else list(both.chunk(2, 1))
    given_prior = [draw(types[2]), draw(types[3])] if prior else []
    rng = torch.tensor((seed, 5, 2, rows + 7)) if r.random() < 0.3 else torch.tensor((seed, 9))
    with_kl = prior or r.random() < 0.6
    of_latent = weight(r, (rows, *dims)) if with_kl else None

    def run(who, to):
        given = [to(t).detach().requires_grad_() for t in (*moments, *given_prior)]
        mu, logvar = (given[0], None) if packed == "one" else given[:2]
        laid = lay_out.term_weight(of_latent, mu.detach() if logvar is not None else mu.detach().chunk(2, 1)[0])
        out = who.sample_kl(Draw(mu, logvar, tuple(given[len(moments) :]), rng, draws, with_kl, laid))
        out = [t for t in out if t is not None]
        incoming = torch.Generator().manual_seed(3)
        grads = [torch.randn(t.shape, generator=incoming).to(t) for t in out]
        return [*out, *torch.autograd.grad(out, given if with_kl else given[: len(moments)], grads)]

    what = (rows, dims, types, packed, draws, prior, with_kl, rng.tolist(), of_latent)
    eps = 4 * max(EPS[t] for t in types)
    truth = run(reference, wide)
    check(run(backends.choose(name, ()), same), truth, eps, what, lambda: run(reference, same))


def levels(name, r, g, seed):
    n, places = r.choice([1, 2, 7, 8, 40, 257, 1500]), r.choice([(), (1,), (3, 5), (70,), (2, 7, 3)])
    dtype, of_x, rows = r.choice(FLOATS), r.choice(positions.TARGETS), r.choice([1, 3])
    logits, x = positions.draw(rows, n, places, dtype, of_x, seed=seed % 97)
    if len(places) > 1 and n > 1 and r.random() < 0.5:
        logits = layouts.LAYOUTS["innermost"](logits)
    of_terms = weight(r, x.shape)
    if of_terms is None:
        positions.compare(name, logits, x)
        return
    x = cases.poisoned(x, of_terms != 0)

    def run(backend, to):
        given = to(logits).detach().requires_grad_()
        nll = vk.nll(given, x, likelihood="categorical", weight=to(of_terms), backend=backend)
        return [nll, *torch.autograd.grad(nll, given, torch.full_like(nll, -1.7))]

    what = (n, places, dtype, of_x, rows, of_terms.shape, of_terms.dtype)
    check(run(name, same), run("torch", wide), 4 * EPS[dtype], what, lambda: run("torch", same))


def table(name, r, g, seed):
    kinds = (*tables.NUMBERS, ("categorical", 2), ("categorical", 9), ("categorical", 200))
    columns = [r.choice(kinds) for _ in range(r.choice([1, 3, 8]))]
    rows, dtype, form = r.choice([1, 33, 130, 260]), r.choice(FLOATS), r.choice(list(tables.FORMS))
    likelihood, x, params = tables.draw(columns, rows, r.random() < 0.5, dtype, form, seed=seed % 97)
    x = x.to(r.choice([dtype, torch.float32, torch.float64]))
    shape = r.choice([None, *tables.WEIGHTS.values()])
    of_terms = shape and cases.weight(shape(rows, len(columns)), r.choice(cases.WEIGHT_DTYPES), seed=seed % 89)
    tables.compare(name, likelihood, x, params, of_terms, r.choice(["none", "mean", "sum"]))


def pixels(name, r, g, seed):
    likelihood = r.choice(list(of_pixels.OPTIONS.values()))
    places, rows = r.choice([(), (1,), (3, 5), (70,), (2, 7, 3), (257,)]), r.choice([1, 3, 4])
    dtype, of_x = r.choice(FLOATS), r.choice([torch.uint8, torch.float32, torch.float64])
    packed, x = of_pixels.draw(likelihood, rows, places, dtype, of_x, seed=seed % 97)
    if places and r.random() < 0.5:
        packed, x = (layouts.LAYOUTS["innermost"](t) for t in (packed, x))
    of_terms = weight(r, (rows, 1, *places))
    if of_terms is None:
        of_pixels.compare(name, packed, x, likelihood)
        return
    hidden = (of_terms == 0).expand(rows, 1, *places)
    packed = torch.where(hidden, float("nan"), packed)

    def run(backend, to):
        given = to(packed).detach().requires_grad_()
        nll = vk.nll(given, to(x), likelihood=likelihood, weight=to(of_terms), backend=backend)
        return [nll, *torch.autograd.grad(nll, given, torch.full_like(nll, -1.7))]

    what = (likelihood, places, dtype, of_x, rows, of_terms.shape, of_terms.dtype)
    check(run(name, same), run("torch", wide), 40 * EPS[dtype], what, lambda: run("torch", same))


def mixture(name, r, g, seed):
    sizes = r.choice([1, 33, 70]), r.choice([1, 64, 90]), r.choice([1, 3, 34])
    drawn = test_mixture.draw(*sizes, r.choice([torch.float32, torch.float64]), seed=seed % 97)
    test_mixture.compare(drawn, backend=name)


def rescale(name, r, g, seed):
    tensors = [torch.randn(n + 3, generator=g).to(r.choice(FLOATS))[r.choice([0, 1, 3]) :] for n in (1, 5, 1024, 3000)]
    doubles = any(t.dtype == torch.float64 for t in tensors) and name == "cpu" and r.random() < 0.5
    factor = torch.tensor(r.choice([1.0, -2.5]), dtype=torch.float64 if doubles else torch.float32)
    truth = [(t.double() * factor.double()).to(t.dtype) for t in tensors]
    ops.KERNELS["compiled" if name == "cpu" else name]["rescale_"](tensors, factor)
    check(tensors, truth, 0.01, "rescale")
