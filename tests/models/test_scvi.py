"""vae_kernels.integrations.scvi: a training step with the adapter gives the results of scvi-tools' own step. After
`detach`, nothing of the adapter is left."""

import copy
import importlib
import inspect
import io
import pickle
import subprocess
import sys
import zipfile
from importlib import metadata

import numpy as np
import pytest
import torch
from known import BACKENDS
from places import EXAMPLES

import vae_kernels as vk

try:
    from vae_kernels.integrations import scvi as adapter
except ImportError as error:
    adapter, reason = None, str(error)
else:
    import scvi
    import scvi_models
    from scvi.module import VAE
    from scvi_models import batch, build, cells

    from vae_kernels.integrations.scvi import attaching, known, steps

    reason = ""

needs_scvi = pytest.mark.skipif(adapter is None, reason=reason)
EPS32 = torch.finfo(torch.float32).eps


# ---------------------------------------------------------------- versions


def test_a_missing_scvi_is_named(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    for name in [name for name in sys.modules if name.startswith("vae_kernels.integrations.scvi")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(ImportError, match=r"scvi-tools: not installed.*pip install"):
        importlib.import_module("vae_kernels.integrations.scvi")


def test_that_is_the_only_reason():
    assert adapter is not None or reason.startswith("scvi-tools: ")


def test_the_package_does_not_import_it():
    names = "{'scvi', 'vae_kernels.integrations.scvi'}"
    code = f"import sys, vae_kernels; assert not {names} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@needs_scvi
def test_the_old_place_of_patch():
    from vae_kernels.integrations import scvi_patch

    assert scvi_patch.patch is adapter.patch


# ---------------------------------------------------------------- the source decides


@needs_scvi
def test_a_fingerprint_is_of_the_code_alone(tmp_path, monkeypatch):
    (tmp_path / "versions_of_f.py").write_text(
        '''
def f(x, y: int = 0):
    """What it does."""
    return x + y  # the sum

def kept():
    def f(x, y: float = 0) -> float:
        return (x
                + y)
    return f

def changed():
    def f(x, y=0):
        return x - y
    return f
'''
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    f = importlib.import_module("versions_of_f")
    assert known.fingerprint(f.f) == known.fingerprint(f.kept()) != known.fingerprint(f.changed())
    assert known.fingerprint(len) == "no source"


class Sub(scvi.module.VAE if adapter else object):
    """A subclass whose methods of the loss are those of scvi-tools."""

    def _regular_inference(self, *args, **kwargs):
        return super()._regular_inference(*args, **kwargs)


class Other(Sub):
    def loss(self, *args, **kwargs):
        return super().loss(*args, **kwargs)


@needs_scvi
def test_a_subclass_with_the_methods_of_scvi_is_taken_and_another_is_refused():
    model = build()
    model.module.__class__ = Sub
    adapter.attach(model)
    assert type(model.module).__name__ == "Sub" and isinstance(model.module, Sub)
    adapter.detach(model).module.__class__ = Other
    with pytest.raises(ValueError, match=r"got a Other whose Other\.loss \(\w{16}\) is not known.*patch\(\)"):
        adapter.attach(model)
    assert type(model.module) is Other


@needs_scvi
def test_a_changed_formula_or_decoder_is_refused(monkeypatch):
    from scvi.distributions import _negative_binomial as formulas

    model = build()
    with adapter.patch():  # our own functions in their places are no change of scvi-tools
        adapter.detach(adapter.attach(model))
    with monkeypatch.context() as changed:
        changed.setattr(formulas, "log_zinb_positive", lambda *a, **k: 0)
        with pytest.raises(ValueError, match="is not known"):
            adapter.attach(model)
    monkeypatch.setattr(model.module.decoder, "forward", lambda *a: None)
    with pytest.raises(ValueError, match="is not known"):
        adapter.attach(model)


# ---------------------------------------------------------------- a step


@pytest.fixture
def step(monkeypatch):
    """Runs a training step and gives its losses and gradients. All steps of one test have the same noise."""
    noise = {}
    return lambda module, tensors, **weights: scvi_models.step(module, tensors, monkeypatch, noise, **weights)


def asked_backends(monkeypatch):
    """The backends that the fused op is called with."""
    asked = []
    monkeypatch.setattr(steps, "nll", lambda *a, **kwargs: asked.append(kwargs["backend"]) or vk.nll(*a, **kwargs))
    return asked


def assert_same_step(step, model, backend="auto", **loss_kwargs):
    """scvi-tools' step in float64 is the truth. The error of our step is at most twice the error of scvi-tools' own
    step in float32, plus 8 eps. We keep the log of a mean, which is up to 8 here. This log is rounded twice, together
    with the sum of the softmax, and these roundings change the mean by up to 8 eps.

    scvi-tools adds 1e-8 to means and dispersions, and we add nothing. The means here are near 1 and above, so this
    difference is too small to see.
    """
    tensors = batch(model)
    exact = scvi_models.in_float64(tensors)
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
    model = build(gene_likelihood=likelihood, dispersion=dispersion)
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
    assert_same_step(step, build(**SETTINGS[name]))


@needs_scvi
@pytest.mark.parametrize("likelihood", ["zinb", "nb"])
def test_a_cell_without_counts(likelihood, step):
    assert_same_step(step, build(adata=cells(empty=True), gene_likelihood=likelihood), kl_weight=1)


@needs_scvi
def test_a_cell_without_counts_of_which_scvi_makes_nan(step):
    model = build(adata=cells(empty=True), gene_likelihood="poisson")
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
        steps, "nll", lambda *args, **kwargs: asked.append(kwargs["backend"]) or vk.nll(*args, **kwargs)
    )
    assert_same_step(step, build(), backend=backend)
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
    model = build()
    before = state(model.module)
    assert adapter.attach(adapter.attach(model)) is model
    assert type(model.module) is not VAE and repr(model.module).startswith("VAE(")
    for name in ("generative", "loss"):  # scvi-tools reads which arguments there are
        assert inspect.signature(getattr(model.module, name)) == inspect.signature(getattr(build().module, name))
    model.module.load_state_dict(model.module.state_dict())
    losses_of(model, training=True)
    assert adapter.detach(model) is model
    model.module.load_state_dict(model.module.state_dict())
    assert type(model.module) is VAE and state(model.module) == before


@needs_scvi
def test_after_detach_a_step_is_as_before():
    attached, untouched = (build() for _ in range(2))
    adapter.detach(adapter.attach(attached))
    for got, expected in zip(losses_of(attached, True), losses_of(untouched, True), strict=True):
        assert torch.equal(got, expected)


@needs_scvi
def test_evaluation_is_untouched():
    attached, untouched = (build() for _ in range(2))
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
def test_a_copy_and_a_pickle_are_attached(monkeypatch):
    model = adapter.attach(build(), backend="torch")
    file = io.BytesIO()
    torch.save(model.module, file)
    file.seek(0)
    copies = copy.deepcopy(model.module), pickle.loads(pickle.dumps(model.module)), torch.load(file, weights_only=False)
    asked = []
    monkeypatch.setattr(
        steps, "nll", lambda *args, **kwargs: asked.append(kwargs["backend"]) or vk.nll(*args, **kwargs)
    )
    for module in copies:
        assert type(module) is type(model.module) and not any("kernels" in name for name in module.__dict__)
        assert module.state_dict().keys() == model.module.state_dict().keys()
        module(batch(model))[-1].loss.backward()
    assert asked == ["torch"] * 3
    whole = copy.deepcopy(model)
    assert type(adapter.detach(whole).module) is VAE
    adapter.detach(model)  # the original is still attached: a copy takes nothing from it


@needs_scvi
def test_what_is_saved_is_plain_and_load_attaches(tmp_path):
    model = adapter.attach(build())
    train(model, max_epochs=1)
    model.save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model/model.pt") as file:
        assert not [name for name in file.namelist() if b"vae_kernels" in file.read(name)]
    loaded = scvi.model.SCVI.load(tmp_path / "model", model.adata, accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    assert type(loaded.module) is VAE
    loaded = adapter.load(scvi.model.SCVI, tmp_path / "model", model.adata, backend="torch", accelerator="cpu")
    assert type(loaded.module) is attaching._attached(VAE, "torch")


@needs_scvi
def test_a_model_without_data_is_attached_when_it_gets_its_module():
    with pytest.warns(UserWarning, match="initialized without"):
        late = adapter.attach(scvi.model.SCVI(), backend="torch")
    assert inspect.signature(late._module_cls).parameters.keys() == inspect.signature(VAE).parameters.keys()
    late = pickle.loads(pickle.dumps(late))
    module = late._module_cls(n_input=5)
    assert type(module) is attaching._attached(VAE, "torch")
    adapter.detach(adapter.attach(late))
    assert late._module_cls is VAE and late.module is None
    with pytest.warns(UserWarning, match="initialized without"):
        late = scvi.model.SCVI()
    late._module_cls = scvi.module.Classifier
    with pytest.raises(TypeError, match=r"module is a Classifier, expected one of VAE, .* or a subclass"):
        adapter.attach(late)


@needs_scvi
def test_what_cannot_be_attached_is_refused():
    with pytest.raises(ValueError, match=r"gene_likelihood: got 'normal', expected one of 'zinb', 'nb', 'poisson'"):
        adapter.attach(build(gene_likelihood="normal"))
    with pytest.raises(TypeError, match=r"model: got VAE, expected a model of scvi-tools"):
        adapter.attach(build().module)
    with pytest.raises(ValueError, match=r"backend: got 'gpu', expected one of 'auto', 'torch'"):
        adapter.attach(build(), backend="gpu")
    with pytest.raises(ValueError, match=r"model: got one that is not attached"):
        adapter.detach(build())
    adata = cells()
    scvi.model.AUTOZI.setup_anndata(adata)
    with pytest.raises(ValueError, match=r"got a AutoZIVAE whose AutoZIVAE\.generative .*patch\(\)"):
        adapter.attach(scvi.model.AUTOZI(adata))


# ---------------------------------------------------------------- training


def train(model, **kwargs):
    settings = {"batch_size": 32, "accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    model.train(**{**settings, "train_size": 1.0, **kwargs})


@needs_scvi
def test_training_calls_it_once_a_batch_and_validation_never(monkeypatch):
    made = asked_backends(monkeypatch)
    model = adapter.attach(build(adata=cells(n=100)))
    train(model, max_epochs=2, train_size=0.64, check_val_every_n_epoch=1, plan_kwargs={"n_epochs_kl_warmup": 4})
    assert len(made) == 4
    train(model, max_epochs=1)  # scvi-tools has left the model in evaluation mode
    assert len(made) == 8


@needs_scvi
@pytest.mark.full
@pytest.mark.parametrize("data", ["pbmc68k"])
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
    own, ours, gain, p, *_ = example.compare(x, seeds=4, epochs=8, hidden=32)
    assert max(own.std(ddof=1), ours.std(ddof=1)) < 0.03 * gain
    assert p > 1e-3


@pytest.fixture
def one_thread():
    """The matrices are too small for two threads: on a busy machine the threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
