"""A function that looks at a user's model must leave the model as it was: the `training` flag of each module, the
counts in its layers, and the state of the noise."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import vae_kernels as vk
from vae_kernels.cli import alarm, fit
from vae_kernels.cli import pictures as command
from vae_kernels.core.modes import evaluating

X = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def model():
    """A model in training mode, except for one batch norm that the user has frozen. Its layers count batches and draw
    noise."""
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.BatchNorm1d(8), nn.Linear(8, 4)
    )
    vae = vk.VAE(encoder, nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4))), latent_shape=2)
    encoder[2].eval()
    return vae


def measured(vae):
    fit.measure("fused", vae, X, torch.arange(len(X)), 16, "cpu")


def generator():
    return torch.Generator().manual_seed(0)


def drawn(vae):
    data = SimpleNamespace(images=X, labels=None, classes=None, split=lambda: torch.arange(len(X)).split(20))
    config = {"device": "cpu", "loss": "fused", "batch_size": 16, "latent_dim": 2, "likelihood": "bernoulli"}
    command.draw(Path("run"), vae, data, config, [])


LOOKS = {
    "diagnose": lambda vae: vk.diagnose(vae, X, log_p=None),
    "measure": measured,
    "glance": lambda vae: alarm.glance(vae, X),
    "draw": drawn,
    "reconstruct": lambda vae: vae.reconstruct(X),
    "sample": lambda vae: vae.sample(5, generator=generator()),
    "sample_prior": lambda vae: vae.sample_prior(5, generator=generator()),
    "log_marginal_likelihood": lambda vae: vk.log_marginal_likelihood(vae, X, 20, generator=generator()).value,
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("look", LOOKS)
def test_a_look_leaves_the_model_as_it_was(look, frozen, monkeypatch):
    monkeypatch.setattr(command.checkpoint, "write", lambda *_: None)
    for picture in ("curves", "reconstructions", "samples", "latent"):
        monkeypatch.setattr(command.plots, picture, lambda *_: b"")
    vae = model()
    if frozen:
        vae.eval()
        vae.encoder[2].train()  # now the rest is frozen, and this batch norm is not
    flags, state, noise = [m.training for m in vae.modules()], copy.deepcopy(vae.state_dict()), torch.get_rng_state()
    LOOKS[look](vae)
    assert [m.training for m in vae.modules()] == flags
    torch.testing.assert_close(vae.state_dict(), state, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), noise)


def test_the_flags_come_back_after_an_error():
    vae = model()
    flags = [m.training for m in vae.modules()]
    with pytest.raises(ZeroDivisionError), evaluating(vae):
        assert not any(m.training for m in vae.modules())
        raise ZeroDivisionError
    assert [m.training for m in vae.modules()] == flags


def with_a_decoder_of_dropout():
    vae = model()
    vae.decoder = nn.Sequential(nn.Dropout(), vae.decoder)
    return vae


@pytest.mark.parametrize("look", ["reconstruct", "sample", "log_marginal_likelihood"])
def test_a_look_runs_in_evaluation_mode(look):
    """In training mode dropout would give other numbers each time, and a batch norm would look at the batch."""
    vae = with_a_decoder_of_dropout()
    first, second = LOOKS[look](vae), LOOKS[look](vae)
    vae.eval()
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, LOOKS[look](vae), rtol=0, atol=0)


@pytest.mark.parametrize("look", ["reconstruct", "sample", "log_marginal_likelihood"])
def test_the_flags_come_back_after_an_error_of_a_network(look):
    class Broken(nn.Module):
        def forward(self, z):
            assert not self.training
            raise ZeroDivisionError

    vae = model()
    vae.decoder = Broken()
    flags = [m.training for m in vae.modules()]
    with pytest.raises(ZeroDivisionError):
        LOOKS[look](vae)
    assert [m.training for m in vae.modules()] == flags


def test_a_prior_that_calls_the_encoder_is_drawn_in_evaluation_mode():
    """The components of a VampPrior are posteriors of the encoder, whose batch norms must not see the pseudo-inputs as
    a batch."""
    vae = model()
    vae.prior_module = vk.priors.VampPrior(X[:3], vae.encoder, 2)
    state = copy.deepcopy(vae.state_dict())
    vae.sample(4, generator=generator())
    torch.testing.assert_close(vae.state_dict(), state, rtol=0, atol=0)
    assert vae.encoder.training
