"""The public functions under torch.compile and torch.export: each gives one graph, is not compiled again, and has the
numbers of eager mode."""

import itertools
import os

import pytest
import torch
from known import BACKENDS
from torch._dynamo.testing import CompileCounterWithBackend

import vae_kernels as vk

WHO = {"backend": "auto"}  # the backend of the calls below


@pytest.fixture(autouse=True, params=[name for name in ("cpu", "triton") if name in BACKENDS] or ["torch"])
def fresh(request):
    torch.manual_seed(0)
    torch._dynamo.reset()
    WHO["backend"] = request.param


def counted(f, backend="aot_eager", **options):
    """(f, compiled as one graph; the counter of graphs)"""
    counter = CompileCounterWithBackend(backend)
    return torch.compile(f, fullgraph=True, backend=counter, **options), counter


def channels_last(t):
    return t.contiguous(memory_format=torch.channels_last)


def two_calls(recon, x, mu, logvar):
    z, kl = vk.sample_kl(mu, logvar, **WHO)
    return vk.fused_elbo(recon + z.sum(1)[:, None, None, None], x, kl=kl, beta=0.5, **WHO)


def one_head(recon, x, moments, other):
    z, kl = vk.sample_kl(moments, **WHO)
    return vk.fused_elbo(recon + z.sum(1)[:, None, None, None] + 0 * other.sum(), x, kl=kl, beta=0.5, **WHO)


def one_call(recon, x, mu, logvar):
    z = vk.reparameterize(mu, logvar, n_samples=2, **WHO)
    return vk.fused_elbo(recon * z.mean(), x, mu, logvar, beta=0.5, **WHO)


def gaussian(recon, x, mu, logvar):
    prior = logvar[0].detach(), torch.zeros(())
    settings = {"prior": prior, "likelihood": "gaussian", "reduction": "none"}
    return vk.fused_elbo((recon, recon / 2), x, mu, logvar, **settings, **WHO).sum()


def batch(n=4, order=None, dtype=torch.float32):
    g = torch.Generator().manual_seed(n)
    recon, x = torch.randn(n, 3, 5, 2, generator=g), torch.rand(n, 3, 5, 2, generator=g)
    mu, logvar = torch.randn(2, n, 6, generator=g).unbind()
    if order is not None:
        recon, x = order(recon), order(x)
    return [recon.to(dtype).requires_grad_(), x, mu.clone().requires_grad_(), logvar.clone().requires_grad_()]


def outcome(f, inputs):
    """The value and the gradients of f with a fixed seed."""
    torch.manual_seed(5)
    loss = f(*inputs)
    loss = getattr(loss, "loss", loss)
    return loss, *torch.autograd.grad(loss, [t for t in inputs if t.requires_grad])


def same(ours, eager):
    """Equal within torch's own tolerances: the compiler fuses operations around our ops, and these round
    differently."""
    for a, b in zip(ours, eager, strict=True):
        torch.testing.assert_close(a, b)
        assert a.stride() == b.stride()


# Inductor takes seconds for each graph, so its cases run in the full tier only.
ONE_GRAPH = [*itertools.product([two_calls, one_call, gaussian], [None, channels_last], ["aot_eager"])]
ONE_GRAPH += [
    pytest.param(f, order, "inductor", marks=pytest.mark.full)
    for f, order in ((one_head, None), (two_calls, None), (two_calls, channels_last), (gaussian, None))
]


@pytest.mark.full("triton")
@pytest.mark.parametrize("f, order, backend", ONE_GRAPH)
def test_one_graph_with_the_numbers_of_eager_mode(f, order, backend):
    step, counter = counted(f, backend)
    inputs = batch(order=order)
    same(outcome(step, inputs), outcome(f, inputs))
    assert counter.frame_count == 1


@pytest.mark.full
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    step, _ = counted(two_calls)
    inputs = batch(dtype=dtype)
    same(outcome(step, inputs), outcome(two_calls, inputs))


@pytest.mark.full
@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("f", [two_calls, one_call, gaussian])
def test_without_gradients(f, prior):
    """A validation step is compiled without gradients, also as one graph."""
    recon, x, mu, logvar = batch()

    def g(recon, x, mu, logvar):
        means = (logvar[0], mu[0]) if prior else None
        return f(recon, x, mu, logvar), vk.sample_kl(mu, logvar, prior=means, **WHO)

    with torch.no_grad():
        step, counter = counted(g)
        results = []
        for call in (step, g):
            torch.manual_seed(3)
            loss, (z, kl) = call(recon, x, mu, logvar)
            results.append((loss, z, kl))
    same(*results)
    assert counter.frame_count == 1


@pytest.mark.full("triton")
def test_noise_bits():
    """Each call of a compiled function draws new noise, with the bits that eager mode draws."""
    f = lambda mu, logvar: vk.sample_kl(mu, logvar, n_samples=2, **WHO)[0]  # noqa: E731
    step, _ = counted(f)
    mu, logvar = torch.randn(2, 4, 6).unbind()
    for draw in (step, f):
        torch.manual_seed(3)
        first, second = draw(mu, logvar), draw(mu, logvar)
        assert not torch.equal(first, second)
        if draw is step:
            expected = first, second
    assert torch.equal(first, expected[0]) and torch.equal(second, expected[1])


@pytest.mark.full
@pytest.mark.parametrize("order", [None, channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("f", [two_calls, one_call, gaussian])
def test_a_dynamic_batch_is_compiled_once(f, order):
    step, counter = counted(f, dynamic=True)
    graphs = set()
    for n in (7, 11, 64):  # no other dimension has these sizes: torch would take the two for one
        inputs = batch(n, order)
        same(outcome(step, inputs), outcome(f, inputs))
        graphs.add(counter.frame_count)
    assert len(graphs) == 1


@pytest.mark.full
def test_a_batch_that_changes_is_compiled_twice_at_most():
    """A user's last batch of an epoch is smaller. torch compiles for the first size, and then once more for all
    sizes."""
    step, counter = counted(two_calls)
    for n in (64, 64, 17, 64, 23):
        step(*batch(n))
    assert counter.frame_count == 2


@pytest.mark.full("triton")
def test_a_weight_on_the_device_is_compiled_once():
    def f(recon, x, mu, logvar, beta, rec_weight):
        return vk.fused_elbo(recon, x, mu, logvar, beta=beta, rec_weight=rec_weight, **WHO)

    step, counter = counted(f)
    for i in range(5):
        inputs = [*batch(), torch.tensor(i / 4), torch.tensor(1 + i / 2)]
        same(outcome(step, inputs), outcome(f, inputs))
    assert counter.frame_count == 1


@pytest.mark.full("triton")
def test_a_thousand_betas_are_compiled_once():
    """Annealing with a new 0-d tensor in each step must not compile again. The losses are right: the loss is linear in
    beta."""

    def f(recon, x, mu, logvar, beta):
        return vk.fused_elbo(recon, x, mu, logvar, beta=beta, **WHO)

    step, counter = counted(f)
    recon, x, mu, logvar = (t.detach().double() for t in batch())
    betas = torch.linspace(0, 4, 1000 if WHO["backend"] == "cpu" else 20)
    losses = torch.stack([step(recon, x, mu, logvar, torch.tensor(beta)) for beta in betas.tolist()])
    assert counter.frame_count == 1
    at_0, at_1 = (vk.fused_elbo(recon, x, mu, logvar, beta=beta, **WHO) for beta in (0.0, 1.0))
    torch.testing.assert_close(losses, at_0 + betas.double() * (at_1 - at_0))


@pytest.mark.full
def test_train_and_eval_in_turns_are_compiled_once_each():
    """torch compiles a network once for training and once for evaluation. Nothing is compiled again for a smaller last
    batch of an epoch, or when a mode comes back."""
    vae = vk.mlp_vae((5,), 2, (3,), **WHO)
    step, counter = counted(vae, dynamic=True)
    compiled = {}
    for _ in range(3):
        for mode in (True, False):
            vae.train(mode)
            for n in (16, 16, 7):
                x = torch.rand(n, 5)
                results = []
                for call in (step, vae):
                    torch.manual_seed(n)
                    with torch.set_grad_enabled(mode):
                        results.append([call(x)])
                same(*results)
                assert counter.frame_count == compiled.setdefault(mode, counter.frame_count)
        compiled = dict.fromkeys(compiled, counter.frame_count)


@pytest.mark.full("triton")
def test_shards_are_compiled_once():
    """The first sample of a rank changes from batch to batch, and must not compile again. The noise has the bits of
    eager mode and of one process."""

    def f(mu, logvar, first, total):
        return vk.sample_kl(mu, logvar, shard=(first, total), **WHO)[0]

    step, counter = counted(f, dynamic=True)
    for total in (16, 23, 64):
        mu, logvar = torch.randn(2, total, 6).unbind()
        torch.manual_seed(3)
        whole = vk.reparameterize(mu, logvar, **WHO)
        for first in (3, 9):
            torch.manual_seed(3)
            assert torch.equal(step(mu[first:], logvar[first:], first, total), whole[first:])
    assert counter.frame_count == 1


@pytest.mark.full
def test_incoming_gradients():
    """The compiled backward pass multiplies by the incoming gradient, and can run twice."""
    step, _ = counted(two_calls)
    inputs = batch()
    torch.manual_seed(5)
    loss = step(*inputs)
    wanted = [t for t in inputs if t.requires_grad]
    torch.manual_seed(5)
    expected = torch.autograd.grad(two_calls(*inputs), wanted)
    for weight in (3.0, -0.25):
        grads = torch.autograd.grad(loss, wanted, torch.tensor(weight), retain_graph=True)
        same(grads, [weight * e for e in expected])


@pytest.mark.full("triton")
def test_terms():
    f = lambda *inputs: vk.fused_elbo(*inputs, return_terms=True, **WHO)  # noqa: E731
    step, counter = counted(f)
    inputs = batch()
    same(outcome(step, inputs), outcome(f, inputs))
    ours, eager = step(*inputs), f(*inputs)
    for name in ("loss", "nll", "kl", "kl_per_dim"):
        same([getattr(ours, name)], [getattr(eager, name)])
    assert counter.frame_count == 1 and not ours.kl_per_dim.requires_grad


@pytest.mark.full("triton")
def test_module_and_learned_parameters():
    module = vk.FusedELBO(
        likelihood="gaussian", obs_logvar=torch.nn.Parameter(torch.zeros(3, 1, 1)), beta=torch.rand(6), **WHO
    )
    step, counter = counted(module)
    inputs = batch()
    grads = []
    for call in (step, module):
        module.zero_grad()
        call(*inputs).backward()
        grads.append(module.obs_logvar.grad)
    same(grads[:1], grads[1:])
    assert counter.frame_count == 1


# --- torch.export


class Step(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = torch.nn.Linear(8, 6), torch.nn.Linear(3, 8)

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        return vk.fused_elbo(self.decoder(mu), x, mu, logvar, **WHO)


@pytest.mark.full("triton")
def test_export():
    step, x = Step(), torch.rand(5, 8)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(step, (x,), dynamic_shapes=({0: batch},))
    targets = {str(node.target) for node in program.graph.nodes}
    op = {"cpu": "vae_kernels.elbo.default", "triton": "vae_kernels.triton_elbo.default"}.get(WHO["backend"])
    assert op is None or op in targets
    for n in (5, 9):
        x = torch.rand(n, 8)
        torch.testing.assert_close(program.module()(x), step(x))


@pytest.mark.full("triton")
def test_export_of_a_whole_loss_draws_as_eager_mode_does():
    vae = vk.mlp_vae((8,), 3, (4,), **WHO)
    program = torch.export.export(vae, (torch.rand(5, 8),)).module()
    x = torch.rand(5, 8)
    for _ in range(2):
        state = torch.get_rng_state()
        ours = program(x)
        after = torch.get_rng_state()
        torch.set_rng_state(state)
        torch.testing.assert_close(ours, vae(x))
        assert torch.equal(after, torch.get_rng_state()) and not torch.equal(after, state)


@pytest.mark.skipif("VAE_KERNELS_SLOW" not in os.environ, reason="compiles C++ for a minute: VAE_KERNELS_SLOW=1")
def test_aot_inductor():
    """AOTInductor makes a shared library without Python of the objective. This does not work for the sample: torch 2.13
    passes the empty list (no prior) to our op as None ("Expected GenericList but got None")."""
    if WHO["backend"] != "cpu":
        pytest.skip("one backend is enough, for a minute")
    step, x = Step(), torch.rand(5, 8)
    with torch.no_grad():
        program = torch.export.export(step, (x,))
        fast = {"aot_inductor.compile_wrapper_opt_level": "O0"}
        package = torch._inductor.aoti_compile_and_package(program, inductor_configs=fast)
        torch.testing.assert_close(torch._inductor.aoti_load_package(package)(x), step(x))
