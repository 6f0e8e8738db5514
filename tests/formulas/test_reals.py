"""Further properties of the likelihoods of images and of reals. Masses and densities sum to 1. The means are right.
There is no jump where a series meets the closed form. A narrow bin and a bin far away have full precision."""

import mpmath
import numpy as np
import oracles
import pytest
import torch
from known import compiled

import vae_kernels as vk
from vae_kernels.formulas import continuous_bernoulli, discretized_logistic, laplace

DTYPES = {"float32": np.float32, "float64": np.float64}
LEVELS = torch.arange(256, dtype=torch.float64) / 255
LOCS, LOGSCALES = (-3.0, 0.0, 0.25, 0.5 + 1 / 510, 1.0, 40.0), (-30.0, -9.0, -5.6, -5.5, -3.0, 0.0, 4.0)


@pytest.mark.parametrize("loc", LOCS)
@pytest.mark.parametrize("logscale", LOGSCALES)
def test_masses_of_the_levels_sum_to_one_and_the_mean_is_theirs(loc, logscale):
    loc, logscale = (torch.full((256,), v, dtype=torch.float64) for v in (loc, logscale))
    mass = torch.exp(-discretized_logistic.nll(LEVELS, loc, logscale))
    assert abs(mass.sum().item() - 1) < 1e-13
    torch.testing.assert_close((mass * LEVELS).sum(), discretized_logistic.mean(loc, logscale)[0], atol=1e-13, rtol=0)


@compiled
@pytest.mark.parametrize("loc", LOCS)
@pytest.mark.parametrize("logscale", LOGSCALES)
def test_masses_in_the_kernel_from_8_bit_levels(loc, logscale):
    x = torch.arange(256, dtype=torch.uint8)
    nll = vk.nll((torch.full((256,), loc), torch.tensor(logscale)), x, likelihood="discretized_logistic", backend="cpu")
    # the rounding of a value v costs v 2^-24; loc and x have size 1, and their rounding is divided by the scale
    # e^logscale
    size = (torch.exp(-nll.double()) * (nll + 8)).sum().item() + 4 * np.exp(-logscale) * (abs(loc) < 2)
    assert abs(torch.exp(-nll.double()).sum().item() - 1) <= 4 * 2.0**-24 * size


@pytest.mark.parametrize("dtype", DTYPES)
def test_narrow_bins_keep_all_digits(cpp, dtype):
    """The bins have a width of 1e-3 to 1e-30 of the scale. The logarithm of a difference of two float32 sigmoids would
    have 4 right digits for the widest of these bins, and none for the others."""
    logscale = np.linspace(1, 70, 70).astype(DTYPES[dtype])
    x, loc, levels = (DTYPES[dtype](n) for n in (0.5, 0.25, 256))
    expected = oracles.discretized_logistic_nll(float(x), float(loc), logscale.astype(np.float64))
    actual = getattr(cpp, dtype).discretized_logistic(x, loc, logscale, levels)
    assert (np.abs(actual - expected) <= 4 * np.finfo(dtype).eps * expected).all()
    # for a bin of width 0 the derivative is -tanh(c / 2) e^-s with c = (x - loc) e^-s
    inverse = np.exp(-logscale.astype(np.float64))
    slope = -np.tanh(0.125 * inverse) * inverse
    actual = getattr(cpp, dtype).discretized_logistic_grad(0, x, loc, logscale, levels)
    fits = np.abs(slope) > 1e-30
    tolerance = 16 * np.finfo(dtype).eps * (1 + logscale) + inverse**2 / 510**2  # the last term: the width of the bin
    assert fits.sum() > 30 and (np.abs(actual / slope - 1) <= tolerance)[fits].all()


def mean_of(logits):
    """The mean of a continuous Bernoulli with 100 digits, by the closed form of the integral."""
    logits = mpmath.mpf(float(logits))
    return 1 / -mpmath.expm1(-logits) - 1 / logits if logits else mpmath.mpf(1) / 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_continuous_bernoulli_has_no_seam(cpp, dtype):
    """The value, the gradient and the mean agree with 100 digits on both sides of |logits| = 1, where the series ends,
    near 0, and far from 0."""
    eps, real = np.finfo(dtype).eps, DTYPES[dtype]
    at = [real(1)]
    for towards in (0, 2):
        for _ in range(40):
            at.append(np.nextafter(at[-1], real(towards)))
        at.append(real(1))
    sizes = np.concatenate([at, np.geomspace(1e-12, 1e4, 300), [0, 1e-30, 1e30]]).astype(real)
    logits = np.concatenate([sizes, -sizes])
    exact = np.array([float(mean_of(v)) for v in logits])
    mean = continuous_bernoulli.mean(torch.from_numpy(logits)).numpy()
    small = np.array([float(mean_of(-abs(v))) for v in logits])  # the smaller of mean and 1 - mean
    assert (np.abs(mean - exact) <= 6 * eps * np.where(logits > 0, exact, small)).all()
    for x in (0.0, 0.5, 1.0):
        value = getattr(cpp, dtype).continuous_bernoulli(real(x), logits)
        against = np.where(logits > 0, 1 - x, x)
        linear, log_c = (
            against * np.abs(logits, dtype=np.float64),
            np.log1p(np.abs(logits, dtype=np.float64) * (1 - small)),
        )
        expected = oracles.continuous_bernoulli_nll(x, logits.astype(np.float64))
        assert (np.abs(value - expected) <= 6 * eps * (linear + log_c)).all()
        grad = getattr(cpp, dtype).continuous_bernoulli_grad(0, real(x), logits)
        expected = np.where(logits > 0, 1, -1) * (against - small)
        assert (np.abs(grad - expected) <= 6 * eps * (against + small)).all()


def test_continuous_bernoulli_is_that_of_torch_away_from_one_half():
    """torch's ContinuousBernoulli gives the same away from 1/2. For 0.499 < sigmoid(logits) < 0.501 it takes a Taylor
    polynomial of two terms."""
    logits = torch.linspace(-12, 12, 400, dtype=torch.float64)
    theirs = torch.distributions.ContinuousBernoulli(logits=logits)
    for x in (0.0, 0.3, 1.0):
        ours = continuous_bernoulli.nll(torch.full_like(logits, x), logits)
        torch.testing.assert_close(ours, -theirs.log_prob(torch.full_like(logits, x)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(continuous_bernoulli.mean(logits), theirs.mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("logits", [-30.0, -1.0, 0.0, 1e-3, 1.0, 5.0])
def test_continuous_bernoulli_is_a_density(logits):
    nodes, weights = np.polynomial.legendre.leggauss(60)
    x = torch.tensor((nodes + 1) / 2)
    p = torch.exp(-continuous_bernoulli.nll(x, torch.full_like(x, logits))).numpy() * weights / 2
    assert abs(p.sum() - 1) < 1e-13 and abs((p * x.numpy()).sum() - float(mean_of(logits))) < 1e-13


@pytest.mark.parametrize("backend", ["torch", pytest.param("cpu", marks=compiled)])
def test_laplace_at_the_kink_and_of_nan(backend):
    """At the kink, x = loc, the gradient by loc is 0 as in PyTorch (sign(0) = 0). If x is NaN, the gradients are
    NaN."""
    x = torch.tensor([[0.5, float("nan"), 2.0]])
    loc, logscale = torch.tensor([[0.5, 0.5, 0.5]], requires_grad=True), torch.zeros(1, 3, requires_grad=True)
    of_loc, of_scale = torch.autograd.grad(
        vk.nll((loc, logscale), x, likelihood="laplace", backend=backend).sum(), (loc, logscale)
    )
    assert of_loc[0, 0] == 0 and of_scale[0, 0] == 1 and of_loc[0, 1].isnan() and of_scale[0, 1].isnan()
    assert of_loc[0, 2] == -1 and of_scale[0, 2] == -0.5
    theirs = torch.distributions.Laplace(loc, logscale.exp()).log_prob(torch.tensor([[0.1, -3.0, 2.0]]))
    torch.testing.assert_close(-theirs, laplace.nll(torch.tensor([[0.1, -3.0, 2.0]]), loc, logscale))
