"""The distributions in all their forms: how the parameters of a formula become the arguments of each form, the class in
torch.distributions with its arguments, and draws of the parameters. All tensors are float64."""

import itertools

import numpy as np
import torch
import torch.distributions as td
from oracles import ORACLES

import vae_kernels as vk
from vae_kernels.formulas import ALL, PIXEL

NO_CHECKS = {"validate_args": False}
NAMES = [name for name in vk.distributions.BY_LIKELIHOOD if name not in PIXEL]  # an event is all channels of a pixel


def of_scale(log_name, half=1.0):
    return [
        lambda loc, log: {"loc": loc, log_name: log},
        lambda loc, log: {"loc": loc, "scale": torch.exp(half * log)},
    ]


def of_logits():
    return [lambda logits: {"logits": logits}, lambda logits: {"probs": torch.sigmoid(logits)}]


def of_counts():
    return [
        lambda a, t: {"log_mean": a, "log_inverse_dispersion": t},
        lambda a, t: {"mu": torch.exp(a), "theta": torch.exp(t)},
        lambda a, t: {"total_count": torch.exp(t), "logits": a - t},
        lambda a, t: {"total_count": torch.exp(t), "probs": torch.sigmoid(a - t)},
    ]


def of_dropout():
    return [
        lambda d: {"dropout_logits": d},
        lambda d: {"zi_logits": d},
        lambda d: {"gate_logits": d},
        lambda d: {"gate": torch.sigmoid(d)},
    ]


# likelihood: the functions that give the arguments of each form; the first form is that of the formula
FORMS = {
    "bernoulli": of_logits(),
    "gaussian": of_scale("logvar", 0.5),
    "poisson": [lambda a: {"log_rate": a}, lambda a: {"rate": torch.exp(a)}],
    "negative_binomial": of_counts(),
    "zinb": [
        lambda a, t, d, counts=counts, dropout=dropout: counts(a, t) | dropout(d)
        for counts, dropout in zip(of_counts(), of_dropout(), strict=True)
    ],
    "laplace": of_scale("logscale"),
    "continuous_bernoulli": of_logits(),
    "discretized_logistic": of_scale("logscale"),
    "bernoulli_product": [lambda a, b, c: {"logits": a, "sample_logits": b, "feature_logits": c}],
    "negative_binomial_mixture": [
        lambda a, b, t, d, means=means, logits=logits: means(a, b, t) | logits(d)
        for means in (
            lambda a, b, t: {"background_log_mean": a, "foreground_log_mean": b, "log_inverse_dispersion": t},
            lambda a, b, t: {"mu1": torch.exp(a), "mu2": torch.exp(b), "theta1": torch.exp(t)},
        )
        for logits in (lambda d: {"mixture_logits": d}, lambda d: {"mixture_probs": torch.sigmoid(d)})
    ],
    "categorical": [lambda logits: {"logits": logits}, lambda logits: {"probs": torch.softmax(logits, -1)}],
}
EVERY = [(name, i) for name in NAMES for i in range(len(FORMS[name]))]
HAS_TORCH = [name for name in NAMES if vk.distributions.BY_LIKELIHOOD[name].torch_class]

# the arguments of the class in torch.distributions
TORCH = {
    "bernoulli": lambda logits: td.Bernoulli(logits=logits),
    "gaussian": lambda loc, logvar: td.Normal(loc, torch.exp(0.5 * logvar)),
    "poisson": lambda a: td.Poisson(torch.exp(a)),
    "negative_binomial": lambda a, t: td.NegativeBinomial(torch.exp(t), logits=a - t),
    "laplace": lambda loc, logscale: td.Laplace(loc, torch.exp(logscale)),
    "continuous_bernoulli": lambda logits: td.ContinuousBernoulli(logits=logits),
    "categorical": lambda logits: td.Categorical(logits=logits),
}

# values outside of the support
OUTSIDE = {
    "bernoulli": [0.5, -1.0, 2.0],
    "gaussian": [torch.nan],
    "poisson": [-1.0, 0.5],
    "negative_binomial": [-1.0, 0.5],
    "zinb": [-1.0, 0.5],
    "laplace": [torch.nan],
    "continuous_bernoulli": [-0.1, 1.1],
    "discretized_logistic": [-1 / 255, 0.5, 256 / 255],
    "bernoulli_product": [0.5, -1.0, 2.0],
    "negative_binomial_mixture": [-1.0, 0.5],
    "categorical": [-1, 5],
}


def params_of(name, shape, seed=0):
    """(x, params) of moderate size, without edges: no probability of them rounds to 0 or 1."""
    rng = np.random.default_rng(seed)
    if name == "categorical":
        logits = torch.tensor(rng.normal(scale=2, size=(*shape, 5)))
        return torch.tensor(rng.integers(0, 5, size=shape)), (logits,)
    n = int(np.prod(shape))
    x, params = ORACLES[name]["sample_params"](rng, (100 + n,))  # the edges are the first 100 at most
    x, *params = (torch.tensor(t[100:]).view(shape) for t in (x, *params))
    return x.round() if name.startswith("bernoulli") else x, tuple(params)


def edges_of(name, n=200):
    """(x, params) of numpy, edges included."""
    return ORACLES[name]["sample_params"](np.random.default_rng(1), (n,))


def reference(name, x, params, shapes):
    """log p by the formula in plain PyTorch, with everything expanded. shapes: the batch shapes of the parameters."""
    shape = torch.broadcast_shapes(x.shape, *shapes)
    params = [p.expand(*shape, *p.shape[len(s) :]) for p, s in zip(params, shapes, strict=True)]
    if name == "categorical":
        params = [params[0].movedim(-1, 1)]
    return -ALL[name].nll(x.expand(shape), *params)


def make(name, params, form=0, **settings):
    return vk.distributions.BY_LIKELIHOOD[name](**FORMS[name][form](*params), **settings)


def of_shape(name, shape, form=0, dtype=torch.float64, **settings):
    """(x, distribution) of moderate parameters."""
    x, params = params_of(name, shape)
    x = x if name == "categorical" else x.to(dtype)
    return x, make(name, tuple(p.to(dtype) for p in params), form, **settings)


def broadcasts(name, small, large):
    """Pairs of parameters' batch shapes: each parameter in turn has the small shape, the others have the large one."""
    count = len(params_of(name, (1,))[1])
    return [s for s in itertools.product((small, large), repeat=count) if large in s or count == 1]
