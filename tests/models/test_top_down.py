"""TopDownVAE: its loss against one that is written with torch.distributions, its groups, and its errors."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

import vae_kernels as vk
from vae_kernels.models import TopDownVAE

close = torch.testing.assert_close
SMALL = {"channels": 6, "latents": 2}


def model(shape=(1, 9, 6), groups=(2, 1), **settings):
    torch.manual_seed(0)
    return TopDownVAE(shape, groups, **SMALL, **settings).double()


def pictures(shape=(1, 9, 6), batch=3):
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_loss_is_the_negative_elbo(monkeypatch):
    """Each KL and the likelihood by torch.distributions, from what the model gives to sample_kl."""
    vae, x, kls = model(), pictures(), []
    sample_kl = vk.functional.sample_kl

    def seen(mu, logvar, *, prior, **settings):
        each = [Normal(m, torch.exp(v / 2)) for m, v in ((mu, logvar), prior)]
        kls.append(kl_divergence(*each).flatten(1).sum(1))
        return sample_kl(mu, logvar, prior=prior, **settings)

    monkeypatch.setattr(vk.functional, "sample_kl", seen)
    terms = vae.loss(x, return_terms=True, reduction="none", generator=torch.Generator().manual_seed(2))
    recon, _ = vae.posterior(x, generator=torch.Generator().manual_seed(2))
    nll = nn.functional.binary_cross_entropy_with_logits(recon, x, reduction="none").flatten(1).sum(1)
    close(terms.loss, nll + sum(kls[:3]))
    close(terms.kl_per_dim, torch.stack(kls[:3], 1).mean(0).detach())
    assert len(kls) == 6 and terms.kl_per_dim.shape == (3,)


def test_every_parameter_is_trained_and_the_first_loss_is_finite():
    vae = model()
    vae(pictures()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())
    assert all((p.grad != 0).any() for p in vae.parameters())


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 5, 1)], ids=str)
@pytest.mark.parametrize("groups", [(1,), (1, 2, 1)], ids=str)
def test_sizes(shape, groups):
    vae, x = model(shape, groups), pictures(shape, 2)
    recon, kl = vae.posterior(x)
    assert recon.shape == x.shape and kl.shape == (2, sum(groups)) and (kl > 0).all()
    assert vae.sample(3).shape == (3, *shape)


@pytest.mark.parametrize(
    ("likelihood", "shape", "outputs"),
    [
        ("gaussian", (2, 4, 4), 2),
        ("discretized_logistic", (1, 4, 4), 2),
        (vk.likelihoods.DiscretizedLogisticMixture(components=2), (3, 4, 4), 1),
        (vk.likelihoods.DiscretizedLogisticMixture(components=2, channels=1, levels=32), (1, 4, 4), 1),
    ],
    ids=str,
)
def test_likelihoods(likelihood, shape, outputs):
    """backend="torch": what is new here is the shape of the decoder's output."""
    vae = model(shape, (1,), likelihood=likelihood, outputs=outputs, backend="torch")
    x = torch.randint(32, (3, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    terms = vae.loss(x, return_terms=True, generator=torch.Generator().manual_seed(2))
    nats = (terms.nll + terms.kl).mean().item()
    bits = vae.bits_per_dim(x, generator=torch.Generator().manual_seed(2))
    assert bits == pytest.approx(nats / (math.prod(shape) * math.log(2)))
    assert vae.sample(2, temperature=0.5).shape == (2, *shape)


def test_settings_are_those_of_fused_elbo():
    vae, x = model(beta=vk.controls.LinearWarmup(10), free_bits=vk.FreeBits(50.0, "per_group")), pictures()
    draw = lambda: torch.Generator().manual_seed(2)  # noqa: E731
    recon, _ = vae.posterior(x, generator=draw())
    close(vae(x, generator=draw()), vk.nll(recon, x, reduction="mean"))  # beta is 0 at the first step
    close(vae(x, generator=draw(), beta=2.0), vk.nll(recon, x, reduction="mean") + 2 * 3 * 50.0)
    mask = x > 0.5
    loss = vae(torch.where(mask, x, 0.0), weight=mask, reduction="sum", generator=draw(), beta=0.0)
    assert loss.isfinite() and vae.beta.steps == 0
    again = model(beta=vk.controls.LinearWarmup(10), free_bits=vk.FreeBits(50.0, "per_group"))
    again.load_state_dict(vae.state_dict())
    close(again(x, generator=draw()), vae(x, generator=draw()))


def test_the_temperature_narrows_the_draws():
    vae, draws = model(groups=(1,)), []
    for temperature in (1.0, 1e-3):
        torch.manual_seed(0)
        draws.append(vae.sample(64, temperature=temperature).std(0).mean())
    assert draws[1] < 0.02 * draws[0]
    vae.train()
    assert vae.sample(1).requires_grad is False and vae.training


ERRORS = [
    (lambda: TopDownVAE((28, 28)), ValueError, "input_shape, groups: got (28, 28)"),
    (lambda: TopDownVAE((1, 4, 4), ()), ValueError, "input_shape, groups: got (1, 4, 4), ()"),
    (lambda: TopDownVAE((1, 4, 4), (0,)), ValueError, "groups: got (0)"),
    (lambda: TopDownVAE((1, 4, 4), channels=0), ValueError, "channels: got 0"),
    (lambda: TopDownVAE((1, 4, 4), likelihood="categorical"), ValueError, "likelihood: 'categorical'"),
    (lambda: TopDownVAE((1, 4, 4), likelihood="multinomial"), ValueError, "likelihood: got 'multinomial'"),
    (
        lambda: TopDownVAE((1, 4, 4), likelihood="discretized_logistic_mixture"),
        ValueError,
        "input_shape: got 1 channels",
    ),
    (lambda: TopDownVAE((3, 4, 4), likelihood="discretized_logistic_mixture", outputs=2), ValueError, "outputs: got 2"),
    (lambda: TopDownVAE((1, 4, 4), outputs=2), ValueError, "outputs: got 2"),
    (lambda: model()(pictures((1, 4, 4))), ValueError, "x: got shape (3, 1, 4, 4), expected (B, 1, 9, 6)"),
    (lambda: model().sample(-1), ValueError, "n: got -1"),
    (lambda: model().sample(1, temperature=0.0), ValueError, "temperature: got 0"),
]


@pytest.mark.parametrize(("call", "error", "text"), ERRORS, ids=[text for *_, text in ERRORS])
def test_errors(call, error, text):
    with pytest.raises(error) as found:
        call()
    assert text in str(found.value)
