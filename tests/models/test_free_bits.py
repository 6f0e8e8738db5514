"""free_bits= of fused_elbo, FusedELBO and VAE gives the loss that controls.free_bits gives. The terms still have the KL
without free bits."""

import copy

import pytest
import torch

import vae_kernels as vk
from vae_kernels.controls import free_bits, kl_per_dim

B, D, L = 6, 5, 4


@pytest.fixture
def batch():
    torch.manual_seed(0)
    mu, logvar = (torch.randn(B, L, dtype=torch.float64, requires_grad=True) for _ in range(2))
    recon = torch.randn(B, D, dtype=torch.float64, requires_grad=True)
    return recon, torch.rand(B, D, dtype=torch.float64), mu, logvar


@pytest.mark.parametrize("unit", ["per_dim", "per_group", "per_sample", "batch_mean"])
@pytest.mark.parametrize("prior", [None, "pair", "module"])
def test_it_is_the_floor_of_controls(backend, batch, unit, prior):
    recon, x, mu, logvar = batch
    pair = (torch.full((L,), 0.3, dtype=torch.float64), torch.full((L,), 0.2, dtype=torch.float64))
    if prior == "module":
        prior = vk.priors.DiagonalGaussian(L).double()
        with torch.no_grad():
            prior.mu.copy_(pair[0])
            prior.logvar.copy_(pair[1])
    prior = pair if prior == "pair" else prior
    weights = {"beta": 0.7, "rec_weight": 0.4, "backend": backend}
    kl = kl_per_dim(mu, logvar, prior=None if prior is None else pair)
    # the level lies between the KLs of the dimensions (or samples), so some of them are below it
    nats = {"per_dim": kl.mean(0), "per_group": kl.mean(0), "per_sample": kl.sum(1), "batch_mean": 2 * kl.sum(1).mean()}
    nats = nats[unit].median().item() + 0.01
    floored = free_bits(kl, nats, unit=unit)
    assert (floored.mean() > kl.sum(1).mean()).item()
    wanted = (0.4 * vk.nll(recon, x) + 0.7 * floored).mean()
    terms = vk.fused_elbo(recon, x, mu, logvar, prior=prior, free_bits=(nats, unit), return_terms=True, **weights)
    loss = vk.fused_elbo(recon, x, mu, logvar, prior=prior, free_bits=(nats, unit), **weights)
    torch.testing.assert_close(terms.loss, wanted)
    torch.testing.assert_close(loss, terms.loss)
    for got, expected in zip(
        torch.autograd.grad(loss, (recon, mu, logvar)), torch.autograd.grad(wanted, (recon, mu, logvar)), strict=True
    ):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(terms.kl, kl.sum(1).detach())  # the terms have the KL without free bits
    torch.testing.assert_close(terms.kl_per_dim, kl.mean(0).detach())
    assert not terms.kl.requires_grad and not terms.kl_per_dim.requires_grad


def test_a_kl_that_is_given(batch):
    recon, x, mu, logvar = batch
    kl = vk.gaussian_kl(mu, logvar)
    nats = torch.tensor(kl.median().item() + 0.01, dtype=torch.float64)  # a tensor, as the value of a schedule is
    terms = vk.fused_elbo(recon, x, kl=kl, free_bits=(nats, "per_sample"), reduction="none", return_terms=True)
    torch.testing.assert_close(terms.loss, vk.nll(recon, x) + torch.where(kl > nats, kl, nats))
    assert terms.kl_per_dim is None and torch.equal(terms.kl, kl.detach())


def test_the_modules_have_it(batch):
    recon, x, mu, logvar = batch
    given = {"free_bits": (3.0, "per_dim")}
    loss = vk.fused_elbo(recon, x, mu, logvar, **given)
    assert torch.equal(vk.FusedELBO(**given)(recon, x, mu, logvar), loss)
    model = vk.mlp_vae((D,), L, (8,), **given).double()
    free = copy.deepcopy(model)
    free.free_bits = None
    losses, terms = [], []
    for vae in (model, free):
        torch.manual_seed(1)
        losses.append(vae.loss(x).item())
        torch.manual_seed(1)
        terms.append(vae.loss(x, return_terms=True))
    assert terms[0].loss.item() == pytest.approx(losses[0]) and torch.equal(terms[0].nll, terms[1].nll)
    floor = 3.0 * L  # the KL is below 3 nats in every dimension
    assert terms[1].kl_per_dim.max() < 3 and losses[0] == pytest.approx(losses[1] - terms[1].kl.mean().item() + floor)


ERRORS = [
    ({"free_bits": 0.5}, TypeError, "free_bits: got 0.5, expected None or a pair"),
    ({"free_bits": (0.5, "dim")}, ValueError, r"free_bits\[1\] \(unit\): got 'dim', expected one of 'per_dim'"),
    ({"free_bits": (-1.0, "per_dim")}, ValueError, "nats: got -1.0"),
    ({"free_bits": (1.0, "per_dim"), "beta": torch.ones(L)}, ValueError, "beta: got shape"),
]


@pytest.mark.parametrize("settings, error, message", ERRORS)
def test_errors(batch, settings, error, message):
    with pytest.raises(error, match=message):
        vk.fused_elbo(*batch, **settings)


def test_more_errors(batch):
    recon, x, mu, logvar = batch
    kl = vk.gaussian_kl(mu, logvar)
    with pytest.raises(ValueError, match="kl: given beside mu"):
        vk.fused_elbo(recon, x, mu, logvar, kl=kl, free_bits=(1.0, "per_sample"))
    with pytest.raises(ValueError, match=r"kl: got shape \(6,\), expected \[B, L"):
        vk.fused_elbo(recon, x, kl=kl, free_bits=(1.0, "per_dim"))
    with pytest.raises(ValueError, match="mu: got shape"):
        vk.fused_elbo(recon, x, mu[:3], logvar[:3], free_bits=(1.0, "per_dim"))
