"""`moments=` (mu and logvar in one tensor), `per_dim=` (the KL of each latent dimension), FreeBits and Shard."""

import copy
import pickle

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import vae_kernels as vk
from vae_kernels.controls import capacity, free_bits, kl_per_dim

B, D = 6, 5
same = torch.testing.assert_close


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def moments_of(dims=(3,), order=None, dtype=torch.float64):
    """A tensor of moments, [B, 2L, ...], that requires a gradient."""
    t = torch.randn(B, 2 * dims[0], *dims[1:], dtype=dtype)
    return (t if order is None else t.contiguous(memory_format=order)).requires_grad_()


CASES = [((3,), None), ((1,), None), ((2, 4), None), ((2, 3, 5), None), ((2, 3, 5), torch.channels_last)]


# --- moments


@pytest.mark.full("triton")
@pytest.mark.parametrize("prior", [None, "pair", "module"])
@pytest.mark.parametrize(("dims", "order"), CASES, ids=str)
def test_moments_are_mu_and_logvar(backend, dims, order, prior):
    """Each function that takes moments gives the value and the gradient that it gives for mu and logvar. The gradient
    is one contiguous tensor, so the encoder's backward pass has nothing to join."""
    moments = moments_of(dims, order)
    recon, x = torch.randn(B, D, dtype=torch.float64), torch.rand(B, D, dtype=torch.float64)
    made = {
        "pair": (torch.full(dims, 0.3, dtype=torch.float64), torch.full(dims, 0.2, dtype=torch.float64)),
        "module": vk.priors.DiagonalGaussian(dims).double(),
    }
    settings = {"prior": made.get(prior), "backend": backend}
    module = vk.FusedELBO(beta=0.5, **settings)
    decoder = lambda z: z.flatten(1)[:, :1].expand(-1, D)  # noqa: E731
    calls = [
        lambda *m, **k: vk.fused_elbo(recon, x, *m, beta=0.5, **k, **settings),
        lambda *m, **k: module(recon, x, *m, **k),
        lambda *m, **k: vk.fused_elbo(recon, x, *m, free_bits=(0.1, "per_dim"), **k, **settings),
        lambda *m, **k: vk.gaussian_kl(*m, **k, reduction="mean", **settings),
        lambda *m, **k: vk.iwae(decoder, x, *m, n_samples=2, generator=torch.manual_seed(1), **k, **settings),
    ]
    for call in calls:
        loss = call(moments=moments)
        (grad,) = torch.autograd.grad(loss, moments)
        expected = call(*moments.chunk(2, 1))
        (wanted,) = torch.autograd.grad(expected, moments)
        assert torch.equal(loss, expected) and torch.equal(grad, wanted)
        assert order is not None or grad.is_contiguous()


def test_terms_of_moments(backend):
    recon, x, moments = torch.randn(B, D), torch.rand(B, D), moments_of((2, 3), dtype=torch.float32)
    ours = vk.fused_elbo(recon, x, moments=moments, return_terms=True, backend=backend)
    wanted = vk.fused_elbo(recon, x, *moments.chunk(2, 1), return_terms=True, backend=backend)
    assert torch.equal(ours.kl_per_dim, wanted.kl_per_dim) and ours.kl_per_dim.shape == (2, 3)
    assert torch.equal(ours.kl, wanted.kl) and torch.equal(ours.nll, wanted.nll)


@pytest.mark.parametrize("of", ["tensor", "slice"])
def test_the_halves_are_not_copied(monkeypatch, of):
    """The kernels read mu and logvar from the given tensor itself, even if it is a slice of a wider tensor."""
    wide = torch.randn(B, 8)
    moments = wide if of == "tensor" else wide[:, 1:7]
    half = moments.shape[1] // 2
    seen = []
    module = vk.backends.choose("auto", (moments,))
    elbo = module.elbo
    monkeypatch.setattr(module, "elbo", lambda objective: seen.extend(objective.latent) or elbo(objective))
    vk.gaussian_kl(moments=moments)
    mu, logvar = seen
    assert mu.data_ptr() == moments.data_ptr() and logvar.data_ptr() == moments[:, half:].data_ptr()
    assert mu.shape == logvar.shape == (B, half)


def test_second_derivatives_and_transforms_of_moments():
    recon, x, moments = torch.randn(B, D, dtype=torch.float64), torch.rand(B, D, dtype=torch.float64), moments_of()
    f = lambda m: vk.fused_elbo(recon, x, moments=m)  # noqa: E731
    assert torch.autograd.gradcheck(f, moments) and torch.autograd.gradgradcheck(f, moments)
    same(torch.func.grad(f)(moments), torch.autograd.grad(f(moments), moments)[0])


@pytest.mark.full
def test_moments_compile_to_one_graph():
    torch._dynamo.reset()
    recon, x, moments = torch.randn(B, D), torch.rand(B, D), moments_of(dtype=torch.float32)
    counter = CompileCounterWithBackend("aot_eager")

    def f(moments):
        bits = vk.FreeBits(0.1, "per_batch_mean")
        loss = vk.fused_elbo(recon, x, moments=moments) + vk.fused_elbo(recon, x, moments=moments, free_bits=bits)
        z, kl = vk.sample_kl(moments, per_dim=True, shard=vk.Shard(1, 9))
        return loss + vk.gaussian_kl(moments=moments, per_dim=True).sum() + z.sum() + kl.sum()

    compiled = torch.compile(f, fullgraph=True, backend=counter)
    outcomes = []
    for call in (f, compiled, compiled):
        torch.manual_seed(2)
        loss = call(moments)
        outcomes.append((loss, *torch.autograd.grad(loss, moments)))
    for outcome in outcomes[1:]:
        same(outcome, outcomes[0])
    assert counter.frame_count == 1


# --- the KL of each dimension


@pytest.mark.parametrize("prior", [None, "pair", "module"])
@pytest.mark.parametrize(("dims", "order"), [((), None), *CASES], ids=str)
def test_per_dim_is_what_is_summed_without(backend, dims, order, prior):
    shape = (B, *dims)
    mu, logvar = torch.randn(2, *shape, dtype=torch.float64).unbind()
    if order is not None:
        mu = mu.contiguous(memory_format=order)
    mu.requires_grad_()
    pair = [torch.full(dims, v, dtype=torch.float64, requires_grad=True) for v in (0.3, 0.2)]
    if prior == "module" and dims:
        given = vk.priors.DiagonalGaussian(dims).double()
        pair = [*given.parameters()]
    else:
        given = None if prior is None else tuple(pair)
    settings = {"prior": given, "backend": backend}
    kl = vk.gaussian_kl(mu, logvar, per_dim=True, **settings)
    assert kl.shape == shape
    same(kl, vk.gaussian_kl(mu, logvar, per_dim=True, **{**settings, "backend": "torch"}))
    same(kl.flatten(1).sum(1) if dims else kl, vk.gaussian_kl(mu, logvar, **settings))
    assert torch.equal(kl, kl_per_dim(mu, logvar, **settings))
    for how in ("mean", "sum"):
        same(vk.gaussian_kl(mu, logvar, per_dim=True, reduction=how, **settings), getattr(kl, how)(0))
    wanted = [mu] if given is None else [mu, *pair]
    for ours, theirs in zip(
        torch.autograd.grad(kl.sum(), wanted),
        torch.autograd.grad(vk.gaussian_kl(mu, logvar, reduction="sum", **settings), wanted),
        strict=True,
    ):
        same(ours, theirs)


@pytest.mark.parametrize("n_samples", [None, 3])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dims", [(3,), (2, 3, 5)], ids=str)
def test_the_sample_with_per_dim_is_the_same_sample(backend, dims, packed, n_samples):
    moments = moments_of(dims, dtype=torch.float32)
    given = (moments,) if packed else moments.chunk(2, 1)
    prior = tuple(torch.full(dims, v) for v in (0.3, 0.2))
    for shard in (None, vk.Shard(2, 11)):
        settings = {"prior": prior, "n_samples": n_samples, "shard": shard, "backend": backend}
        torch.manual_seed(4)
        z, kl = vk.sample_kl(*given, per_dim=True, **settings)
        torch.manual_seed(4)
        wanted, summed = vk.sample_kl(*given, **settings)
        assert torch.equal(z, wanted) and kl.shape == (B, *dims)
        same(kl.flatten(1).sum(1), summed)
        (ours,) = torch.autograd.grad(z.square().sum() + kl.sum(), moments)
        (theirs,) = torch.autograd.grad(wanted.square().sum() + summed.sum(), moments)
        same(ours, theirs)
    assert torch.equal(kl, vk.gaussian_kl(*moments.chunk(2, 1), prior=prior, per_dim=True, backend=backend))
    mean = vk.sample_kl(*given, per_dim=True, reduction="mean", prior=prior, backend=backend)[1]
    same(mean, kl.mean(0))


def test_the_kl_of_each_dimension_goes_on_into_the_loss():
    recon, x, moments = torch.randn(B, D), torch.rand(B, D), moments_of(dtype=torch.float32)
    _, kl = vk.sample_kl(moments, per_dim=True)
    beta = torch.tensor([0.5, 1.0, 2.0])
    loss = vk.fused_elbo(recon, x, kl=kl, beta=beta)
    same(loss, vk.fused_elbo(recon, x, moments=moments, beta=beta))


# --- FreeBits and Shard


def test_pairs_are_tuples_with_names():
    bits, shard = vk.FreeBits(nats=0.5, unit="per_dim"), vk.Shard(first=2, total=8)
    assert bits == (0.5, "per_dim") and shard == (2, 8)
    for pair in (bits, shard):
        for again in (pickle.loads(pickle.dumps(pair)), copy.deepcopy(pair), eval(repr(pair), vars(vk))):
            assert again == pair and type(again) is type(pair)


def test_public_classes_say_where_they_are_found():
    for name in ("FreeBits", "Shard"):
        assert getattr(vk, name).__module__ == "vae_kernels"


@pytest.mark.parametrize("unit", ["per_dim", "per_sample", "per_batch_mean", "per_group"])
def test_free_bits_as_a_pair_and_as_an_object(unit):
    recon, x, mu = torch.randn(B, D), torch.rand(B, D), torch.randn(B, 3)
    expected = vk.fused_elbo(recon, x, mu, mu, free_bits=(0.2, unit))
    assert torch.equal(vk.fused_elbo(recon, x, mu, mu, free_bits=vk.FreeBits(0.2, unit)), expected)
    module = vk.FusedELBO(free_bits=vk.FreeBits(0.2, unit))
    assert torch.equal(module(recon, x, mu, mu), expected)
    assert module.free_bits == vk.FreeBits(0.2, unit) and type(module.free_bits) is vk.FreeBits
    module.free_bits = (0.3, unit)
    assert type(module.free_bits) is vk.FreeBits


def test_a_name_of_0_1_stays():
    recon, x, mu = torch.randn(B, D), torch.rand(B, D), torch.randn(B, 3)
    kl = kl_per_dim(mu, mu)
    for f in (free_bits, capacity):
        assert torch.equal(f(kl, 0.2, unit="batch_mean"), f(kl, 0.2, unit="per_batch_mean"))
    old, new = (vk.fused_elbo(recon, x, mu, mu, free_bits=(9.0, u)) for u in ("batch_mean", "per_batch_mean"))
    assert torch.equal(old, new)


def test_a_shard_as_a_pair_and_as_an_object():
    mu = torch.randn(4, 3)
    draws = []
    for shard in ((2, 8), vk.Shard(2, 8)):
        torch.manual_seed(3)
        draws.append((vk.reparameterize(mu, mu, shard=shard), *vk.sample_kl(mu, mu, shard=shard)))
    for a, b in zip(*draws, strict=True):
        assert torch.equal(a, b)
    vae = vk.mlp_vae((5,), 2, hidden=(4,))
    x = torch.rand(4, 5)
    torch.manual_seed(3)
    one = vae(x, shard=vk.Shard(0, 8))
    torch.manual_seed(3)
    assert torch.equal(one, vae(x, shard=(0, 8)))
