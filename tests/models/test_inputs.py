"""What the networks of a VAE get: counts, tokens, and a posterior whose log-variance is bounded."""

import copy
import io
import math
import pickle

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

import vae_kernels as vk
from vae_kernels.formulas.bounded import bounded

close = torch.testing.assert_close


# ---------------------------------------------------------------- counts


def cells(n=64, genes=300, scale=1.0, seed=0):
    """Counts as single cells have: genes of very different means, cells of different sizes."""
    rng = np.random.default_rng(seed)
    rate = scale * rng.lognormal(0, 2, genes)[None] * rng.lognormal(0, 0.5, (n, 1))
    return torch.from_numpy(rng.poisson(rate).astype(np.float32))


def losses_of(vae, x, steps=3, lr=1e-3):
    """The losses of some steps. Every step has the same noise, so that only the parameters change the loss."""
    adam, found = torch.optim.Adam(vae.parameters(), lr), []
    for _ in range(steps):
        adam.zero_grad()
        loss = vae.loss(x, generator=torch.Generator().manual_seed(0))
        loss.backward()
        adam.step()
        found.append(loss.item())
    assert all(p.grad.isfinite().all() for p in vae.parameters())
    return found


COUNTS = {
    "cells": lambda: cells(),
    "a count of 100,000": lambda: cells(scale=100).clamp(max=1e5),
    "int32, mostly 0": lambda: torch.where(torch.rand(64, 300) < 0.02, 100_000, 0).int(),
    "uint16": lambda: cells(scale=3).clamp(max=65_535).to(torch.uint16),
}


@pytest.mark.parametrize("data", COUNTS)
@pytest.mark.parametrize(("likelihood", "outputs"), [("poisson", 1), ("negative_binomial", 2), ("zinb", 3)])
def test_the_first_losses_of_counts_are_finite_and_fall(data, likelihood, outputs):
    torch.manual_seed(0)
    x = COUNTS[data]()
    vae = vk.mlp_vae((300,), 5, hidden=(64,), likelihood=likelihood, outputs=outputs)
    found = losses_of(vae, x)
    assert np.isfinite(found).all() and found[0] > found[1] > found[2]
    for mean in (vae.reconstruct(x), vae.sample(4)):
        assert mean.isfinite().all() and mean.min() > 0


def test_counts_go_on_falling():
    torch.manual_seed(0)
    x = cells(scale=100)
    vae = vk.mlp_vae((300,), 5, hidden=(64,), likelihood="poisson")
    found = losses_of(vae, x, 150)
    assert x.max() > 1e5 and np.isfinite(found).all() and max(found) < 2 * found[0] and found[-1] < found[0] / 50


def test_images_of_counts():
    torch.manual_seed(0)
    x = cells(16, 64, 50).reshape(16, 1, 8, 8)
    vae = vk.conv_vae((1, 8, 8), 3, (4, 8), likelihood="negative_binomial", outputs=2)
    found = losses_of(vae, x, 30)
    assert np.isfinite(found).all() and found[-1] < found[0]


def test_the_encoder_takes_the_logarithm_and_the_loss_takes_the_counts():
    vae, x = vk.mlp_vae((300,), 5, hidden=(), likelihood="poisson"), cells()
    linear = vae.encoder[1]
    close(torch.cat(vae.encode(x), 1), linear(torch.log1p(x)))
    z = torch.randn(64, 5)
    raw = vae.decoder[0](z)
    close(vae.decode(z), 40 / math.pi * torch.atan(math.pi / 40 * raw))
    terms = vae.loss(x, return_terms=True, generator=torch.Generator().manual_seed(1))
    z = vk.reparameterize(*vae.encode(x), generator=torch.Generator().manual_seed(1))
    rate = torch.exp(vae.decode(z).double())
    close(terms.nll.double(), -torch.distributions.Poisson(rate).log_prob(x.double()).sum(1), rtol=1e-5, atol=1e-3)


def test_a_condition_of_negative_numbers_beside_counts():
    """The logarithm is of the counts alone: log(1 + c) of a condition below -1 would be NaN."""
    vae = vk.mlp_vae((300,), 5, likelihood="poisson", condition_dim=2)
    assert vae.loss(cells(), condition=torch.full((64, 2), -3.0)).isfinite()


def test_the_doctor_judges_a_model_of_counts():
    vae, x = vk.mlp_vae((300,), 5, hidden=(64,), likelihood="poisson"), cells(scale=10)
    losses_of(vae, x, 60, 3e-3)
    measures = vk.diagnose(vae, x, log_p=(8, 50)).measures
    assert math.isfinite(measures.nll + measures.kl + measures.round_trip_prior + measures.log_p.value)


def of_counts():
    return vk.mlp_vae((300,), 5, hidden=(64,), likelihood="poisson")


def as_version_0_1_made_it():
    """mlp_vae without the changes for counts."""
    vae = of_counts()
    vae.encoder, vae.decoder = nn.Sequential(*vae.encoder), nn.Sequential(*vae.decoder)
    return vae


def test_an_old_state_dict_gives_the_model_that_it_was():
    old, x = as_version_0_1_made_it(), cells().clamp(max=3)
    new = of_counts()
    new.load_state_dict(old.state_dict())
    for a, b in zip(old.encode(x), new.encode(x), strict=True):
        assert torch.equal(a, b)
    z = torch.randn(3, 5)
    assert torch.equal(old.decode(z), new.decode(z))
    again = of_counts()
    again.load_state_dict(new.state_dict())  # saved anew, the model is still an old one
    assert torch.equal(again.decode(z), new.decode(z))


def test_a_new_state_dict_gives_a_new_model():
    vae, x = of_counts(), cells()
    other = of_counts()
    other.load_state_dict(as_version_0_1_made_it().state_dict(), strict=False)
    other.load_state_dict(vae.state_dict())
    file = io.BytesIO()
    torch.save(vae, file)
    whole = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    part = of_counts()
    part.load_state_dict({k: v for k, v in vae.state_dict().items() if k.startswith("encoder")}, strict=False)
    for one in (other, whole, copy.deepcopy(vae), pickle.loads(pickle.dumps(vae)), part):
        close(one.encode(x), vae.encode(x), rtol=0, atol=0)
        assert one.decoder.for_counts
    assert "for_counts" not in str(list(vk.mlp_vae((300,), 5).state_dict()))


# ---------------------------------------------------------------- tokens

K, T = 7, 5


class Own(nn.Module):
    """An encoder of the user: an embedding, and then a mean over the positions."""

    def __init__(self, first_positions=False):
        super().__init__()
        if first_positions:
            self.at = nn.Linear(1, 8)
        self.embedding, self.out = nn.Embedding(K, 8), nn.Linear(8, 2 * 3)

    def forward(self, x):
        assert x.dtype == torch.int64
        return self.out(self.embedding(x).mean(1))


ENCODERS = {
    "sequential": lambda: nn.Sequential(nn.Embedding(K, 8), nn.Flatten(), nn.Linear(T * 8, 2 * 3)),
    "module": Own,
    "bag": lambda: nn.Sequential(nn.EmbeddingBag(K, 8), nn.Linear(8, 2 * 3)),
}


def of_tokens(encoder, **settings):
    decoder = nn.Sequential(nn.Linear(3, K * T), nn.Unflatten(1, (K, T)))
    return vk.VAE(encoder, decoder, likelihood="categorical", latent_shape=3, **settings)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.int16])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_tokens_reach_an_embedding_as_integers(encoder, dtype):
    torch.manual_seed(0)
    vae, x = of_tokens(ENCODERS[encoder]()), torch.randint(K, (6, T))
    vae.loss(x.to(dtype)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())
    close(torch.cat(vae.encode(x.to(dtype)), 1), vae.encoder(x))
    assert vae.reconstruct(x.to(dtype)).shape == x.shape
    assert vk.log_marginal_likelihood(vae, x.to(dtype), 9).value.isfinite().all()


def test_padding_and_an_autoregressive_decoder():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.of_z, self.of_x = nn.Linear(3, 8), nn.Embedding(K, 8)
            self.out = nn.Linear(8, K)

        def forward(self, z, x):
            before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
            return self.out(torch.tanh(self.of_z(z)[:, None] + self.of_x(before))).transpose(1, 2)

    vae = vk.VAE(Own(), Decoder(), likelihood="categorical", autoregressive=True)
    x = torch.randint(K, (6, T))
    x[2, 3:] = -100
    loss = vae.loss(x, weight=x >= 0)
    loss.backward()
    assert loss.isfinite() and vae.encoder.embedding.weight.grad.isfinite().all()


def test_who_gets_integers():
    """The rule is for likelihoods of levels. An option decides everything else."""
    x = torch.randint(K, (6, T))
    positions = of_tokens(Own(first_positions=True), integers=True)  # its first layer is no embedding
    assert positions.encode(x)[0].isfinite().all()
    with pytest.raises(AssertionError):
        of_tokens(Own(first_positions=True)).encode(x)
    seen = []

    class Floats(nn.Module):
        def __init__(self):
            super().__init__()
            self.label, self.out = nn.Embedding(3, 4), nn.Linear(T, 6)

        def forward(self, x):
            seen.append(x.dtype)
            return self.out(x)

    of_tokens(Floats(), integers=False).encode(x)
    images = vk.VAE(Floats(), nn.Linear(3, T))
    images.encode((x * 30).to(torch.uint8))
    assert seen == [torch.float32] * 2 and not images.integers
    counts = vk.VAE(ENCODERS["sequential"](), nn.Linear(3, T), likelihood="poisson", integers=True)
    assert counts.loss(x).isfinite()
    with pytest.raises(TypeError, match=r"x: got dtype torch.float32, expected integers"):
        of_tokens(Own()).loss(x.float())


# ---------------------------------------------------------------- a bound on the log-variance


def exactly(t, low, high):
    with mpmath.workdps(40):
        width, middle = mpmath.mpf(high) - low, (mpmath.mpf(high) + low) / 2
        u = mpmath.pi * (mpmath.mpf(t) - middle) / width
        return float(middle + width / mpmath.pi * mpmath.atan(u)), float(1 / (1 + u**2))


FAR = [0.0, 1e-3, 0.5, 3.0, 20.0, 100.0, 1e4, 1e8, 1e15]


@pytest.mark.parametrize("pair", [(-8.0, 4.0), (-20.0, 20.0), (-1.0, 3.5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bound_and_its_slope(pair, dtype):
    t = torch.tensor([s * v for v in FAR for s in (1, -1)], dtype=dtype, requires_grad=True)
    value = bounded(t, *pair)
    (slope,) = torch.autograd.grad(value.sum(), t)
    truth = [exactly(v, *pair) for v in t.tolist()]
    rtol = {torch.float32: 1e-5, torch.float64: 1e-13}[dtype]
    close(value, torch.tensor([v for v, _ in truth], dtype=dtype), rtol=rtol, atol=rtol)
    close(slope, torch.tensor([s for _, s in truth], dtype=dtype), rtol=rtol, atol=0)
    assert (slope > 0).all() and (value <= pair[1]).all() and (value >= pair[0]).all()


def test_the_bound_to_second_order():
    t = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: bounded(3 * t, -2.0, 1.0), (t,))
    assert torch.autograd.gradgradcheck(lambda t: bounded(3 * t, -2.0, 1.0), (t,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_bound_in_16_bits(dtype):
    t = torch.tensor([-300.0, 0.0, 300.0], dtype=dtype, requires_grad=True)
    value = bounded(t, -8.0, 4.0)
    value.sum().backward()
    assert value.dtype == t.grad.dtype == dtype and (t.grad > 0).all()


class Wild(nn.Module):
    """An encoder whose log-variance is far outside of every range. packed: one tensor, or a pair."""

    def __init__(self, packed):
        super().__init__()
        self.packed, self.layer = packed, nn.Linear(4, 4)

    def forward(self, x):
        mu, logvar = self.layer(x).chunk(2, 1)
        logvar = 1e4 * logvar
        return torch.cat([mu, logvar], 1) if self.packed else (mu, logvar)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("return_terms", [True, False])
def test_a_vae_with_a_bounded_log_variance(packed, return_terms):
    torch.manual_seed(0)
    vae = vk.VAE(Wild(packed), nn.Linear(2, 4), likelihood="gaussian", latent_shape=2, logvar_range=(-8, 3))
    x = torch.randn(9, 4)
    _, logvar = vae.encode(x)
    raw = 1e4 * vae.encoder.layer(x).chunk(2, 1)[1]
    close(logvar, bounded(raw, -8.0, 3.0))
    assert logvar.min() < -7.9 and logvar.max() > 2.9
    loss = vae.loss(x, return_terms=return_terms)
    (loss.loss if return_terms else loss).backward()
    assert vae.encoder.layer.weight.grad[2:].abs().min() > 0
    assert vk.diagnose(vae, x, log_p=(4, 10)).measures.kl < 1e3
    assert "logvar_range=(-8, 3)" in repr(vae)


def test_without_a_range_nothing_changes():
    vae = vk.VAE(Wild(True), nn.Linear(2, 4), likelihood="gaussian")
    x = torch.randn(9, 4)
    close(vae.encode(x)[1], 1e4 * vae.encoder.layer(x).chunk(2, 1)[1], rtol=0, atol=0)
    old = pickle.loads(pickle.dumps(vae))
    for name in ("integers", "logvar_range"):
        del old.__dict__[name]  # a VAE that version 0.1 pickled
    close(old.encode(x), vae.encode(x), rtol=0, atol=0)
    assert "logvar_range" not in repr(old)
