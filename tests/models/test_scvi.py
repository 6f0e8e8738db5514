"""vae_kernels.integrations.scvi: a training step with the adapter gives the results of scvi-tools' own step. After
`detach`, nothing of the adapter is left."""

import copy
import importlib
import io
import pickle
import re
import subprocess
import sys
import zipfile
from importlib import metadata

import numpy as np
import pytest
import torch
from known import BACKENDS
from places import EXAMPLES
from torch.distributions import Normal

import vae_kernels as vk

try:
    from vae_kernels.integrations import scvi as adapter
except ImportError as error:
    adapter, reason = None, str(error)
else:
    import anndata
    import scvi
    from scvi.module import VAE

    reason = ""

needs_scvi = pytest.mark.skipif(adapter is None, reason=reason)
EPS32 = torch.finfo(torch.float32).eps


# ---------------------------------------------------------------- versions


@pytest.fixture
def fresh(monkeypatch):
    """Imports the adapter again."""
    monkeypatch.delitem(sys.modules, "vae_kernels.integrations.scvi", raising=False)
    return lambda: importlib.import_module("vae_kernels.integrations.scvi")


@pytest.mark.parametrize("version", ["1.3.3", "1.4.20", "2.0.0"])
def test_an_unknown_version_is_refused(version, fresh, monkeypatch):
    monkeypatch.setattr(metadata, "version", {"scvi-tools": version}.__getitem__)
    with pytest.raises(ImportError, match=rf"scvi-tools: got version {re.escape(version)}, expected .*1\.4\.2"):
        fresh()


def test_a_missing_one_too(fresh, monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(ImportError, match=r"scvi-tools: not installed.*pip install"):
        fresh()


def test_those_are_the_only_reasons():
    assert adapter is not None or reason.startswith("scvi-tools: ")


def test_the_package_does_not_import_it():
    names = "{'scvi', 'vae_kernels.integrations.scvi'}"
    code = f"import sys, vae_kernels; assert not {names} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---------------------------------------------------------------- a step


def cells(n=50, genes=37, empty=False):
    rng = np.random.default_rng(0)
    x = rng.poisson(rng.gamma(0.7, 6.0, size=(n, genes))).astype(np.float32)
    x[0, 0] = 3000  # larger than any table of factorials
    if empty:
        x[1] = 0
    obs = {
        "batch": rng.permutation(np.arange(n) % 3).astype(str),
        "label": rng.permutation(np.arange(n) % 2).astype(str),
        "donor": rng.permutation(np.arange(n) % 4).astype(str),
        "age": rng.normal(size=n),
        "size": rng.uniform(0.5, 2.0, n) * x.sum() / n,
    }
    return anndata.AnnData(x, obs=obs)


def build(adata, setup=None, **kwargs):
    torch.manual_seed(0)
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch", labels_key="label", **(setup or {}))
    return scvi.model.SCVI(adata, **{"n_hidden": 16, "n_latent": 4, "dropout_rate": 0.0, **kwargs})


def batch(model):
    return next(iter(model._make_data_loader(model.adata, batch_size=model.adata.n_obs)))


@pytest.fixture
def step(monkeypatch):
    """Runs a training step and gives its losses and gradients. All steps of one test use the same noise, kept by
    shape."""
    noise = {}

    def rsample(q):
        if q.loc.shape not in noise:
            noise[q.loc.shape] = torch.randn(q.loc.shape, dtype=torch.float64)
        return q.loc + q.scale * noise[q.loc.shape].to(q.loc)

    def recorded(mu, logvar, **kwargs):
        z, kl = vk.sample_kl(mu, logvar, **kwargs)
        noise[z.shape] = ((z.double() - mu.double()) * (-0.5 * logvar.double()).exp()).detach()
        return z, kl

    def run(module, tensors, **loss_kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(Normal, "rsample", rsample)
            patch.setattr(adapter, "sample_kl", recorded)
            if tensors["X"].dtype == torch.float64:
                patch.setattr(torch.Tensor, "float", torch.Tensor.double)  # scvi-tools' one-hots
            module.train()
            losses = module(tensors, loss_kwargs=loss_kwargs)[-1]
        losses.loss.backward()
        return losses, {name: p.grad for name, p in module.named_parameters()}

    return run


def assert_same_step(step, model, backend="auto", **loss_kwargs):
    """scvi-tools' step in float64 is the truth. The error of our step is at most twice the error of scvi-tools' own
    step in float32, plus 8 eps. We keep the log of a mean, which is up to 8 here. This log is rounded twice, together
    with the sum of the softmax, and these roundings change the mean by up to 8 eps.

    scvi-tools adds 1e-8 to means and dispersions, and we add nothing. The means here are near 1 and above, so this
    difference is too small to see.
    """
    tensors = batch(model)
    exact = {n: t.double() if t.is_floating_point() else t for n, t in tensors.items() if t is not None}
    own, own64 = copy.deepcopy(model.module), copy.deepcopy(model.module).double()
    adapter.attach(model, backend=backend)
    ours = step(model.module, tensors, **loss_kwargs)
    own, own64 = step(own, tensors, **loss_kwargs), step(own64, exact, **loss_kwargs)

    def assert_near(of, scale=None):
        got, theirs, expected = (of(*run) for run in (ours, own, own64))
        assert got.dtype == theirs.dtype and got.shape == theirs.shape
        error, allowed = (abs(t.double() - expected).max() for t in (got, theirs))
        assert error <= 2 * allowed + 8 * EPS32 * (scale or expected.abs().max()), (error, allowed)

    assert_near(lambda losses, _: losses.loss)
    for group in ("reconstruction_loss", "kl_local"):
        assert getattr(ours[0], group).keys() == getattr(own[0], group).keys()
        for key in getattr(ours[0], group):
            assert_near(lambda losses, _, group=group, key=key: getattr(losses, group)[key])
    # The bias before a batch norm has a gradient of 0. What remains are rounding errors of the size of the largest
    # gradients.
    largest = max(g.abs().max() for g in own64[1].values() if g is not None)
    for name, gradient in ours[1].items():
        assert (gradient is None) == (own[1][name] is None), name
        if gradient is not None:
            assert_near(lambda _, gradients, name=name: gradients[name], largest)


STEPS = [
    *[(likelihood, dispersion) for likelihood in ("zinb", "nb") for dispersion in ("gene", "gene-batch", "gene-cell")],
    ("zinb", "gene-label"),
    ("poisson", "gene"),
]


@needs_scvi
@pytest.mark.parametrize(("likelihood", "dispersion"), STEPS)
def test_a_step_is_that_of_scvi(likelihood, dispersion, step):
    model = build(cells(), gene_likelihood=likelihood, dispersion=dispersion)
    assert_same_step(step, model, kl_weight=torch.tensor(0.25))


SETTINGS = {
    "latent library size": {"use_observed_lib_size": False},
    "size factor": {"setup": {"size_factor_key": "size"}},
    "covariates": {
        "setup": {"continuous_covariate_keys": ["age"], "categorical_covariate_keys": ["donor"]},
        "n_layers": 2,
        "encode_covariates": True,
    },
    "embedded batches": {"batch_representation": "embedding"},
    "logistic normal": {"latent_distribution": "ln"},
}


@needs_scvi
@pytest.mark.parametrize("name", SETTINGS)
def test_what_else_a_model_may_have_is_kept(name, step):
    assert_same_step(step, build(cells(), **SETTINGS[name]))


@needs_scvi
@pytest.mark.parametrize("likelihood", ["zinb", "nb"])
def test_a_cell_without_counts(likelihood, step):
    assert_same_step(step, build(cells(empty=True), gene_likelihood=likelihood), kl_weight=1)


@needs_scvi
def test_a_cell_without_counts_of_which_scvi_makes_nan(step):
    model = build(cells(empty=True), gene_likelihood="poisson")
    tensors = batch(model)
    _, own = step(copy.deepcopy(model.module), tensors)
    losses, gradients = step(adapter.attach(model).module, tensors)
    assert any(g is not None and g.isnan().any() for g in own.values()), "scvi-tools has mended it: compare them"
    assert all(g is None or g.isfinite().all() for g in gradients.values())
    assert losses.reconstruction_loss["reconstruction_loss"][1] < 1e-30  # the counts are 0, and the mean is nearly 0


@needs_scvi
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "triton"])
def test_the_backend_is_the_one_asked_for(backend, step, monkeypatch):
    asked = []
    monkeypatch.setattr(
        adapter, "fused_elbo", lambda *args, **kwargs: asked.append(kwargs["backend"]) or vk.fused_elbo(*args, **kwargs)
    )
    assert_same_step(step, build(cells()), backend=backend)
    assert asked == [backend]


# ---------------------------------------------------------------- on and off


def losses_of(model, training, seed=3):
    torch.manual_seed(seed)
    model.module.train(training)
    inference, generative, losses = model.module(batch(model))
    px = generative["px"]
    return [inference["z"], px.mu, px.theta, px.zi_logits, losses.loss, *losses.reconstruction_loss.values()]


def state(module):
    """All attributes, hooks and types of a module and its children, by path."""
    return {
        f"{path}.{key}": value
        for path, part in module.named_modules()
        for key, value in part.__dict__.items()
        if not isinstance(value, dict) or key.endswith("hooks")
    } | {path: type(part) for path, part in module.named_modules()}


@needs_scvi
def test_detach_leaves_nothing():
    model = build(cells())
    before, expected = state(model.module), losses_of(model, training=True)
    assert adapter.attach(adapter.attach(model)) is model
    model.module.load_state_dict(model.module.state_dict())
    changed = losses_of(model, training=True)
    assert not torch.equal(changed[0], expected[0])  # our noise differs, so the adapter was really attached
    assert adapter.detach(model) is model
    model.module.load_state_dict(model.module.state_dict())
    assert type(model.module) is VAE and state(model.module) == before


@needs_scvi
def test_after_detach_a_step_is_as_before():
    attached, untouched = (build(cells()) for _ in range(2))
    adapter.detach(adapter.attach(attached))
    for got, expected in zip(losses_of(attached, True), losses_of(untouched, True), strict=True):
        assert torch.equal(got, expected)


@needs_scvi
def test_evaluation_is_untouched():
    attached, untouched = (build(cells()) for _ in range(2))
    adapter.attach(attached)
    with torch.no_grad():
        for got, expected in zip(losses_of(attached, False), losses_of(untouched, False), strict=True):
            assert torch.equal(got, expected)
    for call in (
        lambda m: m.get_elbo(),
        lambda m: m.get_marginal_ll(n_mc_samples=10),
        lambda m: m.posterior_predictive_sample(n_samples=2).todense(),
        lambda m: m.get_normalized_expression(transform_batch="1", return_numpy=True),
        lambda m: m.differential_expression(groupby="label", silent=True, batch_size=50).bayes_factor.sort_index(),
    ):
        got, expected = ((torch.manual_seed(1), np.random.seed(1), call(m))[-1] for m in (attached, untouched))
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


@needs_scvi
def test_what_is_saved_or_copied_is_plain(tmp_path):
    model = adapter.attach(build(cells()))
    train(model, max_epochs=1)
    model.save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model/model.pt") as file:
        assert not [name for name in file.namelist() if b"vae_kernels" in file.read(name)]
    loaded = scvi.model.SCVI.load(tmp_path / "model", model.adata, accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    file = io.BytesIO()
    torch.save(model.module, file)
    assert b"vae_kernels" not in file.getvalue()
    for module in (loaded.module, copy.deepcopy(model.module), pickle.loads(pickle.dumps(model.module))):
        assert type(module) is VAE and not any("kernels" in name for name in module.__dict__)
        assert module.state_dict().keys() == model.module.state_dict().keys()
    adapter.detach(model)  # the original is still attached: a copy takes nothing from it


@needs_scvi
def test_what_cannot_be_attached_is_refused():
    adata = cells()
    with pytest.raises(ValueError, match=r"gene_likelihood: got 'normal', expected one of 'zinb', 'nb', 'poisson'"):
        adapter.attach(build(adata, gene_likelihood="normal"))
    scvi.model.LinearSCVI.setup_anndata(adata)
    with pytest.raises(TypeError, match=r"model: got LinearSCVI, expected a scvi.model.SCVI"):
        adapter.attach(scvi.model.LinearSCVI(adata))
    with pytest.raises(TypeError, match=r"model: got VAE, expected a scvi.model.SCVI"):
        adapter.attach(build(adata).module)
    with pytest.raises(ValueError, match=r"backend: got 'gpu', expected one of 'auto', 'torch'"):
        adapter.attach(build(adata), backend="gpu")
    with pytest.raises(ValueError, match=r"model: got one that is not attached"):
        adapter.detach(build(adata))
    with pytest.warns(UserWarning, match="initialized without"):
        late = scvi.model.SCVI()
    with pytest.raises(ValueError, match=r"module is a NoneType, expected a VAE"):
        adapter.attach(late)


# ---------------------------------------------------------------- training


def train(model, **kwargs):
    settings = {"batch_size": 32, "accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    model.train(**{**settings, "train_size": 1.0, **kwargs})


@needs_scvi
def test_training_calls_it_once_a_batch_and_validation_never(monkeypatch):
    calls = []
    monkeypatch.setattr(
        adapter, "fused_elbo", lambda *args, **kwargs: calls.append(kwargs) or vk.fused_elbo(*args, **kwargs)
    )
    model = adapter.attach(build(cells(n=100)))
    train(model, max_epochs=2, train_size=0.64, check_val_every_n_epoch=1, plan_kwargs={"n_epochs_kl_warmup": 4})
    assert [float(call["beta"]) for call in calls] == [0, 0, 0.25, 0.25]  # the warm-up of scvi-tools
    calls.clear()
    train(model, max_epochs=1)  # scvi-tools has left the model in evaluation mode
    assert len(calls) == 4


@needs_scvi
@pytest.mark.parametrize("data", ["simulated", "pbmc68k"])
def test_held_out_elbo_is_that_of_scvi(data, one_thread, monkeypatch):
    """Models trained with our loss reach the same ELBO on held-out cells as models trained with scvi-tools' own loss.
    Welch's t-test compares the two means; the noise is the spread over seeds. The spread must be small beside the gain
    of the training, because otherwise the comparison would prove nothing."""
    if not (EXAMPLES / "scvi_elbo.py").exists():
        pytest.skip("the tests run without the source tree beside them: there is no examples/")
    pytest.importorskip("typer", reason="typer, which the example needs, is not installed")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = importlib.import_module("scvi_elbo")
    x = example.DATA[data]()
    assert x.dtype == np.float32 and x.min() == 0 and (x.data == np.rint(x.data)).all()
    own, ours, gain, p = example.compare(x, seeds=4, epochs=8, hidden=32)
    assert max(own.std(ddof=1), ours.std(ddof=1)) < 0.03 * gain
    assert p > 1e-3


@pytest.fixture
def one_thread():
    """The matrices are too small for two threads: on a busy machine the threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
