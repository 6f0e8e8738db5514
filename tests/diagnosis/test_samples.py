"""Blur counts the data's own detail, and holes are found in the samples: constructed reconstructions and holes."""

import math

import pytest
import torch
from test_diagnose import NOISE, data, ppca
from torch import nn

import vae_kernels as vk
from vae_kernels.doctor import quantities


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# ---------------------------------------------------------------- blur


class Given(nn.Module):
    """Reconstructs these images, whatever z is."""

    def __init__(self, images):
        super().__init__()
        self.images = images

    def forward(self, z):
        return self.images[torch.arange(len(z)) % len(self.images)]


def smooth(images):
    return nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)


STROKES = smooth(torch.randn(64, 1, 12, 12, generator=torch.Generator().manual_seed(1)))
NOISE_LIKE = torch.randn(64, 1, 12, 12, generator=torch.Generator().manual_seed(2)) / 3
RECONSTRUCTIONS = {
    "exact": (STROKES, "healthy"),
    "noise of the same energy": (NOISE_LIKE, "ill"),
    "noise of ten times the energy": (NOISE_LIKE * 10**0.5, "ill"),
    "the detail of other samples": (STROKES.roll(1, 0), "ill"),
    "the negative": (-STROKES, "ill"),
    "flat": (STROKES.mean((2, 3), keepdim=True).expand_as(STROKES), "ill"),
    "smoothed twice": (smooth(smooth(STROKES)), "watch"),
    "noise upon the data": (STROKES + NOISE_LIKE, "healthy"),
}


@pytest.mark.parametrize("name", RECONSTRUCTIONS)
def test_blur_counts_the_detail_of_the_data_only(name):
    images, level = RECONSTRUCTIONS[name]
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    model = vk.VAE(encoder, Given(images), likelihood="gaussian", latent_shape=2)
    found = vk.diagnose(model, STROKES, log_p=None, batch_size=64)
    m = found.measures
    d, r = (torch.cat([t.diff(dim=i).flatten() for i in (-1, -2)]).double() for t in (STROKES, images))
    energy, own, both = ((a @ b).item() for a, b in ((d, d), (r, r), (d, r)))
    assert m.detail == pytest.approx(max(min(own, both) / energy, 0), abs=1e-6)
    assert m.sharpness == pytest.approx(own / energy, rel=1e-5)
    assert found["blur"].level == level, found["blur"]
    assert ("not the data's" in found["blur"].cause) == (name in list(RECONSTRUCTIONS)[1:5])


def test_a_mean_given_z_has_the_energy_that_it_had():
    """For E[x | z] the covariance of the detail is its energy: only detail that is not the data's counts less."""
    kept = torch.fft.irfft2(torch.fft.rfft2(STROKES) * (torch.arange(7) < 3), s=(12, 12))
    d, r = (torch.cat([(t - t.roll(1, i)).flatten() for i in (-1, -2)]).double() for t in (STROKES, kept))
    assert (d @ r).item() == pytest.approx((r @ r).item(), rel=1e-5)  # with neighbours around the edge, exactly
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    model = vk.VAE(encoder, Given(kept), likelihood="gaussian", latent_shape=2)
    m = vk.diagnose(model, STROKES, log_p=None, batch_size=64).measures
    assert m.detail == pytest.approx(m.sharpness, rel=0.05) and m.detail < 0.9


# ---------------------------------------------------------------- holes


class Islands(nn.Module):
    """Decodes z to the nearest of two islands, -1 or 1 on the first axis. Between them, |z| < 1, it decodes to a place
    of its own, which the encoder has never seen."""

    def __init__(self, hole):
        super().__init__()
        self.hole = hole

    def forward(self, z):
        first, second = z.sign(), torch.zeros_like(z)
        inside = z.abs() < self.hole
        return torch.cat([torch.where(inside, 0.0, first), torch.where(inside, 3.0 + z, second)], 1)


class Encode(nn.Module):
    def forward(self, x):
        mu = 2 * x[:, :1] + 0.7 * x[:, 1:]
        return torch.cat([mu, torch.full_like(mu, math.log(0.05))], 1)


@pytest.mark.parametrize("hole", [0.0, 0.1, 0.6, 0.9])
def test_the_share_of_samples_in_a_hole_is_that_of_the_prior(hole):
    x = torch.zeros(4000, 2)
    x[:, 0] = torch.randn(4000).sign()
    model = vk.VAE(Encode(), Islands(hole), likelihood="gaussian", latent_shape=1)
    found = vk.diagnose(model, x, samples=4000, log_p=None)
    inside = math.erf(hole / math.sqrt(2))  # P(|z| < hole) under N(0, 1); no code of the data is there
    error = 4 * math.sqrt(inside * (1 - inside) / 4000)
    assert found.measures.unlike == pytest.approx(inside, abs=error + 1e-9)
    if not hole:  # z of the data comes back to its island: one sigma; z of the prior goes to the nearest, +-2
        of_prior = (1 + 4 - 4 * math.sqrt(2 / math.pi)) / 0.05
        trips = found.measures.round_trip_data, found.measures.round_trip_prior
        assert trips == (pytest.approx(1, rel=0.1), pytest.approx(of_prior, rel=0.1))
    assert f"{found.measures.unlike:.1%} of the samples are unlike data" in found["holes in the latent space"].evidence


def test_a_linear_model_has_no_hole_and_5_percent():
    m = vk.diagnose(ppca(NOISE, NOISE), data(), log_p=None).measures
    assert m.unlike == pytest.approx(0.05, abs=4 * math.sqrt(2 * 0.05 * 0.95 / 1024))


@pytest.mark.parametrize("samples", [20, 100, 199])
def test_few_samples_are_too_few_to_judge_holes(samples):
    x = data()
    few, enough = (
        vk.diagnose(ppca(NOISE, NOISE), x, samples=n, log_p=None)["holes in the latent space"] for n in (samples, 200)
    )
    assert few.level == "watch" and few.evidence == f"{samples} samples are too few to judge" and "200" in few.advice
    assert enough.level == "healthy" and "too few" not in enough.evidence


def test_the_sigmas_are_one_quantity():
    """The round trip is shown as a root mean square, never as its square."""
    found = vk.diagnose(ppca(NOISE, NOISE), data(), log_p=None)
    root = f"{math.sqrt(found.measures.round_trip_prior):.2f} sigmas"
    assert root in found["holes in the latent space"].evidence
    assert ("round trip, prior", root) in [row[:2] for row in quantities.table(found.measures)]
