"""n_samples= of fused_elbo, nll, FusedELBO and VAE.loss, and the draws that iwae tells of: against K calls, against
torch.distributions, and against the importance weights by hand."""

import math

import pytest
import torch
from known import BACKENDS, compiled
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import Normal

import vae_kernels as vk

close = torch.testing.assert_close
K, B, D, L = 3, 4, 5, 2
V, T = ValueError, TypeError


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


X, RECON, MU, LOGVAR = torch.sigmoid(randn(B, D)), randn(K, B, D, seed=1), randn(B, L, seed=2), randn(B, L, seed=3)
LATENTS = {
    "posterior": {"mu": MU, "logvar": LOGVAR},
    "prior": {"mu": MU, "logvar": LOGVAR, "prior": (randn(L), randn(B, L))},
    "moments": {"moments": torch.cat([MU, LOGVAR], 1)},
    "kl": {"kl": MU**2},
    "kl of samples": {"kl": MU[:, 0] ** 2},
    "floor": {"mu": MU, "logvar": LOGVAR, "free_bits": vk.FreeBits(0.7, "per_dim"), "beta": 0.5},
    "floor of samples": {"mu": MU, "logvar": LOGVAR, "free_bits": vk.FreeBits(2.0, "per_sample")},
    "weights": {
        "mu": MU,
        "logvar": LOGVAR,
        "latent_weight": randn(L) > 0,
        "weight": randn(B, D) > 0,
        "beta": torch.tensor([0.5, 2.0], dtype=torch.float64),
        "rec_weight": torch.tensor(3.0, dtype=torch.float64),
    },
}


def leaves_of(settings):
    """The settings with leaves in place of their floating tensors, and the leaves."""
    leaves = []

    def leaf(t):
        if isinstance(t, torch.Tensor) and t.is_floating_point():
            leaves.append(t.detach().clone().requires_grad_())
            return leaves[-1]
        return tuple(leaf(p) for p in t) if type(t) is tuple else t

    return {name: leaf(value) for name, value in settings.items()}, leaves


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "triton"])
def test_the_loss_is_the_mean_of_k_calls(backend, latent, reduction):
    """Values, terms and all gradients, in float64."""

    def run(calls):
        settings, leaves = leaves_of({"recon": RECON, **LATENTS[latent]})
        recon = settings.pop("recon")
        shared = {**settings, "reduction": reduction, "return_terms": True, "backend": backend}
        found = calls(recon, shared)
        incoming = randn(*found[0].shape, seed=8)
        return [t.detach() for t in found], torch.autograd.grad(found[0], leaves, incoming)

    def at_once(recon, shared):
        terms = vk.fused_elbo(recon, X, n_samples=K, **shared)
        assert not terms.nll.requires_grad and terms.nll.shape == (B,)
        return [t for t in (terms.loss, terms.nll, terms.kl, terms.kl_per_dim) if t is not None]

    def one_by_one(recon, shared):
        each = [vk.fused_elbo(r, X, **shared) for r in recon]
        of_each = [[t for t in (e.loss, e.nll, e.kl, e.kl_per_dim) if t is not None] for e in each]
        return [torch.stack(parts).mean(0) for parts in zip(*of_each, strict=True)]

    for ours, theirs in zip(run(at_once), run(one_by_one), strict=True):
        close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "triton"])
def test_without_terms_the_loss_is_the_same(backend):
    for reduction in ("none", "mean", "sum"):
        settings = {"kl": MU[:, 0] ** 2, "n_samples": K, "reduction": reduction, "backend": backend}
        with_terms = vk.fused_elbo(RECON, X, return_terms=True, **settings).loss
        close(vk.fused_elbo(RECON, X, **settings), with_terms, rtol=1e-13, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nll(backend):
    """[K, B] against torch.distributions; "mean" is over both, "sum" is over the batch, of the mean over the draws."""
    loc, logvar = randn(K, B, D, seed=4), randn(D, seed=5)
    truth = -Normal(loc, torch.exp(logvar / 2)).log_prob(X).sum(-1)
    settings = {"likelihood": "gaussian", "n_samples": K, "backend": backend}
    close(vk.nll((loc, logvar), X, **settings), truth)
    close(vk.nll((loc, logvar), X, reduction="mean", **settings), truth.mean())
    close(vk.nll((loc, logvar), X, reduction="sum", **settings), truth.mean(0).sum())


FORMS = [(), (D,), (1, D), (B, 1), (B, D), (1, 1, D), (K, 1, 1), (1, B, 1), (K, B, 1), (K, 1, D), (K, B, D)]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("how", ["recon", "obs_logvar"])
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "triton"])
def test_other_parameters_broadcast_to_all_draws(backend, how, form):
    loc, logvar = randn(K, B, D, seed=4).requires_grad_(), randn(*form, seed=5).requires_grad_()
    given = {"recon": (loc, logvar)} if how == "recon" else {"recon": loc, "obs_logvar": logvar}
    ours = vk.nll(x=X, likelihood="gaussian", n_samples=K, backend=backend, **given)
    truth = -Normal(loc, torch.exp(logvar / 2)).log_prob(X).sum(-1)
    close(ours, truth)
    incoming = randn(K, B, seed=6)
    close(torch.autograd.grad(ours, (loc, logvar), incoming), torch.autograd.grad(truth, (loc, logvar), incoming))


def test_log_total_has_the_gradient_of_all_draws():
    x, logits, total = (X * 9).round(), randn(K, B, D).requires_grad_(), randn(B, seed=4).requires_grad_()
    ours = vk.nll(logits, x, likelihood="poisson", log_total=total, n_samples=K)
    truth = torch.stack([vk.nll(r, x, likelihood="poisson", log_total=total) for r in logits])
    close(ours, truth)
    incoming = randn(K, B, seed=6)
    close(torch.autograd.grad(ours, (logits, total), incoming), torch.autograd.grad(truth, (logits, total), incoming))


def test_derivatives_of_x_and_of_the_second_order():
    """These come from the formulas in plain PyTorch, also where the kernels of the CPU computed the value."""
    x, weight = X.clone().requires_grad_(), randn(B, D).exp().requires_grad_()
    recon = RECON.clone().requires_grad_()
    function = lambda x, recon, weight: vk.nll(recon, x, weight=weight, n_samples=K)  # noqa: E731
    assert gradcheck(function, (x, recon, weight)) and gradgradcheck(function, (x, recon, weight))


def test_transforms():
    each = torch.func.vmap(lambda x, r: vk.nll(r, x, n_samples=K))(X[:, None], RECON.transpose(0, 1)[:, :, None])
    close(each[..., 0].t(), vk.nll(RECON, X, n_samples=K))


@pytest.mark.full  # the compiler takes half a minute
@compiled
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_compile(reduction):
    def step(recon, x, mu, logvar):
        return vk.fused_elbo(recon, x, mu, logvar, n_samples=K, reduction=reduction)

    made = torch.compile(step, fullgraph=True)
    for batch in (3, 4, 5):
        recon, mu = randn(K, batch, D).requires_grad_(), randn(batch, L).requires_grad_()
        args = recon, X[:1].expand(batch, D).contiguous(), mu, mu.detach()
        results = [f(*args).sum() for f in (made, step)]
        close(*results)
        close(*(torch.autograd.grad(r, (recon, mu)) for r in results))


ERRORS = [
    (lambda: vk.nll(RECON, X, n_samples=0), V, "n_samples: got 0, expected None or an integer >= 1"),
    (lambda: vk.nll(RECON, X, n_samples=True), V, "n_samples: got True"),
    (lambda: vk.nll(RECON, X, n_samples=2), V, r"recon: got shape (3, 4, 5), expected (2, 4, 5): n_samples=2 draws"),
    (lambda: vk.nll(RECON, X), V, "for 3 draws of z for each x, give n_samples=3"),
    (lambda: vk.nll(RECON.flatten(0, 1), X, n_samples=K), V, "recon.unflatten(0, (3, 4)) has this shape"),
    (lambda: vk.nll(RECON[:, :3], X, n_samples=K), V, "recon: got shape (3, 3, 5), expected (3, 4, 5)"),
    (lambda: vk.nll((RECON, randn(2, B, D)), X, likelihood="gaussian", n_samples=K), V,
     "recon[1] (logvar): got shape (2, 4)"),
    (lambda: vk.nll(RECON, X, likelihood="gaussian", obs_logvar=randn(2, B, D), n_samples=K), V, "obs_logvar: got"),
    (lambda: vk.nll(RECON, X, likelihood="gaussian", obs_logvar=randn(1, K, B, D), n_samples=K), V, "obs_logvar: got"),
    (lambda: vk.nll(RECON, X[0, 0], n_samples=K), V, "x: got a 0-d tensor"),
    (lambda: vk.nll(RECON, None, n_samples=K), T, "x: got NoneType"),
    (lambda: vk.nll([[1.0]], X, n_samples=K), T, "recon: got list"),
    (lambda: vk.nll(randn(K, B, 3, D), X.long(), likelihood="categorical", n_samples=2), V,
     "recon: got shape (3, 4, 3, 5), expected (2, 4, ...)"),
    (lambda: vk.fused_elbo(RECON, X, kl=randn(K, B), n_samples=K), V,
     "kl: got shape (3, 4), expected the batch of x, 4"),
    (lambda: vk.fused_elbo(RECON, X, randn(K, B, L), randn(K, B, L), n_samples=K), V, "mu: got shape (3, 4, 2)"),
    (lambda: vk.nll(RECON, X, weight=randn(K, B, D) > 0, n_samples=K), V, "weight: got shape (3, 4, 5)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), ERRORS, ids=[text for *_, text in ERRORS])
def test_errors(call, error, text):
    with pytest.raises(error) as found:
        call()
    assert text in str(found.value)


# ---------------------------------------------------------------- iwae


def test_iwae_tells_of_its_draws():
    """log_weights and effective_samples, by hand, for beta and a mask too."""
    decoder, beta, mask = nn.Linear(L, D, dtype=torch.float64), 0.3, randn(B, D) > 0
    settings = {"n_samples": 7, "beta": beta, "weight": mask, "reduction": "none"}
    settings |= {"likelihood": "gaussian", "obs_logvar": -0.5}
    draw = lambda: torch.Generator().manual_seed(5)  # noqa: E731
    terms = vk.iwae(decoder, X, MU, LOGVAR, return_terms=True, generator=draw(), **settings)
    z = vk.reparameterize(MU, LOGVAR, n_samples=7, generator=draw())
    log_p_x = (Normal(decoder(z), math.exp(-0.25)).log_prob(X) * mask).sum(-1)
    ratio = (Normal(0, 1).log_prob(z) - Normal(MU, torch.exp(LOGVAR / 2)).log_prob(z)).sum(-1)
    log_w = (log_p_x + beta * ratio).detach()
    close(terms.log_weights, log_w)
    close(terms.effective_samples, log_w.exp().sum(0) ** 2 / (2 * log_w).exp().sum(0))
    close(terms.nll, -log_p_x.mean(0).detach())
    close(terms.kl, -ratio.mean(0).detach())
    close(terms.loss, math.log(7) - log_w.logsumexp(0), check_dtype=True)
    assert not any(t.requires_grad for t in (terms.nll, terms.kl, terms.log_weights, terms.effective_samples))
    assert (terms.effective_samples >= 1).all() and (terms.effective_samples <= 7 + 1e-9).all()
    assert terms.loss.requires_grad and terms.kl_per_dim is None


def test_the_terms_of_iwae_pass_through_pytrees():
    terms = vk.iwae(nn.Linear(L, D).double(), X, MU, LOGVAR, n_samples=2, return_terms=True)
    twice = torch.utils._pytree.tree_map(lambda t: 2 * t, terms)
    close(twice.log_weights, 2 * terms.log_weights)
    close(twice.effective_samples, 2 * terms.effective_samples)
    plain = vk.fused_elbo(RECON[0], X, MU, LOGVAR, return_terms=True)
    assert plain.log_weights is None and plain.effective_samples is None


@pytest.mark.parametrize("of", ["obs_logvar", "weight", "log_total"])
def test_iwae_takes_one_number_for_each_sample(of):
    """What belongs to a sample of x belongs to all of its draws."""
    decoder, x = nn.Linear(L, D, dtype=torch.float64), (X * 9).round()
    likelihood = "poisson" if of == "log_total" else "gaussian"
    value = {"obs_logvar": randn(B, 1), "weight": randn(B, 1).exp(), "log_total": randn(B)}[of]
    draw = lambda: torch.Generator().manual_seed(5)  # noqa: E731
    terms = vk.iwae(decoder, x, MU, LOGVAR, n_samples=K, likelihood=likelihood, generator=draw(), return_terms=True,
                    **{of: value})  # fmt: skip
    z = vk.reparameterize(MU, LOGVAR, n_samples=K, generator=draw())
    each = torch.stack([vk.nll(decoder(one), x, likelihood=likelihood, **{of: value}) for one in z])
    close(terms.nll, each.mean(0).detach())


# ---------------------------------------------------------------- modules


def test_the_module_passes_n_samples_on():
    elbo = vk.FusedELBO(beta=0.5)
    close(elbo(RECON, X, MU, LOGVAR, n_samples=K), vk.fused_elbo(RECON, X, MU, LOGVAR, beta=0.5, n_samples=K))


class Shared(nn.Module):
    """A decoder of a mean for each sample, and of one variance for each feature."""

    def __init__(self):
        super().__init__()
        self.loc, self.logvar = nn.Linear(L, D), nn.Parameter(torch.randn(D))

    def forward(self, z):
        return {"loc": self.loc(z), "logvar": self.logvar}


@pytest.mark.parametrize("terms", [False, True])
def test_the_loss_of_a_vae(terms):
    torch.manual_seed(0)
    vae = vk.VAE(nn.Linear(D, 2 * L), Shared(), likelihood="gaussian").double()
    draw = lambda: torch.Generator().manual_seed(5)  # noqa: E731
    loss = vae.loss(X, n_samples=K, generator=draw(), return_terms=terms)
    mu, logvar = vae.encode(X)
    z = vk.reparameterize(mu, logvar, n_samples=K, generator=draw())
    each = [vk.fused_elbo(vae.decoder(one), X, mu, logvar, likelihood="gaussian") for one in z]
    close(loss.loss if terms else loss, torch.stack(each).mean())


def test_the_loss_of_a_conditional_and_of_an_autoregressive_vae():
    class Joined(nn.Linear):
        def forward(self, *parts):
            return super().forward(torch.cat(parts, 1))

    torch.manual_seed(0)
    c, draw = randn(B, 2), lambda: torch.Generator().manual_seed(5)
    vae = vk.VAE(Joined(D + 2, 2 * L), Joined(L + 2, D)).double()
    mu, logvar = vae.encode(X, condition=c)
    z = vk.reparameterize(mu, logvar, n_samples=K, generator=draw())
    each = [vk.fused_elbo(vae.decoder(one, c), X, mu, logvar) for one in z]
    close(vae.loss(X, condition=c, n_samples=K, generator=draw()), torch.stack(each).mean())
    vae = vk.VAE(nn.Linear(D, 2 * L), Joined(L + D, D), autoregressive=True).double()
    mu, logvar = vae.encode(X)
    z = vk.reparameterize(mu, logvar, n_samples=K, generator=draw())
    each = [vk.fused_elbo(vae.decoder(one, X), X, mu, logvar) for one in z]
    close(vae.loss(X, n_samples=K, generator=draw()), torch.stack(each).mean())
