"""The backends on a GPU: the tables of test_objective.py, and what only a GPU has: streams, graphs, no sync."""

import copy

import cases
import corrected
import pytest
import repeated
import tables
import test_aggregate_posterior as decompositions
import test_floor as floors
import test_mixture as mixtures
import test_objective as table
import torch
from oracles import ORACLES
from test_defaults import WITH_DEFAULTS, compare_defaults
from test_noise import RNGS, SHARD_CASES, compare_shards
from test_noise import SHAPES as NOISE_SHAPES
from torch.utils._pytree import tree_map_only

import vae_kernels as vk
from vae_kernels import backends
from vae_kernels.backends.compiled.schemas import KERNELS
from vae_kernels.core import noise
from vae_kernels.core.objective import Draw

DEVICE = "cuda"
REASONS = vk.available_backends() if torch.cuda.is_available() else dict.fromkeys(("cuda", "triton"), "there is no GPU")
pytestmark = pytest.mark.gpu


@pytest.fixture(params=("cuda", "triton"))
def backend(request):
    if REASONS[request.param] is not None:
        pytest.skip(f"no backend {request.param} on a GPU: {REASONS[request.param]}")
    return request.param


SEVERAL = [name for name in ORACLES if len(vk.formulas.LIKELIHOODS[name].PARAMETERS) > 1]


def to_device(tensors, lay=lambda t: t):
    return [lay(t.to(DEVICE)) for t in tensors]


def outcome(backend, dtype, likelihood, x, params, latent, reduction, **weights):
    """The terms and all gradients, by name, computed in this dtype (None: as it is) from tensors on the device."""
    wide = lambda t: t if dtype is None or not t.is_floating_point() else t.to(dtype)  # noqa: E731
    inputs = [wide(t).detach().requires_grad_() for t in (*params, *latent)]
    mu, logvar, *prior = inputs[len(params) :]
    weights = {k: wide(w) if isinstance(w, torch.Tensor) else w for k, w in weights.items()}
    settings = {"likelihood": likelihood, "reduction": reduction, "return_terms": True, "backend": backend}
    recon = tuple(inputs[: len(params)])
    terms = vk.fused_elbo(recon, wide(x), mu, logvar, prior=prior or None, **settings, **weights)
    incoming = torch.randn(terms.loss.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    grads = torch.autograd.grad(terms.loss, inputs, incoming.to(terms.loss))
    for t, g in zip(inputs, grads, strict=True):
        assert g.dtype == t.dtype and g.shape == t.shape and g.device == t.device
    out = {"loss": terms.loss, "nll": terms.nll, "kl": terms.kl, "kl_per_dim": terms.kl_per_dim}
    return out | {f"gradient {i}": g for i, g in enumerate(grads)}


def compare(backend, likelihood, x, params, latent, reduction="mean", beta=0.6, rec_weight=1.3, **of_terms):
    """of_terms: weight and latent_weight."""
    arguments = (likelihood, x, params, latent, reduction)
    weights = {"beta": beta, "rec_weight": rec_weight, **of_terms}
    truth = outcome("torch", torch.float64, *arguments, **weights)
    theirs = outcome("torch", None, *arguments, **weights)
    ours, again = (outcome(backend, None, *arguments, **weights) for _ in range(2))
    for name, value in truth.items():
        if value is None:
            assert ours[name] is None, name
            continue
        cases.check(ours[name], theirs[name], value, params[0].dtype, name, likelihood)
        assert torch.equal(ours[name].nan_to_num(7), again[name].nan_to_num(7)), f"{name}: two runs differ"


def posterior(*arguments):
    return to_device(table.posterior(*arguments))


def draw(*arguments, lay=lambda t: t):
    x, params = cases.draw(*arguments)
    return lay(x.to(DEVICE)), to_device(params, lay)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [*cases.SHAPES, (1, 70001), (700, 3), (9, 200), (4096, 784)], ids=str)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_shapes(backend, likelihood, shape, reduction):
    compare(backend, likelihood, *draw(likelihood, shape), posterior(shape[0], (5,), torch.float32), reduction)


@pytest.mark.parametrize("dims", [(), (1,), (20,), (3, 2, 5), (1025,), (0,)], ids=str)
@pytest.mark.parametrize("prior", [False, True])
def test_latent_dims(backend, dims, prior):
    compare(backend, "bernoulli", *draw("bernoulli", (61, 9)), posterior(61, dims, torch.float32, prior))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(6, 1037), (9, 64)], ids=str)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_dtypes(backend, likelihood, shape, dtypes, reduction):
    latent = posterior(shape[0], (33,), dtypes[0], True)
    compare(backend, likelihood, *draw(likelihood, shape, dtypes), latent, reduction)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("likelihood", ORACLES)
@pytest.mark.parametrize("dtypes", [cases.DTYPES[0], cases.DTYPES[7]], ids=str)
def test_layouts(backend, likelihood, layout, dtypes):
    x, params = draw(likelihood, (5, 4, 6, 8), dtypes, lay=cases.LAYOUTS[layout])
    compare(backend, likelihood, x, params, posterior(5, (3,), dtypes[0]))


@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("likelihood", SEVERAL)
@pytest.mark.parametrize("dtypes", [cases.DTYPES[0], cases.DTYPES[1], cases.DTYPES[4]], ids=str)
def test_broadcast_parameters(backend, likelihood, form, dtypes):
    compare(backend, likelihood, *draw(likelihood, (67, 3, 6, 7), dtypes, form), posterior(67, (3,), dtypes[0]))


@pytest.mark.parametrize("beta", ["per_dim", "0-d", 0.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights(backend, beta, reduction):
    beta = {"per_dim": torch.linspace(0, 2, 21, device=DEVICE), "0-d": torch.tensor(0.4, device=DEVICE)}.get(beta, beta)
    latent = posterior(9, (21,), torch.float32)
    rec_weight = torch.tensor(2.5, device=DEVICE)
    compare(backend, "bernoulli", *draw("bernoulli", (9, 130)), latent, reduction, beta, rec_weight)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    "rows, dims", [(61, (1,)), (61, (3, 2, 5)), (9, (300,)), (20_000, (7,)), (9_000, (65,))], ids=str
)
@pytest.mark.parametrize("unit", floors.UNITS)
def test_free_bits(backend, unit, rows, dims, reduction):
    latent = table.posterior(rows, dims, torch.float32)
    units, _ = floors.units_of(floors.gaussian_kl(*(t.double() for t in latent)), unit)
    for above in (True, False):
        settings = {"free_bits": (floors.level(units, above), unit), "reduction": reduction}
        compare(backend, "bernoulli", *draw("bernoulli", (rows, 9)), to_device(latent), **settings)


@pytest.mark.parametrize("incoming", corrected.INCOMING)
@pytest.mark.parametrize("shape", [(6, 1), (70, 5), (300, 10), (9, 65), (2, 16411), (4096, 784)], ids=str)
@pytest.mark.parametrize("dtypes", [cases.DTYPES[0], cases.DTYPES[1]], ids=str)
def test_corrected(backend, dtypes, shape, incoming):
    kernels = KERNELS["compiled" if backend == "cuda" else "triton"]
    corrected.compare(kernels, "gaussian", shape, (5,), incoming, dtypes, device=DEVICE)
    corrected.compare(kernels, "gaussian", shape, (5,), incoming, dtypes, True, torch.bool, device=DEVICE)


@pytest.mark.parametrize("case", repeated.CASES)
def test_draws(backend, case):
    """Several samples of the parameters for each sample of x."""

    def there(op):
        return lambda *arguments: op(*tree_map_only(torch.Tensor, lambda t: t.to(DEVICE), arguments))

    kernels = KERNELS["compiled" if backend == "cuda" else "triton"]
    repeated.CASES[case]({name: there(op) for name, op in kernels.items()})


@pytest.mark.parametrize("rng", RNGS, ids=str)
@pytest.mark.parametrize("shape", [*NOISE_SHAPES, (1 << 20,)], ids=str)
def test_noise_bits(backend, shape, rng):
    zeros, rng = torch.zeros(shape, device=DEVICE), torch.tensor(rng)
    for n in (None, 3):
        z, _ = backends.choose(backend, (zeros,)).sample_kl(Draw(zeros, zeros, (), rng.to(DEVICE), n, False))
        assert torch.equal(z.cpu(), noise.normals(rng, z.shape))


@pytest.mark.parametrize("n_samples", [65_535, 65_536, 200_000])
@pytest.mark.parametrize("shape", [(1, 1), (3, 20)], ids=str)
def test_many_samples_of_each_posterior(backend, shape, n_samples):
    """More than a grid has programs along its second dimension."""
    mu, logvar = (t.requires_grad_() for t in posterior(shape[0], shape[1:], torch.float32))
    rng = torch.tensor((3, 4), device=DEVICE)
    z, _ = backends.choose(backend, (mu,)).sample_kl(Draw(mu, logvar, (), rng, n_samples, False))
    eps = noise.normals(rng, z.shape)
    torch.testing.assert_close(z, mu + torch.exp(0.5 * logvar) * eps)
    (grad,) = torch.autograd.grad(z, mu, torch.ones_like(z))
    torch.testing.assert_close(grad, torch.full_like(mu, n_samples))


def test_many_latents(backend):
    """2^20 latents, 2048 of a sample: each is drawn, counts in the KL, and has its gradient."""
    mu, logvar = posterior(512, (2048,), torch.float32)
    rng, results = torch.tensor((3, 4), device=DEVICE), []
    for name in (backend, "torch"):
        inputs = [t.clone().requires_grad_() for t in (mu, logvar)]
        z, kl_of_z = backends.choose(name, inputs).sample_kl(Draw(*inputs, (), rng, None, True))
        kl = vk.gaussian_kl(*inputs, reduction="mean", backend=name)
        grads = torch.autograd.grad([z, kl_of_z, kl], inputs, [mu, mu[:, 0], torch.ones_like(kl)])
        results.append([z, kl_of_z, kl, *grads])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("likelihood", WITH_DEFAULTS)
def test_a_default_belongs_to_the_formula(monkeypatch, backend, likelihood, dtype):
    compare_defaults(monkeypatch, backend, likelihood, dtype, DEVICE)


@pytest.mark.parametrize("n_samples", [None, 3])
@pytest.mark.parametrize("latents", SHARD_CASES, ids=str)
def test_shards_have_the_noise_of_the_whole(backend, latents, n_samples):
    compare_shards(backend, latents, n_samples, DEVICE)


@pytest.mark.parametrize("layout", table.SAMPLE_LAYOUTS)
@pytest.mark.parametrize("dtype", table.SAMPLE_DTYPES, ids=str)
@pytest.mark.parametrize("with_kl", [False, True])
def test_sample(backend, dtype, layout, with_kl):
    module = backends.choose(backend, (torch.zeros(1, device=DEVICE),))
    table.compare_samples(module, dtype, layout, with_kl, DEVICE)


@pytest.mark.parametrize("rows", [1, 0, 129, 600])
@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("name", tables.TABLES)
def test_tables(backend, name, codes, rows):
    likelihood, x, params = tables.draw(tables.TABLES[name], rows, codes)
    weight = cases.weight((rows, len(likelihood.columns)), torch.bool).to(DEVICE)
    for given in (None, weight):
        tables.compare(backend, likelihood, x.to(DEVICE), to_device(params), given)


@pytest.mark.parametrize("form", tables.FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_types_and_forms_of_tables(backend, dtype, form):
    likelihood, x, params = tables.draw(tables.TABLES["all"], 300, form == "cell", dtype, form)
    tables.compare(backend, likelihood, x.to(DEVICE, dtype), to_device(params), reduction="mean")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [*mixtures.SIZES, (65, 65, 33), (17_000, 130, 2)], ids=str)
def test_mixture(backend, size, dtype):
    inputs = to_device(mixtures.draw(*size, dtype))
    mixtures.compare(inputs, backend=backend)
    ours, again = (mixtures.outcome(inputs, backend) for _ in range(2))
    assert all(torch.equal(ours[name], again[name]) for name in ours)


def test_mixture_needs_no_memory_for_points_times_components(backend):
    """20 000 of each: a matrix of them would be 1.6 GB."""
    inputs = to_device(mixtures.draw(20_000, 20_000, 2))
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    mixtures.outcome(inputs, backend)
    assert torch.cuda.max_memory_allocated() - before < 100e6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", decompositions.SIZES, ids=str)
def test_decomposition(backend, size, dtype):
    """By the mixture's kernels, and by what "auto" takes for this size."""
    inputs = to_device(decompositions.draw(*size, dtype))
    for name in (backend, "auto"):
        decompositions.compare(inputs, name, decompositions.lost(inputs))


def test_a_large_decomposition_needs_no_memory_for_pairs(backend):
    """One tensor of batch x batch x dims would have 1 GB."""
    inputs = to_device(decompositions.draw(4096, 16))
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    decompositions.outcome(inputs, "auto")
    assert torch.cuda.max_memory_allocated() - before < 200e6


def test_a_captured_mixture_waits_for_nothing_and_reads_its_inputs(backend):
    inputs = [t.detach().requires_grad_() for t in to_device(mixtures.draw(100, 70, 5))]

    def run():
        log_p = vk.mixture_log_prob(*inputs, backend=backend)
        return log_p, *torch.autograd.grad((log_p * log_p).mean(), inputs)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    with torch.no_grad():
        inputs[0].mul_(0.5)
    graph.replay()
    for ours, eager in zip(captured, run(), strict=True):
        torch.testing.assert_close(ours, eager)


def step(backend, logits, x, mu, logvar, beta):
    z, kl = vk.sample_kl(mu, logvar, backend=backend)
    loss = vk.fused_elbo(logits + 0 * z.sum(), x, kl=kl, beta=beta, backend=backend)
    return loss, z, *torch.autograd.grad(loss, [logits, mu, logvar], torch.full((), 3.0, device=DEVICE))


def inputs_of_step():
    g = torch.Generator().manual_seed(1)
    tensors = [torch.randn(64, n, generator=g).to(DEVICE) for n in (784, 20, 20)]
    x = torch.rand(64, 784, generator=g).to(DEVICE)
    logits, mu, logvar = (t.requires_grad_() for t in tensors)
    return logits, x, mu, logvar, torch.tensor(0.5, device=DEVICE)


def test_a_step_never_waits_for_the_gpu(backend):
    arguments = inputs_of_step()
    step(backend, *arguments)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(backend, *arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_captured_step_reads_beta_and_draws_anew(backend):
    arguments = inputs_of_step()
    beta = arguments[-1]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(backend, *arguments)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(backend, *arguments)
    seen = []
    for value in (0.5, 0.5, 2.0):
        beta.fill_(value)
        graph.replay()
        seen.append([t.clone() for t in captured])
    assert all(t.isfinite().all() for replay in seen for t in replay)
    assert not torch.equal(seen[0][1], seen[1][1])
    with torch.no_grad():
        kl = vk.gaussian_kl(*arguments[2:4], reduction="mean", backend="torch")
    torch.testing.assert_close(seen[2][0] - seen[1][0], 1.5 * kl, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("of_weight", cases.WEIGHT_DTYPES, ids=str)
@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_weights_of_terms(backend, likelihood, form, of_weight):
    shape = (67, 3, 6, 7)
    weight = cases.weight(cases.WEIGHTS[form](shape), of_weight).to(DEVICE)
    latent_weight = cases.weight(cases.WEIGHTS[form]((67, 4, 9)), of_weight).to(DEVICE)
    settings = {"weight": weight, "latent_weight": latent_weight}
    latent = posterior(67, (4, 9), torch.float32, True)
    compare(backend, likelihood, *draw(likelihood, shape), latent, **settings)


def test_a_replay_reads_the_mask(backend):
    """A mask that is written in place is read by the next replay of the graph."""
    x, (logits,) = draw("bernoulli", (67, 83))
    mask, latent = torch.ones(67, 83, dtype=torch.bool, device=DEVICE), posterior(67, (19,), torch.float32)
    loss = lambda: vk.fused_elbo(logits, x, *latent, weight=mask, reduction="none", backend=backend)  # noqa: E731
    loss()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = loss()
    for rows in (67, 30, 0):
        mask[rows:] = False
        mask[:rows] = True
        graph.replay()
        assert torch.equal(captured, loss())


def test_a_kernel_that_is_new_inside_a_capture_is_refused():
    """A batch of another kind of row, after a warm-up with the first kind: the error says what to do."""
    if REASONS["triton"] is not None:
        pytest.skip(f"no backend triton on a GPU: {REASONS['triton']}")
    x, (logits,) = draw("bernoulli", (67, 83))
    latent = posterior(67, (19,), torch.float64)
    loss = lambda: vk.fused_elbo(logits.double(), x, *latent, reduction="none", backend="triton")  # noqa: E731
    with pytest.raises(RuntimeError, match="before the capture"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        loss()
    eager, graph = loss(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = loss()
    graph.replay()
    assert torch.equal(captured, eager)


def test_a_generator_of_the_user_in_a_graph(backend):
    mu, logvar = posterior(64, (20,), torch.float32)
    generator = torch.Generator(DEVICE).manual_seed(1)
    draw_z = lambda: vk.reparameterize(mu, logvar, generator=generator, backend=backend)  # noqa: E731
    draw_z()
    with pytest.raises(RuntimeError, match="register_generator_state"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        draw_z()
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        captured = draw_z()
    seen = []
    for _ in range(2):
        graph.replay()
        seen.append(captured.clone())
    generator.manual_seed(1)
    draw_z()
    assert not torch.equal(*seen) and all(z.isfinite().all() for z in seen)


def test_a_device_that_is_not_the_current_one(backend):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    x, params = draw("bernoulli", (64, 300))
    latent = posterior(64, (20,), torch.float32)
    here = vk.fused_elbo(params[0], x, *latent, backend=backend)
    there = vk.fused_elbo(*(t.to("cuda:1") for t in (params[0], x, *latent)), backend=backend)
    assert there.device == torch.device("cuda:1") and torch.cuda.current_device() == 0
    assert torch.equal(there.to(DEVICE), here)


def network(backend):
    """A VAE with a learned variance and a beta on the device, its optimizer, and a batch."""
    torch.manual_seed(0)
    settings = {"obs_logvar": torch.nn.Parameter(torch.zeros(())), "beta": torch.tensor(0.5), "backend": backend}
    vae = vk.mlp_vae((28, 28), 20, (64,), "gaussian", **settings).to(DEVICE)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3, capturable=True)
    return vae, optimizer, torch.rand(64, 28, 28, generator=torch.Generator().manual_seed(1)).to(DEVICE)


def train_step(vae, optimizer, x):
    optimizer.zero_grad(set_to_none=False)
    loss = vae(x)
    loss.backward()
    optimizer.step()
    return loss


def test_a_whole_training_step_is_captured(backend):
    """Network, loss, backward pass and Adam in one graph: each replay draws anew, and what it does to the weights is
    what the same step does in eager mode, for the same noise."""
    vae, optimizer, x = network(backend)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            train_step(vae, optimizer, x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=False)
    with torch.cuda.graph(graph):
        captured = train_step(vae, optimizer, x)
    seen = []
    for beta in (0.5, 0.5, 4.0):
        vae.beta.fill_(beta)
        torch.cuda.manual_seed(7 if beta == 4.0 else len(seen))
        before = copy.deepcopy((vae.state_dict(), optimizer.state_dict()))
        graph.replay()
        seen.append(captured.clone())
    after = {k: v.clone() for k, v in vae.state_dict().items()}
    vae.load_state_dict(before[0])
    optimizer.load_state_dict(before[1])
    torch.cuda.manual_seed(7)
    eager = train_step(vae, optimizer, x)
    torch.testing.assert_close(seen[2], eager)
    for name, value in vae.state_dict().items():
        torch.testing.assert_close(after[name], value, msg=name)
    vae.beta.fill_(0.5)
    assert len({loss.item() for loss in seen}) == 3


def test_reduce_overhead_replays_and_draws_anew(backend):
    """torch.compile's own graphs (mode="reduce-overhead"): the losses of eager mode, other noise each time."""
    vae, _, x = network(backend)
    step = torch.compile(vae, mode="reduce-overhead", fullgraph=True)
    losses, grads = [], []
    for call in (step, vae):
        torch.cuda.manual_seed(3)
        for _ in range(5):
            torch.compiler.cudagraph_mark_step_begin()
            vae.zero_grad()
            loss = call(x)
            loss.backward()
            losses.append(loss.item())
        grads.append([p.grad.clone() for p in vae.parameters()])
    torch.testing.assert_close(torch.tensor(losses[:5]), torch.tensor(losses[5:]), rtol=1e-4, atol=0)
    assert len(set(losses[:5])) == 5
    for ours, eager in zip(*grads, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_step_under_autocast_with_grad_scaler(backend, dtype):
    vae, optimizer, x = network(backend)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40 if dtype == torch.float16 else 1.0)
    scales = []
    for _ in range(40):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=dtype):
            loss = vae(x)
        assert loss.dtype == torch.float32
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    assert all(p.isfinite().all() for p in vae.parameters())  # the steps that overflowed were left out
    assert dtype == torch.bfloat16 or scales[-1] < scales[0]


def test_streams_beside_one_another(backend):
    """Each stream has a counter of its own: launches that run at the same time give what each gives alone."""
    x, params = draw("bernoulli", (512, 3072))
    latent = posterior(512, (64,), torch.float32)
    alone = vk.fused_elbo(params[0], x, *latent, backend=backend)
    streams = [torch.cuda.Stream() for _ in range(4)]
    results = []
    torch.cuda.synchronize()
    for _ in range(50):
        for stream in streams:
            with torch.cuda.stream(stream):
                results.append(vk.fused_elbo(params[0], x, *latent, backend=backend))
    torch.cuda.synchronize()
    assert all(torch.equal(r, alone) for r in results)


def test_a_second_backward_pass(backend):
    x, (logits,) = draw("bernoulli", (33, 100))
    logits.requires_grad_()
    loss = vk.nll(logits, x, reduction="mean", backend=backend)
    first, second = (
        torch.autograd.grad(loss, logits, torch.tensor(g, device=DEVICE), retain_graph=g == 2.0)[0] for g in (2.0, -3.0)
    )
    torch.testing.assert_close(first * -1.5, second)


def test_sum_of_many(backend):
    n = 50_000_000
    logits, x = torch.linspace(-4, 4, n, device=DEVICE).view(1, n), torch.full((1, n), 0.25, device=DEVICE)
    value = vk.nll(logits, x, backend=backend).double()
    parts = zip(logits.split(1 << 20, 1), x.split(1 << 20, 1), strict=True)
    truth = sum(vk.nll(part.double(), t.double(), backend="torch") for part, t in parts)
    assert ((value - truth).abs() / truth).item() < 1e-6


def test_more_elements_than_an_int_counts(backend):
    rows, cols = 3, (1 << 30) + 5
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("needs 24 GiB of free GPU memory")
    logits = torch.full((rows, cols), 0.5, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    x = torch.full((rows, cols), 255, device=DEVICE, dtype=torch.uint8)
    nll = vk.nll(logits, x, backend=backend)
    one = torch.nn.functional.softplus(torch.tensor(-0.5, dtype=torch.float64))
    torch.testing.assert_close(nll.double().cpu(), (one * cols).expand(rows), rtol=1e-6, atol=0)
    (grad,) = torch.autograd.grad(nll.sum(), logits)
    for place in (0, cols // 2, cols - 1):
        assert (grad[:, place].float() - (torch.sigmoid(torch.tensor(0.5)) - 1)).abs().max() < 2e-3
