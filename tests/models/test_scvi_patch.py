"""vae_kernels.integrations.scvi.patch: log p is that of scvi-tools' formulas with eps = 0, models train alike, and
after remove() nothing of the patch is left."""

import sys
import warnings

import numpy as np
import pytest
import torch

scvi = pytest.importorskip("scvi", reason='scvi-tools: not installed: pip install "vae-kernels[scvi]"')
import anndata  # noqa: E402
from scvi.distributions import _negative_binomial as theirs  # noqa: E402

import vae_kernels as vk  # noqa: E402
from vae_kernels.formulas import negative_binomial_mixture as FORMULA  # noqa: E402
from vae_kernels.integrations.scvi import log_probs, patch  # noqa: E402

EPS = 1e-300  # of scvi-tools' formulas; with 0, log_zinb_positive takes no x for 0
FUNCTIONS = ("log_nb_positive", "log_zinb_positive", "log_mixture_nb")


def held():
    """Every function and method of scvi-tools that the patch may replace."""
    modules = {name: m for name, m in sys.modules.items() if name == "scvi" or name.startswith("scvi.")}
    of_modules = {(name, f): vars(m)[f] for name, m in modules.items() for f in FUNCTIONS if f in vars(m)}
    return of_modules | {"Poisson": scvi.distributions.Poisson.log_prob}


def draws(*shapes, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=g, dtype=torch.float64).exp().requires_grad_() for s in shapes]


def counts(shape=(6, 40)):
    return torch.poisson(torch.full(shape, 2.0, dtype=torch.float64), generator=torch.Generator().manual_seed(1))


CALLS = {
    "nb": lambda f, x, a, b, t, u, w: f.log_nb_positive(x, a, t, eps=EPS),
    "nb of one theta a gene": lambda f, x, a, b, t, u, w: f.log_nb_positive(x, a, t[0], eps=EPS),
    "zinb": lambda f, x, a, b, t, u, w: f.log_zinb_positive(x, a, t, w.log(), eps=EPS),
    "mixture": lambda f, x, a, b, t, u, w: f.log_mixture_nb(x, a, b, t, None, w.log(), eps=EPS),
    "mixture of two thetas": lambda f, x, a, b, t, u, w: f.log_mixture_nb(x, a, b, t, u, w.log(), eps=EPS),
    "poisson": lambda f, x, a, b, t, u, w: scvi.distributions.Poisson(a).log_prob(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients_are_those_without_eps(name, monkeypatch):
    """scvi-tools' mixture of two dispersions passes no eps on, so its eps is 1e-8 there."""
    x, params = counts(), draws(*[(6, 40)] * 5)
    g = torch.randn(6, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = []
    for patched in (False, True):
        taken = patch() if patched else None
        value = CALLS[name](theirs, x, *params)
        grads = torch.autograd.grad(value, params, g, allow_unused=True)
        found.append([value, *(t for t in grads if t is not None)])
        if taken:
            taken.remove()
    rtol = 1e-5 if name == "mixture of two thetas" else 1e-9
    for ours, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=rtol, atol=rtol)


def test_the_mixture_of_proteins_without_a_patch():
    """vk.log_prob takes the logarithms of the parameters, with theta of each protein, and the logits as they are."""
    x, (a, b, t, w) = counts(), draws((6, 40), (6, 40), (40,), (6, 40))
    expected = theirs.log_mixture_nb(x, a, b, t, None, w.log(), eps=0)
    recon = dict(zip(FORMULA.PARAMETERS, (a.log(), b.log(), t.log(), w.log()), strict=True))
    ours = vk.log_prob(recon, x, likelihood="negative_binomial_mixture")
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    g = torch.randn(6, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    grads = [torch.autograd.grad(value, (a, b, t, w), g) for value in (ours, expected)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)


def test_a_mean_of_0_is_finite():
    mu = torch.zeros(2, 3, requires_grad=True)
    with patch():
        log_p = theirs.log_nb_positive(torch.tensor([[0.0, 1, 2]]).expand(2, 3), mu, torch.ones(3))
    log_p.sum().backward()
    assert log_p.isfinite().all() and mu.grad.isfinite().all() and (log_p[:, 0] == 0).all()


def test_everything_is_put_back():
    before = held()
    patched = patch()
    assert "scvi.distributions._negative_binomial.log_nb_positive" in patched.replaced
    assert "scvi.distributions.Poisson.log_prob" in patched.replaced
    assert all(held()[name] is not function for name, function in before.items() if name in held())
    assert theirs.log_nb_positive.__name__ == "log_nb_positive" and "replaced: scvi." in repr(patched)
    with pytest.raises(RuntimeError, match="patched already"):
        patch()
    patched.remove()
    assert held() == before and repr(patched) == "patch(removed)"
    with pytest.raises(RuntimeError, match="removed already"):
        patched.remove()
    with pytest.raises(ZeroDivisionError), patch():
        assert held() != before
        raise ZeroDivisionError
    assert held() == before


def test_only_scvi_tools_changes():
    classes = torch.distributions.Poisson, torch.distributions.NegativeBinomial
    before = [dict(vars(made)) for made in classes]
    with patch():
        assert [dict(vars(made)) for made in classes] == before


def test_a_wrong_backend_and_another_version(monkeypatch):
    with pytest.raises(ValueError, match="backend: got 'gpu'"):
        patch(backend="gpu")
    monkeypatch.setattr(theirs, "log_nb_positive", lambda x, mean: x)
    with pytest.raises(ImportError, match=r"expected a function log_nb_positive\('x', 'mu', 'theta'\)"):
        patch()


def test_arrays_of_other_libraries_are_left_to_scvi_tools():
    with patch():
        value = theirs.log_nb_positive(
            np.ones(3), np.ones(3), np.ones(3), log_fn=np.log, lgamma_fn=lambda t: torch.lgamma(torch.tensor(t)).numpy()
        )
    assert isinstance(value, np.ndarray)


def cells():
    rng = np.random.default_rng(0)
    x = rng.poisson(rng.gamma(0.7, 6.0, size=(60, 30))).astype(np.float32)
    obs = {"batch": (np.arange(60) % 2).astype(str), "label": (np.arange(60) % 3).astype(str)}
    adata = anndata.AnnData(x, obs=obs)
    adata.obsm["protein"] = rng.poisson(4.0, size=(60, 5)).astype(np.float32)
    return adata


def scanvi(adata):
    scvi.model.SCANVI.setup_anndata(adata, labels_key="label", unlabeled_category="?", batch_key="batch")
    return scvi.model.SCANVI(adata, n_hidden=16, n_latent=3)


def totalvi(adata):
    scvi.model.TOTALVI.setup_anndata(adata, protein_expression_obsm_key="protein", batch_key="batch")
    return scvi.model.TOTALVI(adata, n_latent=3)


def of(name, **settings):
    def make(adata):
        model = getattr(scvi.model, name)
        model.setup_anndata(adata, batch_key="batch", **({"labels_key": "label"} if name == "CondSCVI" else {}))
        return model(adata, **settings)

    return make


QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
MODELS = {
    "SCVI": of("SCVI", n_hidden=16, n_latent=3),
    "LinearSCVI": of("LinearSCVI", n_hidden=16, n_latent=3),
    "AUTOZI": of("AUTOZI", n_hidden=16, n_latent=3),
    "SCANVI": scanvi,
    "TOTALVI": totalvi,
}


@pytest.mark.full
@pytest.mark.parametrize("name", MODELS)
def test_models_train_alike(name, monkeypatch):
    """The same seed gives the same noise, so the losses of two epochs differ by scvi-tools' eps and rounding only."""
    losses, calls = [], []
    monkeypatch.setattr(log_probs, "log_prob", lambda *a, **k: calls.append(k["likelihood"]) or vk.log_prob(*a, **k))
    for patched in (False, True):
        scvi.settings.seed = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, taken = MODELS[name](cells()), patch() if patched else None
            try:
                model.train(2, batch_size=20, train_size=0.8, early_stopping=False, **QUIET)
            finally:
                if taken:
                    taken.remove()
        losses.append(model.history["elbo_train"].to_numpy(dtype=float).ravel())
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    assert len(calls) >= 2 * 3  # epochs and batches


def test_the_kernels_are_used(monkeypatch):
    calls = []
    monkeypatch.setattr(log_probs, "log_prob", lambda *a, **k: calls.append(k["likelihood"]) or vk.log_prob(*a, **k))
    with patch():
        scvi.distributions.ZeroInflatedNegativeBinomial(
            mu=torch.ones(2, 3), theta=torch.ones(3), zi_logits=torch.zeros(2, 3)
        ).log_prob(torch.ones(2, 3))
        scvi.distributions.NegativeBinomialMixture(
            mu1=torch.ones(2, 3), mu2=torch.ones(2, 3), theta1=torch.ones(3), mixture_logits=torch.zeros(2, 3)
        ).log_prob(torch.ones(2, 3))
    assert calls == ["zinb", "negative_binomial_mixture"]
