"""Calls of the product that make a kernel do all that it can: for `mutate`."""

import tables
import torch

import vae_kernels as vk


def cases(backend, name):
    """{case: a function that gives the results}. name: the product's name of the backend."""
    torch.manual_seed(0)
    if backend == "triton":
        return _triton(name)
    return {
        "elbo element": _elbo(name, [(130, 1031)] * 2), "elbo row": _elbo(name, [(130, 1031), (1031,)]),
        "elbo number": _elbo(name, [(130, 1031), ()]), "levels": _levels(name, backward=True),
        "sample": _sample(name, 40, 300), "mixture": _mixture(name),
        "pixels": _pixels(name, 3), "pixels grey": _pixels(name, 1), "table": _table(name),
        "many rows": _elbo(name, [(40000, 7)] * 2, (40000, 7), 3),
    }  # fmt: skip


def _triton(name):
    x, logits = torch.rand(20, 2100), torch.randn(20, 2100, requires_grad=True)
    mu, logvar = (torch.randn(20, 300, requires_grad=True) for _ in range(2))

    def elbo(reduction):
        terms = vk.fused_elbo(logits, x, mu, logvar, reduction=reduction, return_terms=True, backend=name)
        return [terms.loss, terms.nll, terms.kl, terms.kl_per_dim]

    return {
        "elbo none": lambda: elbo("none"), "elbo mean": lambda: elbo("mean"),
        "levels": _levels(name, backward=False), "sample": _sample(name, 20, 1200),
        "pixels": _pixels(name, 1), "table": _table(name),
    }  # fmt: skip


def _elbo(name, params, shape=(130, 1031), dims=300):
    x, params = torch.rand(shape), tuple(torch.randn(s).requires_grad_() for s in params)
    latent = [torch.randn(shape[0], dims).requires_grad_() for _ in range(2)]

    def run():
        t = vk.fused_elbo(params, x, *latent, likelihood="gaussian", return_terms=True, backend=name)
        return [t.loss, t.nll, t.kl, t.kl_per_dim, *torch.autograd.grad(t.loss, [*params, *latent])]

    return run


def _levels(name, backward):
    logits, x = torch.randn(3, 300, 9, requires_grad=True), torch.randint(0, 300, (3, 9))

    def run():
        nll = vk.nll(logits, x, likelihood="categorical", backend=name)
        return [nll, *torch.autograd.grad(nll.sum(), logits)] if backward else [nll]

    return run


def _pixels(name, channels):
    """The loss of each sample, one of which has another incoming gradient than the forward pass expects."""
    likelihood = vk.likelihoods.DiscretizedLogisticMixture(components=2, channels=channels)
    packed = torch.randn(3, 2 * (10 if channels == 3 else 3), 130, requires_grad=True)
    x, weight = torch.randint(0, 256, (3, channels, 130), dtype=torch.uint8), torch.rand(3, 1, 130) > 0.3

    def run():
        nll = vk.nll(packed, x, likelihood=likelihood, weight=weight, backend=name)
        return [nll, *torch.autograd.grad(nll.mean() + nll[1], packed)]

    return run


def _sample(name, rows, dims):
    moments = [torch.randn(rows, dims, requires_grad=True) for _ in range(2)]
    return lambda: list(vk.sample_kl(*moments, generator=torch.Generator().manual_seed(1), backend=name))


def _table(name):
    likelihood, x, params = tables.draw(tables.TABLES["all"], 300)

    def run():
        return tables.outcome(likelihood, x, params, torch.linspace(1, 2, 300), backend=name)

    return run


def _mixture(name):
    tensors = [torch.randn(s).requires_grad_() for s in ((130, 5), (200, 5), (200, 5), (200,))]

    def run():
        log_p = vk.mixture_log_prob(*tensors, backend=name)
        return [log_p, *torch.autograd.grad(log_p.sum(), tensors)]

    return run
