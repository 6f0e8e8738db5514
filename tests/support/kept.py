"""Modules that keep a control: for every kind of control, a way to advance it and the setting that takes it."""

import torch

import vae_kernels as vk
from vae_kernels import controls


def mlp(**settings):
    likelihood = "gaussian" if "obs_logvar" in settings else "bernoulli"
    return vk.mlp_vae((6,), 2, (4,), likelihood, **settings)


def schedule(control, step):
    control.step()


def geco(control, step):
    control.update(torch.full((3,), 2.0 + step, device=control.value.device))


def running(control, step):
    control.update(
        *torch.full((2, 3, 2), 1.0 + step, device=control.value.device) * torch.tensor([0.0, 1.0])[:, None, None]
    )


# name: (a function that makes a control, a function that advances it, the settings of the module)
KINDS = {
    "beta": (lambda: controls.LinearWarmup(7), schedule, lambda c: {"beta": c}),
    "rec_weight": (lambda: controls.Cosine(7, 0.1), schedule, lambda c: {"rec_weight": c}),
    "geco": (lambda: controls.Geco(1.0, speed=0.1, momentum=0.5), geco, lambda c: {"rec_weight": c}),
    "obs_logvar": (lambda: controls.RunningLogvar(0.5), running, lambda c: {"obs_logvar": c}),
    "free_bits": (lambda: controls.LinearWarmup(7, 0.0, 3.0), schedule, lambda c: {"free_bits": (c, "per_dim")}),
}
HOLDERS = {
    "VAE": mlp,
    "FusedELBO": lambda **s: vk.FusedELBO(likelihood="gaussian" if "obs_logvar" in s else "bernoulli", **s),
}


def held(module, name):
    """The control that the module keeps."""
    if name == "free_bits":
        return module.free_bits[0]
    return getattr(module, "rec_weight" if name == "geco" else name)
