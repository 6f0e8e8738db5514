"""The CUDA backend without a GPU: the ops' glue and the kernels' source run on the host, block by block, through the
tables of test_objective.py, test_weights.py and test_noise.py. In any order of blocks and threads the bits are the
same; memory comes filled with NaN. test_cuda_faults.py plants faults, which these tests find."""

import math
import os
import shutil

import cases
import corrected
import cuda_host
import layouts
import levels
import pixels
import pytest
import repeated
import rows
import tables
import test_floor as floors
import test_log_prob as log_probs
import test_mixed as of_tables
import test_mixture as mixtures
import test_narrow as narrow
import test_objective as table
import test_pixels as of_pixels
import test_rows as table_of_rows
import test_weights as weighted
import torch
from oracles import ORACLES
from test_defaults import WITH_DEFAULTS, compare_defaults
from test_noise import RNGS, SHARD_CASES, compare_shards
from test_noise import SHAPES as NOISE_SHAPES

import vae_kernels as vk
from vae_kernels import backends
from vae_kernels.backends import compiled as ops
from vae_kernels.backends.compiled import expected
from vae_kernels.core import noise
from vae_kernels.core.objective import Draw, KlFloor
from vae_kernels.formulas import LOG_TOTAL, ROW

pytestmark = pytest.mark.full  # the compiler takes longest
if not cuda_host.CSRC.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no csrc/", allow_module_level=True)
if not shutil.which(cuda_host.CXX[0]):
    pytest.skip(f"no C++ compiler ({cuda_host.CXX[0]}) to compile csrc/cuda with", allow_module_level=True)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    path = os.environ.get(cuda_host.LIBRARY) or cuda_host.build(cuda_host.CSRC, tmp_path_factory.mktemp("cuda_host"))
    return cuda_host.load(path)


@pytest.fixture(autouse=True)
def in_place(host, monkeypatch):
    """Backend "cpu" calls these ops; torch fills new memory with NaN, so that an element nobody wrote shows."""
    monkeypatch.setitem(backends.choice._MISSING, "cpu", None)
    for name in cuda_host.OPS[:-1]:
        monkeypatch.setitem(ops.KERNELS["compiled"], name, getattr(host, name).default)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    host.set_mode(False, True)


def compare(*arguments, **settings):
    table.compare("cpu", *arguments, **settings)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [*cases.SHAPES, (1, 70001), (700, 3), (300, 40), (9, 200)], ids=str)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_shapes(likelihood, shape, reduction):
    x, params = cases.draw(likelihood, shape)
    compare(likelihood, x, params, table.posterior(shape[0], (5,), torch.float32), reduction)


@pytest.mark.parametrize("shape", [*cases.SHAPES, (300, 40), (1, 70001)], ids=str)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_terms(likelihood, shape):
    log_probs.compare("cpu", likelihood, *cases.draw(likelihood, shape))


@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", *cases.LAYOUTS])
@pytest.mark.parametrize("likelihood", ["gaussian", "zinb"])
def test_terms_of_types_and_layouts(likelihood, dtypes, layout):
    x, params = cases.draw(likelihood, (5, 4, 6, 8), dtypes)
    lay = cases.LAYOUTS.get(layout, lambda t: t)
    log_probs.compare("cpu", likelihood, lay(x), [lay(p) for p in params])


@pytest.mark.parametrize("incoming", log_probs.INCOMING)
@pytest.mark.parametrize("form", cases.FORMS)
def test_forms_of_terms(form, incoming):
    log_probs.compare("cpu", "zinb", *cases.draw("zinb", (6, 3, 5, 7), form=form), incoming)


@pytest.mark.parametrize("incoming", log_probs.INCOMING)
def test_terms_of_levels(incoming):
    log_probs.test_gradients_of_levels("cpu", (6,), incoming)


@pytest.mark.parametrize("dims", [(), (1,), (20,), (3, 2, 5), (150,), (1025,), (0,)], ids=str)
@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_latent_dims(dims, prior, dtype):
    x, params = cases.draw("bernoulli", (61, 9), (dtype, dtype))
    compare("bernoulli", x, params, table.posterior(61, dims, dtype, prior))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(6, 1037), (9, 64)], ids=str)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_dtypes(likelihood, shape, dtypes, reduction):
    x, params = cases.draw(likelihood, shape, dtypes)
    compare(likelihood, x, params, table.posterior(shape[0], (33,), dtypes[0], prior=True), reduction)


@pytest.mark.parametrize("of", ["recon", "x", "both"])
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("likelihood", ORACLES)
@pytest.mark.parametrize("dtypes", [cases.DTYPES[0], cases.DTYPES[7]], ids=str)
def test_layouts(likelihood, layout, of, dtypes):
    x, params = cases.draw(likelihood, (5, 4, 6, 8), dtypes)
    lay = cases.LAYOUTS[layout]
    if of != "recon":
        x = lay(x)
    if of != "x":
        params = [lay(p) for p in params]
    compare(likelihood, x, params, table.posterior(5, (3,), dtypes[0]))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("likelihood", [name for name in ORACLES if len(vk.formulas.LIKELIHOODS[name].PARAMETERS) > 1])
@pytest.mark.parametrize("dtypes", [cases.DTYPES[0], cases.DTYPES[1], cases.DTYPES[4]], ids=str)
def test_broadcast_parameters(likelihood, form, layout, dtypes):
    x, params = cases.draw(likelihood, (67, 3, 6, 7), dtypes, form)
    if layout == "channels_last":
        x, params = cases.LAYOUTS[layout](x), (cases.LAYOUTS[layout](params[0]), *params[1:])
    compare(likelihood, x, params, table.posterior(67, (3,), dtypes[0]))


@pytest.mark.parametrize("beta", ["per_dim", "0-d", 0.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights(beta, reduction):
    x, params = cases.draw("gaussian", (9, 130))
    beta = {"per_dim": torch.linspace(0, 2, 21), "0-d": torch.tensor(0.4)}.get(beta, beta)
    latent = table.posterior(9, (21,), torch.float32)
    compare("gaussian", x, params, latent, reduction, beta=beta, rec_weight=torch.tensor(2.5))


@pytest.mark.parametrize("terms", [False, True])
@pytest.mark.parametrize("given", [(9,), (9, 21)], ids=str)
@pytest.mark.parametrize("beta", [0.7, torch.tensor(0.4)], ids=["float", "0-d"])
def test_given_kl(given, beta, terms):
    x, params = cases.draw("gaussian", (9, 130))
    kl = torch.rand(given, generator=torch.Generator().manual_seed(3))
    results = []
    for backend, dtype in (("torch", torch.float64), ("torch", torch.float32), ("cpu", torch.float32)):
        inputs = [t.to(dtype).requires_grad_() for t in (*params, kl)]
        out = vk.fused_elbo(
            inputs[:2], x.to(dtype), kl=inputs[2], likelihood="gaussian", beta=beta, return_terms=terms, backend=backend
        )
        values = [out.loss, out.nll, out.kl] if terms else [out]
        loss = values[0]
        results.append([*values, *torch.autograd.grad(loss, inputs, torch.tensor(-1.7, dtype=dtype))])
    for truth, theirs, ours in zip(*results, strict=True):
        cases.check(ours, theirs, truth, torch.float32, "given kl")


# --- free bits


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dims", floors.DIMS, ids=str)
@pytest.mark.parametrize("unit", floors.UNITS)
def test_floors(unit, dims, reduction):
    floors.test_units("cpu", unit, dims, reduction)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("unit", floors.UNITS)
def test_dtypes_of_floors(unit, dtype):
    floors.test_dtypes("cpu", unit, True, dtype)
    floors.test_a_nan_costs_nan("cpu", unit)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dims", [(4, 3), (6, 40)], ids=str)
@pytest.mark.parametrize("unit", floors.UNITS)
def test_floors_of_no_sample(unit, dims, reduction):
    """As in the reference, the mean over no sample is NaN, and so is the mean of no loss; the sum of no loss is 0."""
    x, params = cases.draw("bernoulli", (0, 5))
    arguments = "bernoulli", x, params, table.posterior(0, dims, torch.float32), reduction
    ours, theirs = (table.outcome(name, *arguments, free_bits=(0.5, unit)) for name in ("cpu", "torch"))
    for name, value in theirs.items():
        assert cases.same(ours[name], value), name


@pytest.mark.parametrize("form", ["element", "sample", "row"])
@pytest.mark.parametrize("unit", floors.UNITS)
def test_floors_of_latent_weights(unit, form):
    floors.test_latent_weights("cpu", unit, form)


@pytest.mark.parametrize("terms", [False, True])
@pytest.mark.parametrize("unit, given", floors.GIVEN, ids=str)
def test_floors_of_a_given_kl(unit, given, terms):
    floors.test_a_given_kl("cpu", unit, given, terms)


@pytest.mark.parametrize("tickets, reduction", [(True, "none"), (True, "mean"), (False, "none")])
@pytest.mark.parametrize("unit", floors.UNITS)
@pytest.mark.parametrize("rows, dims", [(4_200, 7), (9_000, 7), (600, 65)], ids=str)
def test_floors_of_a_finish_of_many_blocks(host, rows, dims, unit, tickets, reduction):
    """The last block runs first: a block that reads the means of another block finds NaN."""
    host.set_mode(True, tickets)
    x, params = cases.draw("bernoulli", (rows, 1))
    floors.compare("cpu", x, params, table.posterior(rows, (dims,), torch.float32), unit, reduction)


@pytest.mark.parametrize("case", repeated.CASES)
def test_draws(host, case):
    """Several samples of the parameters for each sample of x."""
    repeated.CASES[case]({name: getattr(host, name).default for name in cuda_host.OPS})


def test_more_draws_than_32_bits_count(host):
    """The samples take no memory, and the op refuses before it makes a result."""
    recon, rest = torch.zeros(1, 1).expand(1 << 32, 1), (1.0, 1.0, 0.0, 0, 1, 0, False, 1.0)
    with pytest.raises(RuntimeError, match="x is repeated for 4294967296 samples, expected fewer than 2\\^32"):
        host.elbo(torch.zeros(1, 1), [recon], "bernoulli", [], *[None] * 6, *rest)


# --- gradients that are corrected


def kernels(host):
    return {name: getattr(host, name).default for name in ("elbo", "elbo_backward", "correct_")}


@pytest.mark.parametrize("incoming", corrected.INCOMING)
@pytest.mark.parametrize("shape", [(6, 1), (70, 5), (300, 10), (9, 64), (9, 65), (2, 16411), (700, 3)], ids=str)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "zinb"])
def test_corrected(host, likelihood, shape, incoming):
    corrected.compare(kernels(host), likelihood, shape, (5,), incoming)


@pytest.mark.parametrize("weight", [None, torch.bool])
@pytest.mark.parametrize("incoming", ["one differs", "every third differs", "a neighbour", "one number"])
@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
def test_dtypes_of_corrected(host, dtypes, incoming, weight):
    corrected.compare(kernels(host), "gaussian", (67, 65), (3, 50), incoming, dtypes, True, weight, floor=True)


def test_what_is_not_corrected(host):
    """A gradient that is a sum over samples, or for free bits of a batch."""
    with pytest.raises(RuntimeError, match="only the gradients of a loss per sample are corrected"):
        _correct(host, 0, floor=KlFloor.PER_DIM)
    with pytest.raises(RuntimeError, match="only the gradients of a loss per sample are corrected"):
        _correct(host, 1)
    with pytest.raises(RuntimeError, match="the gradient of input 1 is missing, or is not of the type and size"):
        _correct(host, 0, grads=1)
    with pytest.raises(RuntimeError, match="the gradient of parameter 1 is a sum, which is not corrected in place"):
        _correct(host, 0, of_logvar=())


def _correct(host, reduction, floor=0, grads=2, of_logvar=(4, 3)):
    recon = [torch.zeros(4, 3), torch.zeros(of_logvar)]
    request = torch.zeros(4, 3), recon, "gaussian", [torch.zeros(4)], *[None] * 6, 1.0, 1.0, 0.0, floor, reduction, 3
    host.correct_([torch.zeros(4, 3) for _ in range(grads)], torch.ones(4), 0.25, *request)


@pytest.mark.parametrize("reduce", [lambda t: t.mean(), lambda t: t.sum(), lambda t: t[2]], ids=["mean", "sum", "one"])
def test_autograd_corrects(host, monkeypatch, reduce):
    """Through autograd as on a GPU: the gradients that the forward pass computed are corrected in place."""
    x, params = cases.draw("bernoulli", (6, 37))
    latent = table.posterior(6, (5,), torch.float32)

    def found():
        inputs = [t.clone().requires_grad_() for t in (*params, *latent)]
        loss = vk.fused_elbo(inputs[0], x, inputs[1], inputs[2], reduction="none", backend="cpu")
        return torch.autograd.grad(reduce(loss), inputs)

    monkeypatch.setattr(expected, "of", lambda *_: None)
    anew = found()
    monkeypatch.setattr(expected, "of", lambda *_: 1 / 6)
    monkeypatch.setattr(expected, "ahead", expected._corrected)
    calls = []
    correct = host.correct_.default
    monkeypatch.setitem(ops.KERNELS["compiled"], "correct_", lambda *a: (calls.append(len(a[0])), correct(*a))[1])
    for a, b in zip(found(), anew, strict=True):
        assert cases.same(a, b)
    assert calls == [3]


# --- few columns


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("width", narrow.WIDTHS)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_narrow(likelihood, width, reduction):
    narrow.test_widths("cpu", likelihood, width, reduction)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("width", [1, 33, 128])
def test_narrow_forms(width, form, reduction):
    narrow.test_forms_of_parameters("cpu", "gaussian", width, form, reduction)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("width", [1, 5, 128])
def test_narrow_weights(width, form, reduction):
    narrow.test_weights("cpu", width, torch.bool, form, reduction)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("apart", ["x", "recon", "mu"])
def test_narrow_rows_apart(apart, reduction):
    narrow.test_rows_apart("cpu", apart, reduction)


# --- weights: the tests of every backend, and larger shapes


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_forms_of_weights(likelihood, form, dtype):
    weighted.test_forms("cpu", likelihood, form, dtype)


@pytest.mark.parametrize("dtype, reduction", [(torch.bool, "mean"), (torch.float32, "none")], ids=str)
@pytest.mark.parametrize("shape", [(5, 1), (0, 5), (3, 0), (1, 70001), (700, 3), (300, 40), (9, 200)], ids=str)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_shapes_of_weights(likelihood, shape, dtype, reduction):
    weighted.test_shapes("cpu", likelihood, shape, dtype, reduction)


@pytest.mark.parametrize("of_weight", cases.WEIGHT_DTYPES, ids=str)
@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
def test_dtypes_of_weights(of_weight, dtypes):
    weighted.test_dtypes("cpu", of_weight, dtypes)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("of", ["x and recon", "weight", "all"])
def test_layouts_of_weights(layout, of):
    weighted.test_layouts("cpu", layout, of)


@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("of_weight", ["element", "sample", "row"])
@pytest.mark.parametrize("likelihood", [name for name in ORACLES if len(vk.formulas.LIKELIHOODS[name].PARAMETERS) > 1])
def test_weights_beside_a_shared_parameter(likelihood, of_weight, form):
    weighted.test_the_gradient_of_a_shared_parameter_counts_weights("cpu", likelihood, form, of_weight)
    if form in ("number", "column", "sample"):
        weighted.test_poison_beside_shared_parameters("cpu", likelihood, form)


@pytest.mark.parametrize("form", ["sample", "column", "number"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_weights_beside_a_parameter_without_extremes(form, dtype):
    """The gradient of a shared parameter, where no element overflows: an inf gives an infinite budget to all."""
    g = torch.Generator().manual_seed(1)
    x, loc, logvar = torch.randn(3, 67, 3, 6, 70, generator=g, dtype=dtype)
    shape = cases.FORMS[form](x.shape)
    logvar = logvar.reshape(-1)[: math.prod(shape)].view(shape)
    for weight in (None, cases.weight(x.shape, torch.bool), cases.weight(x.shape, torch.float32)):
        compare("gaussian", x, (loc, logvar), table.posterior(67, (3,), dtype), weight=weight)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("poison, form", weighted.POISON, ids=str)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_poison_where_the_weight_is_0(likelihood, poison, form, dtype):
    weighted.test_poison_where_the_weight_is_0("cpu", likelihood, poison, form, dtype)
    weighted.test_a_batch_without_observed_elements("cpu", likelihood, dtype)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("inner", [False, True])
def test_weights_of_positions(inner, form, dtype):
    weighted.test_positions("cpu", form, dtype, inner)


@pytest.mark.parametrize("positions", [(), (1,), (701,)], ids=str)
@pytest.mark.parametrize("count", [1, 8, 259])
def test_sizes_of_weighted_positions(positions, count):
    weighted.test_sizes_of_positions("cpu", count, positions)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
def test_padded_levels(dtype):
    weighted.test_padded_levels("cpu", dtype)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("prior, beta", [(False, 0.6), (True, "per_dim")], ids=str)
def test_forms_of_latent_weights(beta, prior, form, dtype):
    weighted.test_forms_of_latent_weights("cpu", form, prior, dtype, beta)


@pytest.mark.parametrize("dims", [(1,), (20,), (3, 2, 5), (1031,), (2300,), (0,)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_weighted_latent_dims(dims, reduction, dtype):
    weighted.test_latent_dims("cpu", dims, reduction, dtype)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("form", ["element", "sample", "row", "pixel"])
@pytest.mark.parametrize("prior", [False, True])
def test_poison_where_the_latent_weight_is_0(prior, form, dtype):
    weighted.test_poison_where_the_latent_weight_is_0("cpu", prior, form, dtype)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("form", ["number", "row", "sample", "element"])
@pytest.mark.parametrize("layout", ["apart", "packed"])
@pytest.mark.parametrize("prior", [False, True])
def test_the_weighted_kl_of_a_sample(prior, layout, form, dtype):
    weighted.test_the_kl_of_a_sample("cpu", form, dtype, layout, prior)


def test_the_weighted_kl_of_each_dimension():
    weighted.test_the_kl_of_each_dimension("cpu", True)
    weighted.test_poison_beside_a_sample("cpu")


@pytest.mark.parametrize("dtype", [torch.bool, *weighted.INTEGERS], ids=str)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_integer_targets(likelihood, dtype):
    weighted.test_targets("cpu", likelihood, dtype)
    weighted.test_levels("cpu", dtype)


# --- rows, whose logits have a soft-max: the tests of every backend, and larger shapes

WITH_TOTAL = [*LOG_TOTAL]
WITH_OTHERS = [name for name in LOG_TOTAL if len(LOG_TOTAL[name].PARAMETERS) > 1]


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [*rows.SHAPES, (1, 70001), (700, 3), (300, 40), (9, 200)], ids=str)
@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_rows(likelihood, shape, reduction):
    rows.compare("cpu", likelihood, *rows.draw(likelihood, shape), reduction)


@pytest.mark.parametrize("dtypes", [*cases.DTYPES, *cases.COUNT_DTYPES], ids=str)
@pytest.mark.parametrize("shape", [(5, 37), (3, 1031)], ids=str)
@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_dtypes_of_rows(likelihood, shape, dtypes):
    table_of_rows.test_dtypes("cpu", likelihood, dtypes, shape)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("of", ["recon", "x", "both"])
@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_layouts_of_rows(likelihood, of, layout):
    table_of_rows.test_layouts("cpu", likelihood, layout, of)


@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("likelihood", WITH_OTHERS)
def test_rows_with_broadcast_parameters(likelihood, form, dtype):
    table_of_rows.test_forms_of_the_other_parameters("cpu", likelihood, form, (37, 3, 2, 7), dtype)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("likelihood", WITH_TOTAL)
def test_weights_in_rows(likelihood, form, dtype):
    table_of_rows.test_weights("cpu", likelihood, form, dtype, (5, 3, 4, 7))


@pytest.mark.parametrize("form", ["number", "sample"])
@pytest.mark.parametrize("shape", [(5, 300), (3, 1), (4,), (1, 6)], ids=str)
@pytest.mark.parametrize("likelihood", ROW)
def test_weights_of_rows(likelihood, shape, form):
    table_of_rows.test_weights_of_rows("cpu", likelihood, form, torch.float32, shape)


@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_weighted_samples_of_rows(likelihood):
    table_of_rows.test_a_weight_of_a_sample_is_a_factor("cpu", likelihood)
    if likelihood in WITH_OTHERS:
        table_of_rows.test_a_gradient_of_16_bits_is_rounded_once("cpu", likelihood)


@pytest.mark.parametrize("form", ["element", "sample", "row"])
@pytest.mark.parametrize("likelihood", WITH_TOTAL)
def test_poison_in_rows(likelihood, form):
    table_of_rows.test_poison_where_the_weight_is_0("cpu", likelihood, form, (6, 3, 4, 50))


@pytest.mark.parametrize("form", ["[B]", "[B, 1]", "strided", "one for all", "float64", "bfloat16"])
@pytest.mark.parametrize("likelihood", WITH_TOTAL)
def test_totals_of_rows(likelihood, form):
    table_of_rows.test_forms_of_log_total("cpu", likelihood, form)


@pytest.mark.parametrize("wanted", ["logits", "log_total", "others"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_one_gradient_of_rows(likelihood, wanted, dtype):
    table_of_rows.test_one_gradient_alone("cpu", likelihood, wanted, dtype)


@pytest.mark.parametrize("likelihood", WITH_TOTAL)
def test_rows_without_counts(likelihood):
    for with_weight in (False, True):
        table_of_rows.test_a_sample_without_counts("cpu", likelihood, (3, 700), with_weight)


@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_extremes_of_rows(likelihood):
    table_of_rows.test_a_logit_of_minus_infinity_removes_its_element("cpu", likelihood, (3, 700))
    table_of_rows.test_a_number_that_all_logits_share_changes_nothing("cpu", likelihood, 1e4)
    for scale, total in ((1e-3, 1), (30.0, 10**7), (1e4, 10**7)):
        table_of_rows.test_logits_far_apart("cpu", likelihood, scale, total)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_counted_rows(dtype):
    table_of_rows.test_the_gradient_of_the_logits_of_poisson_has_no_total_in_it("cpu", dtype, (2, 600))
    table_of_rows.test_multinomial_against_scipy_in_float32("cpu")


def test_gradients_of_rows_are_not_corrected(host):
    x, params, log_total = rows.draw("poisson", (3, 5))
    settings = None, None, None, None, None, log_total[:, None], 1.0, 1.0, 1.0, 0, 0, 0b11
    with pytest.raises(RuntimeError, match="the gradients of the row kind are not corrected in place"):
        host.correct_([torch.zeros(3, 5), torch.zeros(3, 1)], torch.ones(3), 0.5, x, params, "poisson", [], *settings)


def _categorical(logits, x):
    return vk.nll(logits, x, likelihood="categorical", backend="cpu")


def outcomes():
    """Results of cases with one block and with many, with sums over rows, numbers and terms."""
    for likelihood, shape, dims in (("gaussian", (130, 1031), (300,)), ("bernoulli", (3, 5), (2,))):
        x, params = cases.draw(likelihood, shape)
        latent = table.posterior(shape[0], dims, torch.float32)
        yield from table.outcome("cpu", likelihood, x, params, latent, "mean").items()
        if len(params) > 1:
            for other in (params[1][0], params[1][0, 0], params[1][:, :1]):
                yield from table.outcome("cpu", likelihood, x, (params[0], other), latent, "mean").items()
            weights = {
                "weight": cases.weight(shape, torch.bool),
                "latent_weight": cases.weight(latent[0].shape, torch.half),
            }
            few = params[0], params[1][:, :1]
            yield from table.outcome("cpu", likelihood, x, few, latent, "mean", **weights).items()
    for likelihood in ("poisson", "multinomial"):
        x, params, log_total = rows.draw(likelihood, (130, 1031))
        case = likelihood, x, params, log_total, torch.linspace(1, 2, 130)
        for weight in (None, cases.weight(x.shape if likelihood == "poisson" else (130, 1), torch.bool)):
            yield from zip("vlt", rows.outcome(rows.fused, *case, weight=weight, backend="cpu"), strict=False)
    yield from mixtures.outcome(mixtures.draw(130, 200, 3), "cpu").items()
    mu, logvar = torch.randn(2, 17, 1001, generator=torch.Generator().manual_seed(1)).unbind()
    yield from zip("nd", levels.outcome(_categorical, *levels.draw(3, 300, (9,))), strict=True)
    yield from zip("zk", ops.sample_kl(Draw(mu, logvar, (), torch.tensor((1, 2)), 3, True)), strict=True)


@pytest.mark.parametrize("mode", [(True, True), (False, False), (True, False)], ids=str)
def test_order_and_tickets_change_no_bit(host, mode):
    """Blocks and threads that run the other way round, and a launch of its own where the last block would finish."""
    expected = list(outcomes())
    host.set_mode(*mode)
    for (name, ours), (_, theirs) in zip(outcomes(), expected, strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("columns", [7, 4096], ids=str)
@pytest.mark.parametrize("tickets", [True, False])
def test_a_finish_of_many_blocks(host, tickets, columns):
    host.set_mode(False, tickets)
    rows = {7: 40_000, 4096: 160}[columns]
    x, *params = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(1))  # no term overflows
    latent = table.posterior(rows, (3,), torch.float32)
    compare("gaussian", x, (params[0], params[1][0]), latent)
    compare("gaussian", x, (params[0], params[1][:, :1]), latent)
    compare("gaussian", x, params, latent, "none", weight=cases.weight(x.shape, torch.bool))
    compare("gaussian", x, params, latent, "none")


def test_unit_is_the_rounded_quotient():
    """uint8 x is x / 255 rounded once, all 256 of them: with logvar 0 the gradient by loc is loc - x."""
    x = torch.arange(256, dtype=torch.uint8).view(1, 256)
    loc = torch.zeros(1, 256, requires_grad=True)
    (grad,) = torch.autograd.grad(vk.nll(loc, x, likelihood="gaussian", backend="cpu").sum(), loc)
    assert torch.equal(-grad, x.float() / 255)


@pytest.mark.parametrize("positions", [*levels.POSITIONS[:4], (70,)], ids=str)
@pytest.mark.parametrize("n", [*levels.LEVELS, 3000])
def test_levels(n, positions):
    logits, x = levels.draw(3, n, positions)
    levels.compare("cpu", logits, x)
    if positions:
        levels.compare("cpu", layouts.LAYOUTS["innermost"](logits), x)


@pytest.mark.parametrize("dtype", levels.DTYPES, ids=str)
@pytest.mark.parametrize("of_x", levels.TARGETS, ids=str)
def test_dtypes_of_levels(dtype, of_x):
    levels.compare("cpu", *levels.draw(3, 259, (5, 7), dtype, of_x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("likelihood", WITH_DEFAULTS)
def test_a_default_belongs_to_the_formula(monkeypatch, likelihood, dtype):
    compare_defaults(monkeypatch, "cpu", likelihood, dtype)


@pytest.mark.parametrize("n", [1, 0, 255, 257, 600])
@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("name", [name for name in tables.TABLES if name != "many"])  # more columns than blocks here
def test_tables(name, codes, n):
    tables.compare("cpu", *tables.draw(tables.TABLES[name], n, codes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("form", tables.FORMS)
@pytest.mark.parametrize("weight", [None, *tables.WEIGHTS])
def test_types_and_weights_of_tables(dtype, form, weight):
    columns = tables.TABLES["all"]
    likelihood, x, params = tables.draw(columns, 37, form == "cell", dtype, form)
    of_weight = torch.bool if form == "column" else dtype
    weight = None if weight is None else cases.weight(tables.WEIGHTS[weight](37, len(columns)), of_weight)
    tables.compare("cpu", likelihood, x.to(dtype), params, weight)


@pytest.mark.parametrize("of_x", [torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_integers_of_tables(of_x):
    likelihood, x, params = tables.draw((("categorical", 2), "bernoulli"), 300, codes=True)
    ours, expected = (vk.nll(params, v, likelihood=likelihood, backend="cpu") for v in (x.to(of_x), x.float()))
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("form", tables.WEIGHTS)
def test_missing_cells_of_tables(form, codes):
    for dtype in (torch.bool, torch.float32):
        of_tables.test_weights("cpu", form, dtype, codes, "all")


@pytest.mark.parametrize("of", ["x", "packed", "both"])
@pytest.mark.parametrize("how", ["rows apart", "transposed", "expanded", "shifted"])
def test_layouts_of_tables(how, of):
    of_tables.test_layouts("cpu", how, of)


@pytest.mark.parametrize("width", [3, 200])
@pytest.mark.parametrize("wrong", ["none", "two", "half", math.nan, 3.0, -1.0, 0.5, 1e9])
def test_categories_of_tables_that_are_none(wrong, width):
    of_tables.test_what_is_no_category_is_nan_in_its_own_cell("cpu", width, wrong)


@pytest.mark.parametrize("width", [3, 200])
def test_extreme_tables(width):
    of_tables.test_a_logit_of_minus_infinity_is_a_category_that_cannot_be("cpu", width)
    of_tables.test_small_differences_of_large_logits("cpu", width)
    for name in ("gaussian", "laplace"):
        of_tables.test_tanh_keeps_its_digits("cpu", name)


@pytest.mark.parametrize("incoming", ["each", "by row", "one", "some 0"])
def test_terms_of_tables(incoming):
    of_tables.test_log_prob_has_the_gradients_of_each_column("cpu", incoming)
    of_tables.test_a_column_without_an_incoming_gradient_has_none("cpu")


@pytest.mark.parametrize("mode", [(True, True), (False, False)], ids=str)
def test_order_changes_no_bit_of_a_table(host, mode):
    likelihood, x, params = tables.draw(tables.TABLES["all"], 600)
    incoming = torch.linspace(1, 2, 600)
    expected = tables.outcome(likelihood, x, params, incoming, backend="cpu")
    host.set_mode(*mode)
    assert all(map(cases.same, tables.outcome(likelihood, x, params, incoming, backend="cpu"), expected))


def test_more_rows_of_a_table_than_a_grid_has_blocks():
    tables.compare("cpu", *tables.draw(("gaussian", ("categorical", 3)), 2051))
    tables.compare("cpu", *tables.draw(("gaussian",), 40_000))  # more blocks of rows than a thread adds up


@pytest.mark.parametrize("positions", [(), (3,)], ids=str)
def test_more_rows_of_levels_than_a_grid_has_blocks(positions):
    """There are several launches then: a grid ends at 2^31 - 1 blocks, and the batch need not."""
    levels.compare("cpu", *levels.draw(2051, 2, positions))


def test_a_grid_that_is_too_large_is_an_error():
    rows = 2048 * 256 + 1
    with pytest.raises(RuntimeError, match="more blocks than a grid has: split the batch"):
        vk.gaussian_kl(torch.zeros(1).expand(rows, 1), torch.zeros(1).expand(rows, 1), backend="cpu")


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_layouts_of_levels(layout):
    logits, x = levels.draw(4, 11, (6, 7))
    levels.compare("cpu", layouts.LAYOUTS[layout](logits), x)
    levels.compare("cpu", logits, layouts.LAYOUTS[layout](x.unsqueeze(1)).squeeze(1))


@pytest.mark.parametrize("positions", pixels.POSITIONS, ids=str)
@pytest.mark.parametrize("name", pixels.OPTIONS)
def test_pixels(name, positions):
    likelihood = pixels.OPTIONS[name]
    packed, x = pixels.draw(likelihood, 4, positions)
    pixels.compare("cpu", packed, x, likelihood)
    if positions:
        last = lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1)  # noqa: E731
        pixels.compare("cpu", last(packed), last(x), likelihood)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("of_x", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("inner", [False, True])
def test_dtypes_of_pixels(dtype, of_x, inner):
    of_pixels.test_dtypes("cpu", dtype, of_x, inner)


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
@pytest.mark.parametrize("of", ["packed", "x", "both"])
def test_layouts_of_pixels(layout, of):
    of_pixels.test_layouts("cpu", layout, of, of_pixels.RGB)


@pytest.mark.parametrize("form", of_pixels.WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("inner", [False, True])
def test_weights_of_pixels(form, dtype, inner):
    of_pixels.test_a_weight_of_0_hides_a_nan("cpu", form, dtype, inner)


@pytest.mark.parametrize("inner", [False, True])
def test_terms_of_pixels(inner):
    of_pixels.test_log_prob("cpu", inner)


@pytest.mark.parametrize("of", ["x", "packed"])
def test_a_nan_among_pixels(of):
    of_pixels.test_a_nan_stays_in_its_own_sample("cpu", of)


@pytest.mark.parametrize("incoming", corrected.INCOMING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_pixels_are_corrected(host, incoming, dtype, inner, weighted):
    names = "pixel", "pixel_backward", "pixel_correct_"
    ops = {name: getattr(host, name).default for name in names}
    corrected.compare_pixels(ops, of_pixels.GREY if inner else of_pixels.RGB, incoming, dtype, inner, weighted)


def test_what_is_no_gradient_of_pixels(host):
    packed, x = pixels.draw(of_pixels.RGB)
    for wrong in (packed.double(), packed[:3]):
        with pytest.raises(RuntimeError, match="the gradient is not of the type and size of packed"):
            host.pixel_correct_(wrong, torch.ones(4), 0.25, of_pixels.RGB.name, x, packed, None, [256.0, 0, 1, -9])


@pytest.mark.parametrize("reduce", [lambda t: t.mean(), lambda t: t.sum(), lambda t: t[2]], ids=["mean", "sum", "one"])
def test_autograd_corrects_pixels(host, monkeypatch, reduce):
    """Through autograd as on a GPU, also beside a floor of the KL."""
    packed, x = pixels.draw(of_pixels.RGB, 6, (7,))
    latent = table.posterior(6, (5,), torch.float32)

    def found():
        inputs = [t.clone().requires_grad_() for t in (packed, *latent)]
        settings = {
            "likelihood": of_pixels.RGB,
            "reduction": "none",
            "free_bits": (0.5, "per_sample"),
            "backend": "cpu",
        }
        loss = vk.fused_elbo(inputs[0], x, *inputs[1:], **settings)
        return torch.autograd.grad(reduce(loss), inputs)

    monkeypatch.setattr(expected, "of", lambda *_: None)
    anew = found()
    monkeypatch.setattr(expected, "of", lambda settings, *_: None if settings.floor else 1 / 6)
    monkeypatch.setattr(
        expected, "ahead", lambda ctx, *a: None if ctx.incoming is None else expected._corrected(ctx, *a)
    )
    calls = []
    correct = host.pixel_correct_.default
    monkeypatch.setitem(ops.KERNELS["compiled"], "pixel_correct_", lambda *a: (calls.append(a[2]), correct(*a))[1])
    for a, b in zip(found(), anew, strict=True):
        assert cases.same(a, b)
    assert calls == [1 / 6]


def test_extreme_pixels():
    of_pixels.test_extremes_are_finite("cpu")


# a tile of each, and one more; more dims than one chain of sums
MIXTURES = [
    (1, 1, 1), (5, 3, 2), (64, 64, 3), (65, 65, 33), (100, 70, 40), (0, 3, 2), (700, 300, 4), (1, 10_000, 2),
    (3, 40, 1100),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", MIXTURES, ids=str)
def test_mixture(size, dtype):
    inputs = mixtures.draw(*size, dtype)
    if size[0]:
        mixtures.compare(inputs)
    elif dtype == torch.float32:
        assert all((g == 0).all() for g in mixtures.outcome(inputs, "cpu").values())


def test_mixture_of_blocks_that_take_several_tiles():
    """One after another, where both sides have many."""
    mixtures.compare(mixtures.draw(16_500, 130, 1))


def test_mixture_and_its_gradients_in_one_call():
    mixtures.compare(mixtures.draw(100, 70, 5), uniform=True)


@pytest.mark.parametrize("deviations", [30.0, 1e3, 1e5])
def test_mixture_far_from_all_components(deviations):
    mixtures.test_far_from_all_components("cpu", deviations)


def test_mixture_of_no_weight_and_nan():
    mixtures.test_components_of_no_weight_and_nan("cpu")
    mixtures.test_whole_tiles_of_no_weight("cpu")
    mixtures.test_only_the_gradients_that_are_needed("cpu")


@pytest.mark.parametrize("logvar", mixtures.LOGVARS)
@pytest.mark.parametrize("scale", mixtures.SCALES)
def test_what_a_mixture_can_hold(logvar, scale):
    mixtures.compare_extremes(logvar, scale, "cpu")


@pytest.mark.parametrize("wrong", [-1, 200, 2**32, -(2**40)])
def test_what_is_no_level(wrong):
    logits, x = levels.draw(4, 200, (3,))
    x[2, 1] = wrong
    nll = vk.nll(logits.requires_grad_(), x, likelihood="categorical", backend="cpu")
    nll.sum().backward()
    assert torch.equal(nll.isnan().nonzero(), torch.tensor([[2]]))
    positions = logits.grad.isnan().all(1)
    assert torch.equal(positions.nonzero(), torch.tensor([[2, 1]])) and logits.grad.isnan().sum() == 200


@pytest.mark.parametrize("rng", RNGS, ids=str)
@pytest.mark.parametrize("shape", NOISE_SHAPES, ids=str)
def test_noise_bits(shape, rng):
    zeros, rng = torch.zeros(shape), torch.tensor(rng)
    for n in (None, 3):
        z, _ = ops.sample_kl(Draw(zeros, zeros, (), rng, n, False))
        assert torch.equal(z, noise.normals(rng, z.shape))


@pytest.mark.parametrize("n_samples", [None, 3])
@pytest.mark.parametrize("latents", SHARD_CASES, ids=str)
def test_shards_have_the_noise_of_the_whole(latents, n_samples):
    compare_shards("cpu", latents, n_samples)


@pytest.mark.parametrize("layout", table.SAMPLE_LAYOUTS)
@pytest.mark.parametrize("dtype", table.SAMPLE_DTYPES, ids=str)
@pytest.mark.parametrize("with_kl", [False, True])
def test_sample(dtype, layout, with_kl):
    table.compare_samples(ops, dtype, layout, with_kl)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("factor", [1.0, -2.5])
def test_rescale(host, dtype, factor):
    tensors = [torch.randn(n).to(dtype) for n in (0, 1, 5, 5000)] + [torch.randn(70)[3:].to(dtype)]
    expected = [t * factor for t in tensors]
    host.rescale_(tensors, torch.tensor(factor))
    for ours, theirs in zip(tensors, expected, strict=True):
        assert torch.equal(ours, theirs)
