"""vk.diagnose and vk.Monitor with weights: what is missing is in no figure, whatever stands there."""

import math
from dataclasses import astuple
from functools import partial

import pytest
import torch
from test_diagnose import NOISE, D, L, data, ppca
from torch import nn

import vae_kernels as vk

NAN = float("nan")
diagnose = partial(vk.diagnose, log_p=None, samples=128)


pytestmark = pytest.mark.usefixtures("seeded")


def mask_of(x, share=0.7):
    return torch.rand(x.shape) < share


def narrowed(model, columns):
    """The linear VAE of these columns of x."""
    narrow = vk.VAE(nn.Linear(len(columns), 2 * L), nn.Linear(L, len(columns)), likelihood="gaussian", latent_shape=L)
    narrow.obs_logvar = model.obs_logvar
    narrow.encoder.weight, narrow.encoder.bias = nn.Parameter(model.encoder.weight[:, columns]), model.encoder.bias
    narrow.decoder.weight = nn.Parameter(model.decoder.weight[columns])
    narrow.decoder.bias = nn.Parameter(model.decoder.bias[columns])
    return narrow


@pytest.mark.parametrize("form", [(D,), (1, D), (1024, D)])
def test_columns_that_are_missing_are_columns_that_do_not_exist(form):
    """Every figure is that of the model and the data without these columns: no figure sees them."""
    model, x = ppca(NOISE, NOISE), data()
    model.decoder.bias.data.uniform_(-1, 1)
    mask = torch.arange(D) % 4 != 1
    columns = mask.nonzero()[:, 0].tolist()
    found = diagnose(model, torch.where(mask, x, NAN), weight=mask.expand(form), log_p=(64, 16)).measures
    expected = diagnose(narrowed(model, columns), x[:, columns], log_p=(64, 16)).measures
    assert found.observed == len(columns) / D and expected.observed is None
    for name, a, b in zip(found.__dataclass_fields__, astuple(found), astuple(expected), strict=True):
        if name == "log_p":
            assert a == pytest.approx(b, rel=1e-4)
        elif name != "observed":
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=f"{name}: {a} and {b}")


def test_the_residuals_of_ragged_samples():
    """Each observed element counts once, also where samples have different numbers of them."""
    model, x = ppca(NOISE, NOISE), data()[:128]
    model.decoder.weight.data.zero_()  # then the location does not depend on z
    model.decoder.bias.data.uniform_(-1, 1)
    mask = torch.arange(D) < torch.arange(128)[:, None] % (D + 1)  # 0 to D elements
    m = diagnose(model, torch.where(mask, x, NAN), weight=mask, batch_size=50).measures
    residuals = (x - model.decoder.bias)[mask].square().mean().item()
    assert m.residual == pytest.approx(residuals, rel=1e-5)
    assert m.square_ratio == pytest.approx(residuals / NOISE, rel=1e-5)
    each = torch.distributions.Normal(model.decoder.bias.detach(), NOISE**0.5).log_prob(x)
    assert m.nll == pytest.approx(-each[mask].sum().item() / 128, rel=1e-5)  # empty samples are in the mean


class Wrong(nn.Module):
    """Reconstructs images exactly, but for a factor where they are observed, and not at all elsewhere."""

    def __init__(self, images, mask, factor):
        super().__init__()
        self.images = torch.where(mask, factor * images, 1e6 * torch.rand_like(images))

    def forward(self, z):
        return self.images[torch.arange(len(z)) % len(self.images)]


@pytest.mark.parametrize("factor, level", [(0.6, "healthy"), (0.4, "watch"), (0.1, "ill")])
def test_blur_of_neighbours_that_are_both_observed(factor, level):
    x = torch.rand(64, 3, 6, 5)
    mask = mask_of(x, 0.8)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(90, 4))
    model = vk.VAE(encoder, Wrong(x, mask, factor), likelihood="gaussian", latent_shape=2)
    found = diagnose(model, torch.where(mask, x, math.inf), weight=mask, batch_size=64)
    assert found["blur"].level == level and "both neighbours are observed" in found["blur"].evidence
    assert found.measures.detail == pytest.approx(factor**2, rel=1e-5)


def test_without_observed_neighbours_there_is_no_verdict_on_blur():
    x = torch.rand(8, 1, 6, 6)
    board = (torch.arange(6)[:, None] + torch.arange(6)) % 2 == 0
    found = diagnose(vk.mlp_vae((1, 6, 6), 2, (8,)), x, weight=board)
    assert found.measures.detail is None and "blur" not in {verdict.symptom for verdict in found.verdicts}


KINDS = {
    "bernoulli": (torch.rand(40, 1, 4, 4), (NAN, math.inf, -7.0)),
    "gaussian": (torch.randn(40, 1, 4, 4), (NAN, -math.inf, 1e30)),
    "poisson": (torch.randint(0, 9, (40, 1, 4, 4)), (-1, 2**40)),
    "uint8": (torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8), (255, 7)),
    "categorical": (torch.randint(0, 5, (40, 1, 4, 4)), (-100, 5)),
}


def model_of(kind):
    if kind == "categorical":
        decoder = nn.Sequential(nn.Linear(2, 5 * 16), nn.Unflatten(1, (5, 1, 4, 4)))
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
        return vk.VAE(encoder, decoder, likelihood=kind, latent_shape=2)
    return vk.mlp_vae((1, 4, 4), 2, (8,), "bernoulli" if kind == "uint8" else kind)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_missing_element_holds_changes_nothing(kind):
    (x, poisons), model = KINDS[kind], model_of(kind)
    mask = mask_of(x, 0.5)
    mask[3] = False
    reports = {str(vk.diagnose(model, x.masked_fill(~mask, value), weight=mask, log_p=(16, 8))) for value in poisons}
    clean = vk.diagnose(model, x.masked_fill(~mask, 0), weight=mask, log_p=(16, 8))
    assert reports == {str(clean)} and "nan" not in str(clean)
    share = f"{mask.double().mean():.1%}"
    assert f"{share} of x observed" in str(clean) and f"of the observed {share} of x" in str(clean)
    assert "observed" not in str(vk.diagnose(model, x, log_p=None)) and str(clean) != str(vk.diagnose(model, x))


def test_an_autoregressive_decoder_does_not_see_what_is_missing():
    class Reads(nn.Module):
        def forward(self, z, x):
            return nn.functional.pad(x[:, :-1], (1, 0))

    model = vk.VAE(ppca(NOISE, NOISE).encoder, Reads(), likelihood="gaussian", autoregressive=True)
    x = data()[:32]
    mask = mask_of(x)
    m = vk.diagnose(model, torch.where(mask, x, NAN), weight=mask, log_p=(32, 4)).measures
    filled = torch.where(mask, x, 0.0)
    each = torch.distributions.Normal(nn.functional.pad(filled[:, :-1], (1, 0)), 1.0).log_prob(filled)
    assert m.nll == pytest.approx(-each[mask].sum().item() / 32, rel=1e-5)
    assert math.isfinite(m.log_p.value)


def test_a_mask_is_no_reason_for_a_verdict():
    """A healthy model of columns that are halved at random stays so: no beta, no variance and no collapse is found."""
    x = data()
    mask = torch.arange(D) % 4 != 1
    narrow = narrowed(ppca(NOISE, NOISE), mask.nonzero()[:, 0].tolist())  # no optimum, but close
    one, other = (v.verdicts for v in (diagnose(narrow, x[:, mask]), diagnose(ppca(NOISE, NOISE), x, weight=mask)))
    assert [v.level for v in one] == [v.level for v in other]
    assert {v.symptom: v.level for v in other}["effective beta"] == "healthy"


def test_the_report_shows_the_holes_in_grey():
    pytest.importorskip("matplotlib", reason="matplotlib, which draws the report, is not installed")
    x = 100 + 50 * torch.rand(20, 1, 4, 4)
    mask = mask_of(x)
    found = diagnose(vk.mlp_vae((1, 4, 4), 2, (8,), "gaussian"), torch.where(mask, x, NAN), weight=mask)
    shown, seen = found.views.pictures, mask[:8]
    assert (shown.low, shown.high) == (x[mask].min().item(), x[mask].max().item())
    assert torch.equal(shown.data[seen], x[:8][seen])
    assert (shown.data[~seen] == (shown.low + shown.high) / 2).all()
    page, share = found.html(), f"{mask.double().mean():.1%}"
    assert f"{share} of x observed" in page and "missing pixels are grey" in page and f"<td>{share}</td>" in page


X = torch.rand(20, 6)
MODEL = vk.mlp_vae((6,), 2, (4,))
ERRORS = [
    ({"weight": X > 0, "data": [X]}, TypeError, "data: got list.* its mask is given as weight="),
    ({"weight": "mask"}, TypeError, "weight: got str"),
    ({"weight": (X > 0).float()}, TypeError, r"weight: got dtype torch.float32, expected a mask, torch.bool"),
    ({"weight": (X > 0).long()}, TypeError, "weight: got dtype torch.int64, expected a mask"),
    ({"weight": X[:10] > 0}, ValueError, r"weight: got shape \(10, 6\)"),
    ({"weight": X[:, 0] > 0}, ValueError, r"weight: got shape \(20,\).* \(20, 1\)"),
    ({"weight": X < 0}, ValueError, "weight: got a mask that is False everywhere"),
    ({"weight": (torch.arange(20) > 9)[:, None], "samples": 8}, ValueError, "weight: got a mask that is False"),
    ({"data": torch.where(X.min() < X, X, NAN)}, ValueError, r"data: got 1 elements .* weight=data.isfinite\(\)"),
    ({"data": X / 0, "weight": X.median() < X}, ValueError, "data: got 60 elements .* weight to be False there"),
]


@pytest.mark.parametrize("arguments, error, message", ERRORS)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        diagnose(MODEL, **({"data": X} | arguments))


# ---------------------------------------------------------------- the Monitor


def row(terms, **options):
    out = []
    vk.Monitor(1, out.append).update(terms, **options)
    return out[0]


def ragged(dtype=torch.bool):
    """Latents [B, L, T] of sequences of different lengths, padded with NaN; and their weights [B, 1, T]."""
    mu, logvar = torch.randn(2, 16, 3, 5)
    logvar -= 6  # so that a 0 in place of the padding would be the largest
    weight = (torch.arange(5) < 1 + torch.arange(16)[:, None] % 4)[:, None]  # the last frame is padding in all
    mu, logvar = (torch.where(weight, t, NAN) for t in (mu, logvar))
    mu[:, 1] *= 1e-3  # dims whose mean hardly varies
    return mu, logvar, weight.to(dtype) * (0.5 if dtype.is_floating_point else True)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_a_row_of_padded_latents(dtype):
    mu, logvar, weight = ragged(dtype)
    x = torch.rand(16, 7)
    terms = vk.fused_elbo(x, x, mu, logvar, latent_weight=weight, return_terms=True)
    got = row(terms, mu=mu, logvar=logvar, latent_weight=weight)
    seen = (weight != 0).expand_as(mu)
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    kl = torch.where(seen, kl, 0) * (0.5 if dtype.is_floating_point else 1)
    assert got["kl"] == pytest.approx(kl.flatten(1).sum(1).mean().item(), rel=1e-5)
    assert got["kl_per_dim"] == pytest.approx(kl.mean(0).flatten().tolist(), rel=1e-5)
    assert (got["nonfinite_nll"], got["nonfinite_kl"], got["first_nonfinite"]) == (0, 0, "")
    assert (got["logvar_min"], got["logvar_max"]) == (logvar[seen].min().item(), logvar[seen].max().item())
    columns = [(mu[:, d, t], seen[:, d, t]) for d in range(3) for t in range(5)]
    variances = [m[s].var().item() if s.sum() > 1 else 0 for m, s in columns]
    assert got["active_units"] == sum(v > 0.01 for v in variances) == 8  # two of three dims, four of five frames


def test_the_variance_of_an_active_unit_is_over_its_own_samples():
    """Zeros in place of the padding would hide a constant unit, or dilute a unit that is active."""
    mu = torch.zeros(10, 2)
    mu[:2, 0] = torch.tensor([0.0, 0.3])  # variance 0.045 over two samples, 0.009 over ten
    mu[:2, 1] = 1.0  # constant over two samples, variance 0.18 over ten
    weight = (torch.arange(10) < 2)[:, None]
    x = torch.rand(10, 3)
    terms = vk.fused_elbo(x, x, mu, torch.zeros_like(mu), latent_weight=weight, return_terms=True)
    assert row(terms, mu=mu, latent_weight=weight)["active_units"] == 1
    assert row(terms, mu=torch.stack([mu[:, 1], mu[:, 1]], 1), latent_weight=weight)["active_units"] == 0
    assert row(terms, mu=mu[:, :1])["active_units"] == 0


def test_saturated_logits_that_are_observed():
    logits, mu = torch.zeros(4, 100), torch.zeros(4, 2)
    logits[:, :50] = torch.tensor([100.0, NAN, -100.0, 0.0])[:, None]
    weight = torch.ones(4, 100, dtype=torch.bool)
    weight[1, :50] = False
    terms = vk.fused_elbo(logits, torch.rand(4, 100), mu, mu, weight=weight, return_terms=True)
    got = row(terms, logits=logits, weight=weight)
    assert got["saturated"] == pytest.approx(100 / 350, rel=1e-6) and got["nonfinite_nll"] == 0
    assert row(terms, logits={"logits": logits}, weight=torch.arange(100) >= 50)["saturated"] == 0
    large = torch.full((8, 9000), 100.0)  # of which every fifth is looked at
    assert row(terms, logits=large, weight=(torch.arange(8) > 3)[:, None])["saturated"] == 1


TERMS = vk.fused_elbo(X, X, X[:, :2], X[:, :2], return_terms=True)
MONITOR_ERRORS = [
    ({"weight": X > 0}, ValueError, "weight: has no effect without logits"),
    ({"latent_weight": X > 0, "logits": X}, ValueError, "latent_weight: has no effect without mu or logvar"),
    ({"weight": X[0, :3] > 0, "logits": X}, ValueError, r"weight: got shape \(3,\)"),
    ({"weight": X.long(), "logits": X}, TypeError, "weight: got dtype torch.int64"),
    ({"weight": X > 0, "logits": {"loc": X}}, ValueError, "logits: got the keys 'loc'"),
    ({"latent_weight": X > 0, "mu": X[:, :2]}, ValueError, r"latent_weight: got shape \(20, 6\).* mu"),
    ({"latent_weight": X > 0, "logvar": X[:, :2]}, ValueError, r"latent_weight: got shape \(20, 6\).* logvar"),
]


@pytest.mark.parametrize("arguments, error, message", MONITOR_ERRORS)
def test_errors_of_the_monitor_come_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        vk.Monitor(100).update(TERMS, **arguments)


def test_a_model_of_padded_sequences_from_loss_to_row():
    """VAE.loss, its terms and the Monitor: the weights of the loss are in the terms already."""
    model = vk.mlp_vae((6,), 2, (4,))
    mask, keep = X > 0.3, (torch.arange(20) % 2 == 0)[:, None]
    terms = model.loss(torch.where(mask, X, NAN), weight=mask, latent_weight=keep, return_terms=True)
    mu, logvar = model.encode(torch.where(mask, X, 0.0))
    got = row(terms, mu=mu, logvar=logvar, latent_weight=keep)
    assert got["kl"] == pytest.approx(vk.gaussian_kl(mu[::2], logvar[::2]).sum().item() / 20, rel=1e-5)
    assert math.isfinite(got["nll"]) and got["active_units"] == int((mu[::2].var(0) > 0.01).sum())
