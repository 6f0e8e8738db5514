"""repr() of a module says in one line what the module computes, and has a line for each child module."""

import torch
from torch import nn

import vae_kernels as vk
from vae_kernels import controls


def test_the_line_of_a_model():
    vae = vk.mlp_vae((4,), 2, (3,), beta=0.5)
    assert vae.extra_repr() == (
        "likelihood='bernoulli', beta=0.5, rec_weight=1, prior=N(0, I), latent_shape=(2,), backend='auto'"
    )
    assert repr(vae).splitlines()[1].strip() == vae.extra_repr()


def test_the_line_of_a_loss():
    assert repr(vk.FusedELBO(reduction="sum", backend="torch")) == (
        "FusedELBO(likelihood='bernoulli', beta=1, rec_weight=1, prior=N(0, I), reduction='sum', backend='torch')"
    )
    tensors = vk.FusedELBO(
        likelihood="gaussian",
        beta=torch.rand(6),
        rec_weight=torch.tensor(0.25),
        obs_logvar=nn.Parameter(torch.zeros(3, 1, 1)),
        prior=(torch.zeros(6), nn.Parameter(torch.tensor(-1.0))),
        free_bits=(2, "per_sample"),
    )
    assert tensors.extra_repr() == (
        "likelihood='gaussian', beta=tensor(shape=(6,)), rec_weight=tensor(0.25), prior=(tensor(shape=(6,)), "
        "Parameter(-1)), obs_logvar=Parameter(shape=(3, 1, 1)), free_bits=(2, 'per_sample'), reduction='mean', "
        "backend='auto'"
    )
    assert "rec_weight=tensor(shape=())" in tensors.to("meta").extra_repr()  # a meta tensor has no number to show


def test_children_have_lines_of_their_own():
    warmup, prior = controls.LinearWarmup(4, delay=1), vk.priors.DiagonalGaussian(2)
    warmup.step()
    text = repr(vk.FusedELBO(beta=warmup, prior=prior, free_bits=(controls.Constant(0.5), "per_dim")))
    assert "beta=LinearWarmup, rec_weight=1, prior=DiagonalGaussian, free_bits=(Constant, 'per_dim')" in text
    assert "(beta): LinearWarmup(length=4, start=0, end=1, delay=1, steps=1, at=0)" in text
    assert "(prior_module): DiagonalGaussian(shape=(2,))" in text
    assert "(free_bits_nats): Constant(level=0.5, steps=0, at=0.5)" in text


def test_controls():
    assert repr(controls.Cyclical(10)) == (
        "Cyclical(length=10, cycles=4, ratio=0.5, start=0, end=1, delay=0, steps=0, at=0)"
    )
    assert repr(controls.Geco(1.0, speed=0.1)) == "Geco(target=1, speed=0.1, momentum=0.99, steps=0)"
    assert repr(controls.RunningLogvar(0.9)) == "RunningLogvar(momentum=0.9, steps=0)"
