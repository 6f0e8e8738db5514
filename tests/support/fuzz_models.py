"""Random calls of models, bounds, priors, controls, Monitor and diagnose: right calls in which some arguments are made
wrong, as in fuzz_arguments.py. A call must succeed, or raise a TypeError or ValueError that begins with the name of an
argument of this call. A model is also used once after it is made: what it does not accept, it must say then.
tests/api/test_fuzz.py makes some of these calls; `python tests/soak/fuzz.py` makes many."""

import inspect
import re
import warnings

import fuzz_arguments
import torch
from fuzz_arguments import ODD
from torch import nn

import vae_kernels as vk
from vae_kernels import controls, priors

X, MU = torch.rand(5, 6), torch.randn(5, 2)
TERMS = vk.fused_elbo(X, X, MU, MU, return_terms=True)


class Joined(nn.Linear):
    def forward(self, first, condition):
        if not isinstance(condition, torch.Tensor):
            raise ValueError("condition: this network takes a tensor")
        return super().forward(torch.cat([first, condition], 1))


def encoder():
    return nn.Linear(6, 4)


def vae(**settings):
    return vk.VAE(encoder(), nn.Linear(2, 6), **{"latent_shape": 2, **settings})


def conditional():
    return vk.VAE(Joined(9, 4), Joined(5, 6), latent_shape=2)


def used(model):
    """The model, after a step and a sample."""
    model.loss(X).backward()
    model.sample(2)
    return model


def updated(**call):
    vk.Monitor(1).update(**call)


MIXTURE = priors.MixtureOfGaussians(3, 2)
# name: (the function, a right call of the function, further names that an error of this call may begin with)
CALLS = {
    "VAE": (
        lambda **call: used(vk.VAE(**call)),
        lambda: {
            "encoder": encoder(),
            "decoder": nn.Linear(2, 6),
            "likelihood": "gaussian",
            "obs_logvar": -1.0,
            "prior": (torch.zeros(2), torch.zeros(2)),
            "beta": 0.5,
            "rec_weight": 2.0,
            "free_bits": (0.1, "per_dim"),
            "latent_shape": 2,
            "autoregressive": False,
            "integers": False,
            "logvar_range": (-5, 5),
            "total": None,
            "backend": "torch",
        },
        ("x", "recon", "z", "condition", "backend", "nats", "mu"),
    ),
    "FusedELBO": (
        lambda **call: vk.FusedELBO(**call)(X, X, MU, MU),
        lambda: {
            "likelihood": "gaussian",
            "obs_logvar": 0.5,
            "prior": None,
            "beta": 0.5,
            "rec_weight": 2.0,
            "free_bits": None,
            "reduction": "sum",
            "backend": "auto",
        },
        ("backend", "recon", "nats", "x"),
    ),
    "mlp_vae": (
        lambda **call: vk.mlp_vae(**call),
        lambda: {
            "input_shape": (6,),
            "latent_dim": 2,
            "hidden": (4,),
            "likelihood": "gaussian",
            "outputs": 2,
            "condition_dim": 0,
            "beta": 2.0,
            "prior": None,
            "logvar_range": None,
        },
        ("obs_logvar", "latent_shape"),
    ),
    "conv_vae": (
        lambda **call: vk.conv_vae(**call),
        lambda: {"input_shape": (1, 4, 4), "latent_dim": 2, "channels": (3,), "likelihood": "zinb", "outputs": 3},
        (),
    ),
    "loss": (
        lambda **call: conditional().loss(**call),
        lambda: {
            "x": X,
            "condition": X[:, :3],
            "beta": None,
            "log_total": None,
            "weight": X > 0.5,
            "latent_weight": None,
            "reduction": "mean",
            "generator": torch.Generator(),
            "n_samples": 2,
            "shard": None,
            "return_terms": False,
        },
        (),
    ),
    "encode": (lambda **call: vae().encode(**call), lambda: {"x": X, "condition": None}, ()),
    "decode": (lambda **call: vae().decode(**call), lambda: {"z": MU, "x": None, "condition": None}, ()),
    "reconstruct": (
        lambda **call: vae().reconstruct(**call),
        lambda: {"x": X, "log_total": None, "weight": X > 0.5},
        (),
    ),
    "sample": (
        lambda **call: vae().sample(**call),
        lambda: {"n": 3, "log_total": None, "generator": None, "condition": None},
        (),
    ),
    "iwae": (
        vk.iwae,
        lambda: {
            "decoder": nn.Linear(2, 6),
            "x": X,
            "mu": MU,
            "logvar": MU,
            "n_samples": 3,
            "estimator": "dreg",
            "condition": None,
            "prior": (MU, MU),
            "likelihood": "gaussian",
            "obs_logvar": 0.0,
            "log_total": None,
            "weight": X > 0.5,
            "beta": 1.0,
            "reduction": "none",
            "return_terms": False,
            "generator": None,
            "backend": "auto",
        },
        ("recon", "moments", "kl"),
    ),
    "log_marginal_likelihood": (
        vk.log_marginal_likelihood,
        lambda: {
            "model": vae(),
            "x": X,
            "n_samples": 4,
            "log_total": None,
            "weight": None,
            "chunk": 2,
            "generator": None,
        },
        ("condition",),
    ),
    "diagnose": (
        vk.diagnose,
        lambda: {
            "model": conditional(),
            "data": X,
            "condition": X[:, :3],
            "log_total": None,
            "weight": None,
            "labels": torch.arange(5),
            "classes": ["a", "b", "c", "d", "e"],
            "samples": 5,
            "batch_size": 3,
            "log_p": None,
            "train": None,
            "history": [3.0, 2.0, 1.0],
            "seed": 1,
        },
        (),
    ),
    "Monitor": (vk.Monitor, lambda: {"every": 10, "to": [], "step": 0, "likelihood": "gaussian", "groups": 2}, ()),
    "update": (
        updated,
        lambda: {"terms": TERMS, "mu": MU, "logvar": MU, "logits": X, "weight": X > 0.5, "latent_weight": None},
        (),
    ),
    "StandardNormal": (priors.StandardNormal, lambda: {"shape": 2}, ()),
    "DiagonalGaussian": (priors.DiagonalGaussian, lambda: {"shape": (2, 3)}, ()),
    "ConditionalGaussian": (priors.ConditionalGaussian, lambda: {"network": nn.Linear(2, 4)}, ()),
    "MixtureOfGaussians": (priors.MixtureOfGaussians, lambda: {"n_components": 3, "shape": 2}, ()),
    "VampPrior": (
        priors.VampPrior,
        lambda: {"pseudo_inputs": X, "encoder": encoder(), "shape": 2, "transform": torch.sigmoid},
        (),
    ),
    "FlowPrior": (priors.FlowPrior, lambda: {"flow": nn.Linear(2, 2), "shape": 2}, ()),
    "Prior.sample": (lambda **call: MIXTURE.sample(**call), lambda: {"n": 3, "generator": None}, ()),
    "Prior.log_prob": (lambda **call: MIXTURE.log_prob(**call), lambda: {"z": MU}, ()),
    "LinearWarmup": (controls.LinearWarmup, lambda: {"steps": 5, "start": 0.0, "end": 1.0, "delay": 2}, ()),
    "Cyclical": (
        controls.Cyclical,
        lambda: {"steps": 9, "cycles": 2, "ratio": 0.5, "start": 0.0, "end": 1.0, "delay": 1},
        (),
    ),
    "Constant": (controls.Constant, lambda: {"level": 0.5}, ()),
    "Geco": (controls.Geco, lambda: {"target": 3.0, "speed": 0.1, "momentum": 0.9, "weight": 1.0}, ()),
    "Geco.update": (lambda **call: controls.Geco(3.0, speed=0.1).update(**call), lambda: {"nll": X[:, 0]}, ()),
    "RunningLogvar": (controls.RunningLogvar, lambda: {"momentum": 0.9, "logvar": -1.0}, ()),
    "optimal_logvar": (controls.optimal_logvar, lambda: {"loc": X, "x": X, "over": "batch"}, ()),
    "balance_groups": (controls.balance_groups, lambda: {"kl": MU.abs(), "sizes": [1.0, 2.0]}, ()),
    "grouped_kl": (
        controls.grouped_kl,
        lambda: {"kl": MU.abs(), "free_bits": 0.1, "balance": True, "sizes": [1.0, 2.0]},
        (),
    ),
    "balanced_kl": (controls.balanced_kl, lambda: {"mu": MU, "logvar": MU, "prior": (MU, MU), "alpha": 0.8}, ()),
    "capacity": (controls.capacity, lambda: {"kl": X[:, 0], "nats": 2.0, "unit": "per_sample"}, ()),
    "free_bits": (
        controls.free_bits,
        lambda: {"kl": MU.abs(), "nats": 2.0, "unit": "per_group", "groups": (1, 1)},
        (),
    ),
    "kl_per_dim": (controls.kl_per_dim, lambda: {"mu": MU, "logvar": MU, "prior": None}, ()),
}

MORE = (  # values that users give to such arguments
    *(lambda v=v: v for v in (784, "gaussian", "Normal", "zinb", (3, 0), [0.5, "per_dim"], True, 2.5, -1, 0)),
    *(lambda: X.double(), lambda: X.half(), lambda: X.numpy(), lambda: (X, X[:, 0]), lambda: [X, X], lambda: X[0]),
    *(lambda: torch.distributions.Normal(0.0, 1.0), lambda: nn.Linear, lambda: vk.VAE, lambda: nn.Linear(3, 3)),
    *(lambda: MIXTURE, lambda: priors.ConditionalGaussian(nn.Linear(3, 4)), lambda: controls.Constant(0.5)),
    *(lambda: X[:, :3], lambda: X[:3], lambda: (X * 255).to(torch.uint8), lambda: X > 0.5, lambda: {"logits": X}),
    *(lambda: torch.tensor(0.5), lambda: torch.full((2,), 0.5), lambda: priors.DiagonalGaussian(2), lambda: abs),
)


def one(rng):
    """Makes one call, and gives (the name of the function, what is wrong with its answer)."""
    name = rng.choice(list(CALLS))
    function, arguments, others = CALLS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call = arguments()
        spoiled = rng.choice((0, 1, 1, 1, 2, 3))
        for argument in rng.sample(sorted(call), min(spoiled, len(call))):
            call[argument] = rng.choice(MORE if rng.random() < 0.6 else ODD)()
        return name, _wrong(function, call, {*call, *others}, spoiled)


def _wrong(function, call, names, spoiled):
    try:
        function(**call)
    except (TypeError, ValueError) as error:
        named = re.match(r"[a-z_]+", str(error))
        told = {k: v for k, v in call.items() if not isinstance(v, torch.Tensor)}
        if not spoiled:
            return f"a right call fails: {error}"
        return None if named and named[0] in names else f"{type(error).__name__} names nothing: {error}; {told}"
    except Exception as error:
        return f"{type(error).__name__}: {error}; {call}"
    return None


def run(seed, count):
    """As fuzz_arguments.run."""
    return fuzz_arguments.run(seed, count, one)


def all_arguments():
    """{function: its arguments that no call above has}."""
    missing = {}
    for name, (function, arguments, _) in CALLS.items():
        of = {"VAE": vk.VAE, "FusedELBO": vk.FusedELBO, "mlp_vae": vk.mlp_vae, "conv_vae": vk.conv_vae}
        parameters = inspect.signature(of.get(name, function)).parameters.values()
        names = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        missing[name] = names - set(arguments())
    return missing
