"""Values and gradients against float64, for every compiled backend x likelihood x dtype x layout x reduction."""

import cases
import instruction_sets
import pytest
import torch
from known import BACKENDS, compiled
from oracles import ORACLES
from places import TESTS

import vae_kernels as vk
from vae_kernels import backends
from vae_kernels.backends import reference
from vae_kernels.core.objective import Draw

pytestmark = pytest.mark.usefixtures("poisoned")


def outcome(backend, likelihood, x, params, latent, reduction, with_terms=True, incoming=None, **weights):
    """The terms and all gradients by name, under a random incoming gradient."""
    params, latent = ([t.detach().requires_grad_() for t in g] for g in (params, latent))  # the layouts stay
    names = [f"param{i}" for i in range(len(params))]
    mu, logvar, *prior = latent
    terms = vk.fused_elbo(
        tuple(params),
        x,
        mu,
        logvar,
        prior=prior or None,
        likelihood=likelihood,
        reduction=reduction,
        return_terms=with_terms,
        backend=backend,
        **weights,
    )
    terms = terms if with_terms else vk.ElboTerms(terms, None, None, None)
    if incoming is None:
        incoming = torch.randn(terms.loss.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    if with_terms:
        check_packed_loss(terms)
    inputs = [*params, *latent]
    grads = torch.autograd.grad(terms.loss, inputs, incoming.to(terms.loss.dtype))
    for t, g in zip(inputs, grads, strict=True):
        assert g.dtype == t.dtype and g.shape == t.shape
    out = {"loss": terms.loss, "nll": terms.nll, "kl": terms.kl, "kl_per_dim": terms.kl_per_dim}
    return out | dict(zip([*names, "mu", "logvar", "prior_mu", "prior_logvar"], grads, strict=False))


def check_packed_loss(terms):
    """The first of the packed terms is the loss or, for reduction="none", the mean of the losses of the samples."""
    first, loss = terms.packed()[0][0], terms.loss.detach()
    size = loss.double().abs().mean()
    if loss.dim() == 0:
        assert cases.same(first, loss)
    elif size.isfinite():  # each loss is rounded, and so are the sums and the mean, in ours and in torch's
        roundings = len(loss).bit_length()
        assert (first.double() - loss.double().mean()).abs() <= roundings * torch.finfo(loss.dtype).eps * size
    else:
        assert not first.isfinite()


def posterior(batch, dims, dtype, prior=False, seed=1):
    g = torch.Generator().manual_seed(seed)
    shapes = [(batch, *dims)] * 2 + [dims, dims] * prior
    return [(torch.randn(s, generator=g, dtype=torch.float64) * 0.7).to(dtype) for s in shapes]


def compare(
    backend, likelihood, x, params, latent, reduction="mean", beta=0.6, rec_weight=1.3, sizes=(), poisoned=None,
    **of_terms,
):  # fmt: skip
    """Compares the backend with the formulas in float64, and returns the backend's results. of_terms are weight and
    latent_weight. poisoned is (x, params, latent) that the backend gets in place of the clean tensors."""
    sizes = dict(sizes)  # the argument `size` of cases.check, by name
    weights = {"beta": beta, "rec_weight": rec_weight, **of_terms}
    dtype = params[0].dtype
    wide = {k: _widen(w) if isinstance(w, torch.Tensor) else w for k, w in weights.items()}
    truth = outcome(
        "torch", likelihood, _widen(x), [p.double() for p in params], [t.double() for t in latent], reduction, **wide
    )
    theirs = outcome("torch", likelihood, x, params, latent, reduction, **weights)
    given = poisoned or (x, params, latent)
    for with_terms in (False, True):  # without terms, a kernel need not compute the sums of rows
        ours = outcome(backend, likelihood, *given, reduction, with_terms, **weights)
        for name, value in truth.items():
            if value is None:  # without latent dims, kl_per_dim is None
                assert ours[name] is None and latent[0].dim() == 1, name
            elif with_terms or name not in ("nll", "kl", "kl_per_dim"):
                cases.check(ours[name], theirs[name], value, dtype, name, likelihood, sizes.get(name, 0.0))
        assert ours["loss"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    return ours


def _widen(x):
    return x.double() if x.is_floating_point() else x


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", cases.SHAPES, ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), cases.pairs(BACKENDS))
def test_shapes(backend, likelihood, shape, reduction):
    x, params = cases.draw(likelihood, shape)
    compare(backend, likelihood, x, params, posterior(shape[0], (5,), torch.float32), reduction)


@pytest.mark.parametrize("dims", [(), (1,), (20,), (3, 2, 5), (1025,), (2300,), (0,)], ids=str)
@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_latent_dims(backend, dims, prior, reduction):
    x, params = cases.draw("bernoulli", (23, 9))
    compare(backend, "bernoulli", x, params, posterior(23, dims, torch.float32, prior), reduction)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), cases.pairs(BACKENDS))
def test_dtypes(backend, likelihood, dtypes, reduction):
    x, params = cases.draw(likelihood, (6, 1037), dtypes)
    compare(backend, likelihood, x, params, posterior(6, (33,), dtypes[0], prior=True), reduction)


@pytest.mark.parametrize("dtypes", [*cases.COUNT_DTYPES, cases.DTYPES[0], cases.DTYPES[6]], ids=str)
@pytest.mark.parametrize("likelihood", cases.COUNTS)
def test_dtypes_of_counts(backend, likelihood, dtypes):
    x, params = cases.draw(likelihood, (3, 529), dtypes)
    assert x.max() > 1
    compare(backend, likelihood, x, params, posterior(3, (4,), dtypes[0]))


@pytest.mark.parametrize("of", ["recon", "x", "both"])
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize(("backend", "likelihood"), cases.pairs(BACKENDS))
def test_layouts(backend, likelihood, layout, of):
    x, params = cases.draw(likelihood, (5, 4, 6, 7))
    lay = cases.LAYOUTS[layout]
    assert torch.equal(lay(x), x) and not (lay(x).is_contiguous() and layout != "shifted")
    if of != "recon":
        x = lay(x)
    if of != "x":
        params = [lay(p) for p in params]
    compare(backend, likelihood, x, params, posterior(5, (3,), torch.float32))


def test_no_sample_in_odd_strides(backend):
    """An empty batch may have any strides, even those of a parameter that is not empty and has gaps."""
    logvar = torch.zeros(3, 2, 1)[:, :1]
    recon = torch.empty(0, 3, 1, 1).as_strided((0, 3, 1, 1), (6, *logvar.stride()))
    compare(backend, "gaussian", recon, [recon, logvar], posterior(0, (2,), torch.float32), "sum")


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize(
    ("backend", "likelihood"), [p for p in cases.pairs(BACKENDS) if len(vk.formulas.LIKELIHOODS[p[1]].PARAMETERS) > 1]
)
@pytest.mark.parametrize("dtypes", [cases.DTYPES[0], cases.DTYPES[1], cases.DTYPES[4]], ids=str)
def test_broadcast_parameters(backend, likelihood, form, layout, dtypes):
    x, params = cases.draw(likelihood, (67, 3, 6, 7), dtypes, form)
    if layout == "channels_last":
        x, params = cases.LAYOUTS[layout](x), (cases.LAYOUTS[layout](params[0]), *params[1:])
    compare(backend, likelihood, x, params, posterior(67, (3,), dtypes[0]))


@pytest.mark.parametrize("form", ["number", "column"])
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_the_gradient_of_a_shared_parameter_where_there_is_no_sample(backend, form, reduction):
    """If there are fewer samples than ranks, a rank has no sample. The gradient of a shared parameter must then be
    zeros; in an earlier version it was a null tensor."""
    x, params = cases.draw("gaussian", (0, 3, 6, 7), form=form)
    compare(backend, "gaussian", x, params, posterior(0, (3,), torch.float32), reduction)
    assert not any(g.any() for g in gradients_of_nothing(x, params, reduction, backend))


def gradients_of_nothing(x, params, reduction, backend):
    params = [p.requires_grad_() for p in params]
    nll = vk.nll(params, x, likelihood="gaussian", reduction=reduction, backend=backend)
    return torch.autograd.grad(nll.sum(), params)


THREE = [name for name, formula in vk.formulas.LIKELIHOODS.items() if len(formula.PARAMETERS) == 3]


@pytest.mark.parametrize(
    "forms", [("column", "column"), ("number", "element"), ("element", "channel"), ("sample", "column")], ids=str
)
@pytest.mark.parametrize("likelihood", THREE[:1])
def test_three_parameters_of_different_forms(backend, likelihood, forms):
    shape = (9, 3, 6, 7)
    x, (first, _, _) = cases.draw(likelihood, shape)
    others = [cases.draw(likelihood, shape, form=form, seed=5)[1][k] for k, form in enumerate(forms, 1)]
    compare(backend, likelihood, x, (first, *others), posterior(shape[0], (3,), torch.float32))


@pytest.mark.parametrize("beta", ["per_dim", "0-d", 0.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights(backend, beta, reduction):
    x, params = cases.draw("gaussian", (9, 130))
    beta = {"per_dim": torch.linspace(0, 2, 21), "0-d": torch.tensor(0.4)}.get(beta, beta)
    latent = posterior(9, (21,), torch.float32)
    compare(backend, "gaussian", x, params, latent, reduction, beta=beta, rec_weight=torch.tensor(2.5))


@compiled
@pytest.mark.parametrize("likelihood", ORACLES)
def test_threads_change_no_bit(likelihood):
    shape = (130, 1031)
    x, params = cases.draw(likelihood, shape, form=None)
    if len(params) > 1:
        params = (params[0], params[1][0], *params[2:])  # one row for all samples: its gradient sums over the batch
    latent = posterior(130, (300,), torch.float32)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(outcome("cpu", likelihood, x, params, latent, "mean"))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for name, value in results[0].items():
            assert torch.equal(value, other[name]), name


@pytest.mark.full
def test_sum_of_many(backend):
    """The sum over many float32 elements is right to 1e-6: short sums are in float32, and their sum is in float64."""
    n = 1 << 20 if backend == "triton" else 50_000_000  # Triton's interpreter takes 6 us for each element
    logits = torch.linspace(-4, 4, n).view(1, n)
    x = torch.full((1, n), 0.25)
    with torch.no_grad():
        value = vk.nll(logits, x, backend=backend).double()
    truth = sum(
        vk.nll(part.double(), x_.double(), backend="torch")
        for part, x_ in zip(logits.split(1 << 20, 1), x.split(1 << 20, 1), strict=True)
    )
    assert ((value - truth).abs() / truth).item() < 1e-6


@pytest.mark.full
@compiled
@pytest.mark.parametrize("isa", instruction_sets.CASES)
def test_every_instruction_set(isa, request):
    others = "kernels/test_levels.py", "formulas/test_counts.py", "formulas/test_counts_far_out.py"
    some = "(test_dtypes or test_latent_dims or test_broadcast) and cpu or test_loop or test_zeros"
    instruction_sets.run(isa, request.config, __file__, *(TESTS / path for path in others), "-k", some)


def test_the_kl_up_to_the_largest_logvar(backend):
    """The KL is right up to the largest logvar: float32 can hold e^88.72. A computation that splits off the factor
    2^128 would overflow, because float32 cannot hold 2^128."""
    logvar = torch.tensor([[80.0, 88.0], [88.3, 88.5], [88.71, -87.0]]).requires_grad_()
    results = []
    for who, to in ((backend, torch.float32), ("torch", torch.float64)):
        kl = vk.gaussian_kl(torch.zeros(3, 2, dtype=to), logvar.to(to), backend=who)
        results.append([kl, *torch.autograd.grad(kl.sum(), logvar)])
    for ours, truth in zip(*results, strict=True):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours, truth.float())


# --- the sample and its KL; test_cuda_host.py and test_gpu.py use these comparisons too

SAMPLE_LAYOUTS = ["contiguous", "halves", "odd halves", "packed", "odd packed"]
SAMPLE_DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def compare_samples(module, dtype, layout, with_kl, device="cpu"):
    """Compares three samples of each posterior, the KL to a prior, and all gradients under random incoming
    gradients."""
    g = torch.Generator().manual_seed(5)
    width = 9 if "odd" in layout else 20
    both, prior = (torch.randn(shape, generator=g).to(device, dtype) for shape in ((6, 2 * width), (2, 6, width)))
    moments = {"packed": (both,), "halves": both.chunk(2, 1)}.get(layout.split()[-1])
    moments = moments or [half.clone() for half in both.chunk(2, 1)]
    incoming = torch.randn(3, 6, width, generator=g).to(device), torch.rand(6, generator=g).to(device)
    rng, results = torch.tensor((3, 4), device=device), []
    for who, to in ((reference, torch.float64), (reference, dtype), (module, dtype)):
        inputs = [(t if to == dtype else t.to(to)).detach().requires_grad_() for t in (*moments, *prior)]
        mu, logvar = inputs[:2] if len(moments) == 2 else (inputs[0], None)
        out = who.sample_kl(Draw(mu, logvar, tuple(inputs[-2:]), rng, 3, with_kl))[: 1 + with_kl]
        wanted = inputs if with_kl else inputs[:-2]
        grads = torch.autograd.grad(out, wanted, [w.to(o.dtype) for w, o in zip(incoming, out, strict=False)])
        results.append([*out, *grads])
    for truth, theirs, ours in zip(*results, strict=True):
        cases.check(ours, theirs, truth, dtype, "sample")


@pytest.mark.parametrize("layout", SAMPLE_LAYOUTS)
@pytest.mark.parametrize("dtype", SAMPLE_DTYPES, ids=str)
@pytest.mark.parametrize("with_kl", [False, True])
def test_sample(backend, dtype, layout, with_kl):
    compare_samples(backends.choose(backend, ()), dtype, layout, with_kl)
