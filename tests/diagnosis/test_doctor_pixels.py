"""A model of pixels, whose terms are no elements: what the doctor, the Monitor and the audit say of it, and what they
refuse."""

import warnings

import pytest
import torch

import vae_kernels as vk

Mixture = vk.likelihoods.DiscretizedLogisticMixture
LIKELIHOOD = Mixture(components=2, levels=32)


def data(n, seed):
    """Pictures of one colour and some noise, as levels of 5 bits."""
    g = torch.Generator().manual_seed(seed)
    colour, noise = torch.rand(n, 3, 1, 1, generator=g), 0.1 * torch.randn(n, 3, 4, 4, generator=g)
    return ((colour + noise).clamp(0, 1) * 31).round().to(torch.uint8)


def made(*last):
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 32), torch.nn.ReLU(), torch.nn.Linear(32, 6))
    layers = torch.nn.Linear(3, 32), torch.nn.ReLU(), torch.nn.Linear(32, 20 * 16), torch.nn.Unflatten(1, (20, 4, 4))
    return vk.VAE(encoder, torch.nn.Sequential(*layers, *last), likelihood=LIKELIHOOD, latent_shape=3)


@pytest.fixture(scope="module")
def trained():
    """(a model, the rows of its Monitor)"""
    model, x, rows = made(), data(256, 1), []
    step = torch.optim.Adam(model.parameters(), 0.01)
    with vk.Monitor(every=50, to=rows.append, likelihood=LIKELIHOOD) as monitor:
        for i in range(200):
            batch = x[i * 64 % 256 :][:64]
            step.zero_grad()
            terms = model.loss(batch, return_terms=True)
            terms.loss.backward()
            step.step()
            monitor.update(terms, x=batch)
    return model, rows


def test_the_doctor_judges_a_model_of_pixels(trained):
    found = vk.diagnose(trained[0], data(200, 2), train=data(256, 1))
    levels = {verdict.symptom: verdict.level for verdict in found.verdicts}
    assert levels["data"] == levels["decoder output"] == levels["posterior collapse"] == "healthy"
    assert "[0, 1] in 31 steps" in str(found)


def test_the_monitor_reads_a_model_of_pixels(trained):
    rows = trained[1]
    assert [row["step"] for row in rows] == [50, 100, 150, 200] and rows[-1]["loss"] < rows[0]["loss"]
    assert not any(row["problem"] for row in rows) and len(rows[-1]["kl_per_dim"]) == 3


@pytest.mark.parametrize(
    ("likelihood", "x", "problem"),
    [
        (LIKELIHOOD, torch.tensor([0, 31, 255], dtype=torch.uint8), "x is between 0 and 255, expected levels 0 to 31"),
        (Mixture(2, 2), torch.tensor([0, 1, 1], dtype=torch.uint8), ""),
        (Mixture(2, 256), torch.tensor([0, 1, 1], dtype=torch.uint8), "x is uint8 and holds only 0 and 1"),
        (Mixture(2, 256, x_range=(0, 10)), torch.tensor([0, 7, 255], dtype=torch.uint8), ""),
        (Mixture(2, x_range=(-1, 1)), torch.tensor([0.0, 255.0]), "x is between 0 and 255, expected [-1, 1]"),
    ],
)
def test_the_monitor_knows_the_levels(likelihood, x, problem):
    rows, x = [], x.view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    zeros = torch.zeros(len(x), 20, 1, 1), x.clamp(max=1), torch.zeros(len(x), 1), torch.zeros(len(x), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        terms = vk.fused_elbo(*zeros, likelihood=likelihood, return_terms=True)
    with vk.Monitor(every=1, to=rows.append, likelihood=likelihood) as monitor:
        monitor.update(terms, x=x)
    said = rows[0]["problem"]
    assert said.startswith(problem) and bool(said) == bool(problem)


def test_a_bounded_decoder_is_found():
    text = str(vk.diagnose(made(torch.nn.Sigmoid()), data(100, 2)))
    assert "likelihood='discretized_logistic_mixture' takes numbers from -inf to inf for each pixel or column" in text


def test_other_levels_are_found(trained):
    x = (data(100, 2).float() / 31 * 255).round() / 255
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "at no level" in str(vk.diagnose(trained[0], x))


def test_what_does_not_fit_is_an_error(trained):
    x = data(20, 2)
    mask = torch.rand(20, 1, 4, 4) > 0.5
    with pytest.raises(ValueError, match=r"weight: got a mask, expected None: .* has one term for all channels"):
        vk.diagnose(trained[0], x, weight=mask)
    with pytest.raises(ValueError, match=r"weight: got shape \(20, 3, 4, 4\), expected one that .* \(20, 1, 4, 4\)"):
        trained[0].loss(x, weight=mask.expand_as(x))
    with pytest.raises(TypeError, match=r"x: got dtype torch\.int64, expected uint8 for levels, or floats"):
        trained[0].loss(x.long())
    with pytest.raises(ValueError, match=r"x: got shape \(20, 1, 4, 4\), expected \(B, 3, ...\)"):
        vk.nll(torch.zeros(20, 20, 4, 4), x[:, :1], likelihood=LIKELIHOOD)
    with pytest.raises(ValueError, match=r"expected VAE\("):
        vk.conv_vae((3, 8, 8), 2, likelihood=LIKELIHOOD)


def test_the_audit_says_that_it_knows_no_pixels(trained):
    x = data(6, 2)
    packed, mu, logvar = torch.randn(6, 20, 4, 4), torch.randn(6, 3), torch.randn(6, 3)
    loss = lambda recon, x, mu, logvar: vk.fused_elbo(recon, x, mu, logvar, likelihood=LIKELIHOOD)  # noqa: E731
    text = str(vk.audit(loss, (packed, x, mu, logvar)))
    assert "recon has the shape (6, 20, 4, 4), and x the shape (6, 3, 4, 4): the audit knows likelihoods of" in text
