"""The noise of the compiled backends has the bits of core/noise.py and follows the seed. The backward pass draws the
same noise again."""

import itertools
import subprocess
import sys

import cases
import pytest
import torch
from known import BACKENDS, compiled
from places import TESTS, child

import vae_kernels as vk
from vae_kernels import backends
from vae_kernels.core import noise
from vae_kernels.core.objective import Draw

MODULES = {name: backends.choose(name, ()) for name in BACKENDS if name != "torch"}
# Backends for tests with many elements. Triton's interpreter takes microseconds for each element, so it runs in the
# full tier.
MANY = [pytest.param(name, marks=pytest.mark.full) if name == "triton" else name for name in MODULES]
SHAPES = [(1, 1), (3, 5), (1000, 7), (2, 1025), (5, 3000), (4, 3, 2, 5), (6,), (0, 3)]
RNGS = [(0, 0), (1, 2), (0x1234567890AB, (5 << 32) + 7), (-1, -(2**63))]


def normals(backend, rng, shape, n_samples=None):
    zeros = torch.zeros(shape)
    return MODULES[backend].sample_kl(Draw(zeros, zeros, (), torch.tensor(rng), n_samples, False))[0]


@pytest.mark.parametrize("backend", MODULES)
@pytest.mark.parametrize("rng", RNGS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits(backend, shape, rng):
    assert torch.equal(normals(backend, rng, shape), noise.normals(torch.tensor(rng), shape))
    assert torch.equal(normals(backend, rng, shape, 3), noise.normals(torch.tensor(rng), (3, *shape)))


@pytest.mark.parametrize("backend", MANY)
def test_bits_of_many(backend):
    """If the compiler fuses a single operation, about one number in ten thousand is rounded differently. So only many
    numbers show the error."""
    shape = (1 << 10, 1 << 10) if backend == "cpu" else (1 << 8, 1 << 8)  # the interpreter is slow, and fuses nothing
    assert torch.equal(normals(backend, RNGS[2], shape), noise.normals(torch.tensor(RNGS[2]), shape))


@pytest.mark.full
@compiled
@pytest.mark.parametrize("isa", ["base", "avx2"])
def test_bits_of_every_instruction_set(isa):
    if isa == "avx2" and not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        pytest.skip("this processor does not run avx2")
    code = "import test_noise as t; t.test_bits_of_many('cpu'); t.test_bits('cpu', (5, 3000), (1, 2))"
    env = child(VAE_KERNELS_ISA=isa)
    done = subprocess.run([sys.executable, "-c", code], cwd=TESTS, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_samples", [None, 1, 4])
def test_samples_are_a_function_of_the_seed(backend, n_samples):
    mu, logvar = torch.randn(5, 7), torch.randn(5, 7)
    draw = lambda seed: vk.reparameterize(  # noqa: E731
        mu, logvar, n_samples=n_samples, generator=torch.Generator().manual_seed(seed), backend=backend
    )
    assert torch.equal(draw(3), draw(3)) and not torch.equal(draw(3), draw(4))
    torch.manual_seed(11)
    first, second = (vk.sample_kl(mu, logvar, n_samples=n_samples, backend=backend)[0] for _ in range(2))
    torch.manual_seed(11)
    assert torch.equal(vk.sample_kl(mu, logvar, n_samples=n_samples, backend=backend)[0], first)
    assert not torch.equal(first, second)
    assert first.shape == ((5, 7) if n_samples is None else (n_samples, 5, 7))


def test_a_generator_that_a_cuda_graph_does_not_know(monkeypatch):
    """torch's error about such a generator speaks of offsets. Our error must name the line that the user needs before
    the capture."""

    def randint(*arguments, **settings):
        raise RuntimeError("Attempt to increase offset for a CUDA generator not in capture mode.")

    monkeypatch.setattr(torch, "randint", randint)
    for capturing, said in ((True, r"graph.register_generator_state\(generator\)"), (False, "Attempt to increase")):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda capturing=capturing: capturing)
        with pytest.raises(RuntimeError, match=said):
            vk.sample_kl(torch.zeros(2, 3), torch.zeros(2, 3), generator=torch.Generator())


SHARD_CASES = [(1,), (3,), (8,), (3, 2, 5), (1030,)]  # latents: parts of a group of four, whole groups, two tiles


def compare_shards(backend, latents, n_samples, device="cpu"):
    """Each rank has a part of the batch, and one rank has no sample. Together the ranks draw the noise that one process
    draws, in the forward pass and in the backward pass."""
    batch, ends = 11, (0, 4, 11, 11)
    g = torch.Generator().manual_seed(0)
    mu, logvar = torch.randn(2, batch, *latents, generator=g).to(device).unbind()
    of_z = torch.randn(n_samples or 1, *mu.shape, generator=g).to(device)

    def outcome(rows, shard):
        inputs = [t[rows].clone().requires_grad_() for t in (mu, logvar)]
        gen = torch.Generator(device).manual_seed(4)
        settings = {"n_samples": n_samples, "generator": gen, "backend": backend}
        z, kl = vk.sample_kl(*inputs, shard=shard, **settings)
        assert torch.equal(z, vk.reparameterize(*inputs, shard=shard, **(settings | {"generator": gen.manual_seed(4)})))
        incoming = of_z[:, rows] if n_samples else of_z[0, rows]
        return [z, kl, *torch.autograd.grad([z, kl], inputs, [incoming, torch.ones_like(kl)])]

    whole = outcome(slice(None), None)
    parts = [outcome(slice(a, b), (a, batch)) for a, b in itertools.pairwise(ends)]
    for i, expected in enumerate(whole):
        assert torch.equal(torch.cat([p[i] for p in parts], 1 if n_samples and i == 0 else 0), expected)


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_samples", [None, 3])
@pytest.mark.parametrize("latents", SHARD_CASES, ids=str)
def test_shards_have_the_noise_of_the_whole(backend, latents, n_samples):
    compare_shards(backend, latents, n_samples)


@pytest.mark.parametrize("backend", MODULES)
@pytest.mark.parametrize("layout", ["contiguous", "halves", "transposed", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_value_and_gradient(backend, dtype, layout):
    """z, kl and the gradients of mu, logvar and the prior are those of the formulas with the same noise. The layout of
    the inputs must not matter, because the noise of an element depends on its logical place only."""
    g = torch.Generator().manual_seed(5)
    random = lambda *shape: (torch.randn(shape, generator=g, dtype=torch.float64) * 0.8).to(dtype)  # noqa: E731
    both = random(6, 10, 4, 9)
    mu, logvar = {
        "contiguous": lambda: (both[:, :5].clone(), both[:, 5:].clone()),
        "halves": lambda: both.chunk(2, 1),
        "transposed": lambda: tuple(t.transpose(2, 3).contiguous().transpose(2, 3) for t in both.chunk(2, 1)),
        "channels_last": lambda: both.contiguous(memory_format=torch.channels_last).chunk(2, 1),
    }[layout]()
    prior = random(5, 1, 1), random(5, 4, 9)
    weights = random(3, 6, 5, 4, 9), random(6)

    def outcome(name, dtype):
        inputs = [t.detach().to(dtype).requires_grad_() for t in (mu, logvar, *prior)]
        gen = torch.Generator().manual_seed(2)
        z, kl = vk.sample_kl(*inputs[:2], prior=inputs[2:], n_samples=3, generator=gen, backend=name)
        assert z.dtype == dtype and kl.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        grads = torch.autograd.grad([z, kl], inputs, [weights[0].to(z.dtype), weights[1].to(kl.dtype)])
        return [z, kl, *grads]

    truth = outcome("torch", torch.float64)
    theirs, ours = outcome("torch", dtype), outcome(backend, dtype)
    for name, *values in zip(["z", "kl", "mu", "logvar", "prior_mu", "prior_logvar"], ours, theirs, truth, strict=True):
        cases.check(*values, dtype, name)


@pytest.mark.parametrize("backend", MODULES)
def test_either_result_alone_has_its_gradient(backend):
    mu, logvar = (torch.randn(4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for pick in (0, 1):
        results = []
        for name in (backend, "torch"):
            gen = torch.Generator().manual_seed(1)
            out = vk.sample_kl(mu, logvar, generator=gen, backend=name)[pick]
            results.append(torch.autograd.grad(out.sin().sum(), [mu, logvar]))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", MANY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_is_read_and_written_exactly(backend, dtype):
    """All 65536 numbers of 16 bits, with infinities and NaN. With a standard deviation of 0, z must be mu; otherwise z
    is rounded as torch rounds. A number that is denormal in float32 is read as 0 (the denormals of float16 are not
    denormal there)."""
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    patterns = torch.where(patterns.float().abs() < torch.finfo(torch.float32).tiny, 0, patterns)
    same = vk.reparameterize(patterns, torch.full_like(patterns, -2000.0), backend=backend)
    numbers = ~patterns.isnan()
    assert torch.equal(same[numbers], patterns[numbers]) and same.isnan().equal(patterns.isnan())
    finite = patterns[patterns.isfinite()]
    logvar = (finite.float().abs().clamp_min(1e-30).log() * 1.9).to(dtype)  # the noise is about as large as mu
    half, wide = (
        vk.reparameterize(finite.to(t), logvar.to(t), generator=torch.Generator().manual_seed(1), backend=backend)
        for t in (dtype, torch.float32)
    )
    assert torch.equal(half, wide.to(dtype))
