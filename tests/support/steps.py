"""One step of everything, for the tests of processes, threads and repeated runs. `python steps.py FILE` saves its
results.

The inputs depend only on the seed, so every process and every thread must get the same bits.
"""

import sys

import cases
import torch
from oracles import ORACLES
from test_objective import outcome, posterior

import vae_kernels as vk

SHAPE = 67, 1031  # several tasks, so several threads work
LARGE = 9, 40_001  # a result of more than a megabyte, so its memory comes from the pool


def step(seed, likelihoods=("bernoulli", "gaussian", "zinb"), shape=SHAPE, backend="cpu"):
    """{name: tensor}: the terms and gradients of these likelihoods, of a sample and of the categorical likelihood."""
    found = {}
    g = torch.Generator().manual_seed(seed)
    for likelihood in likelihoods:
        for dtypes in (cases.DTYPES[0], cases.DTYPES[1]):
            x, params = cases.draw(likelihood, shape, dtypes, seed=seed)
            shared = [p[0] for p in params[1:2]]  # one row for all samples, so its gradient sums over the batch
            params = [params[0], *shared, *params[2:]]
            latent = posterior(shape[0], (301,), dtypes[0], seed=seed)
            results = outcome(backend, likelihood, x, params, latent, "none")
            found |= {f"{likelihood} {dtypes[0]} {name}": t for name, t in results.items() if t is not None}
    inputs = [t.requires_grad_() for t in posterior(shape[0], (shape[1],), torch.float32, seed=seed)]
    z, kl = vk.sample_kl(*inputs, generator=g, backend=backend)
    logits = torch.randn(shape[0], 9, 113, generator=g, requires_grad=True)
    x = torch.randint(0, 9, (shape[0], 113), generator=g)
    nll = vk.nll(logits, x, likelihood="categorical", backend=backend)
    grads = torch.autograd.grad([z, kl, nll], [*inputs, logits], [z.detach(), kl.detach(), nll.detach()])
    names = "z", "kl of z", "nll of levels", "gradient of mu", "gradient of logvar", "gradient of levels"
    return {name: t.detach() for name, t in (found | dict(zip(names, (z, kl, nll, *grads), strict=True))).items()}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert cases.same(ours[name], value), name


if __name__ == "__main__":
    torch.save(step(0, tuple(ORACLES)), sys.argv[1])
