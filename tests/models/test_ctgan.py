"""vae_kernels.integrations.ctgan: an attached TVAE has the loss of ctgan's own. After `detach`, nothing is left."""

import copy
import importlib
import pickle
import subprocess
import sys
import threading
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch
from known import BACKENDS

try:
    from vae_kernels.integrations import ctgan as adapter
except ImportError as error:
    adapter, reason = None, str(error)
else:
    import numpy as np
    import pandas as pd
    from ctgan import TVAE
    from ctgan.synthesizers import tvae as upstream

    reason = ""

needs_ctgan = pytest.mark.skipif(adapter is None, reason=reason)
try:
    from sdv.metadata import Metadata
    from sdv.single_table import TVAESynthesizer
except ImportError:
    TVAESynthesizer = None
else:
    SDV_1 = metadata.version("sdv").startswith("1.")  # from 2.0, a table comes with its name
needs_sdv = pytest.mark.skipif(TVAESynthesizer is None or adapter is None, reason="sdv is not installed")
DISCRETE = ["kind", "two", "one"]


def table(rows=130):
    """Numbers of two clusters and of one, text, two codes, and a column that is constant."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "clusters": np.where(rng.random(rows) < 0.5, -5, 5) + rng.normal(size=rows),
            "kind": rng.choice(["a", "b", "c"], rows),
            "normal": rng.normal(size=rows),
            "two": rng.integers(0, 2, rows),
            "one": "same",
        }
    )


def make(cls=None, epochs=2):
    tvae = (cls or TVAE)(embedding_dim=8, compress_dims=(16,), decompress_dims=(16,), batch_size=50, epochs=epochs)
    tvae.set_random_state(3)
    return tvae


def fitted(tvae, seed=0, **kwargs):
    torch.manual_seed(seed)
    tvae.fit(table(**kwargs), DISCRETE)
    return tvae


def losses(tvae):
    return tvae.loss_values["Loss"].to_numpy()


# ---------------------------------------------------------------- the loss


def span(size, kind="softmax"):
    return SimpleNamespace(dim=size, activation_fn=kind)


NUMBER = span(1, "tanh")
TABLES = {
    "as ctgan makes them": [[NUMBER, span(3)], [span(4)], [NUMBER, span(10)], [span(2)]],
    "numbers alone": [[NUMBER], [NUMBER]],
    "categories alone": [[span(5)], [span(2)], [span(300)]],
    "one mode, and one category": [[NUMBER, span(1)], [span(1)], [span(3)], [NUMBER, span(1)]],
    "nothing to learn": [[span(1)], [span(1)]],
    "sizes of numpy": [[NUMBER, SimpleNamespace(dim="numpy", activation_fn="softmax")]],
}


def draw(info, rows, dtype=torch.float64):
    """(recon_x, x, sigmas, mu, logvar): x is one-hot, and all others require grad."""
    g = torch.Generator().manual_seed(0)
    x = []
    for one in (one for spans in info for one in spans):
        if one.activation_fn == "tanh":
            x.append(torch.rand(rows, 1, generator=g) * 2 - 1)
        else:
            x.append(torch.nn.functional.one_hot(torch.randint(int(one.dim), (rows,), generator=g), int(one.dim)))
    x = torch.cat(x, 1).to(dtype)
    recon_x = 2 * torch.randn(x.shape, generator=g, dtype=torch.float64)
    sigmas = 0.01 + torch.rand(x.shape[1], generator=g, dtype=torch.float64)
    mu, logvar = (torch.randn(rows, 7, generator=g, dtype=torch.float64) for _ in range(2))
    recon_x, sigmas, mu, logvar = (t.to(dtype).requires_grad_() for t in (recon_x, sigmas, mu, logvar))
    return recon_x, x, sigmas, mu, logvar


def outcome(loss, inputs, info, factor):
    """The two parts of a loss, and the gradients of their sum by the four inputs that require grad."""
    inputs = [t.detach().clone().requires_grad_(t.requires_grad) for t in inputs]
    parts = loss(*inputs, info, factor)
    sum(parts).backward()
    return *(part.detach() for part in parts), *(t.grad for t in inputs if t.requires_grad)


@needs_ctgan
@pytest.mark.parametrize("rows", [1, 50, 67])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_loss_is_that_of_ctgan(backend, name, rows):
    info = copy.deepcopy(TABLES[name])
    for one in (one for spans in info for one in spans):
        one.dim = np.int64(3) if one.dim == "numpy" else one.dim
    inputs = draw(info, rows)
    got = outcome(adapter._Loss(backend), inputs, info, 2)
    expected = outcome(upstream._loss_function, inputs, info, 2)
    for ours, theirs in zip(got, expected, strict=True):
        if theirs is None:
            assert ours is None  # without a number, sigmas have no gradient
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@needs_ctgan
@pytest.mark.parametrize("factor", [0.5, 2])
def test_the_factor_is_that_of_the_reconstruction_alone(factor):
    info = TABLES["as ctgan makes them"]
    inputs = draw(info, 9)
    once, by_factor = (outcome(adapter._Loss("torch"), inputs, info, f) for f in (1, factor))
    torch.testing.assert_close(by_factor[0], once[0] * factor)
    assert torch.equal(by_factor[1], once[1])


@needs_ctgan
def test_one_object_takes_several_tables():
    loss = adapter._Loss("torch")
    for name in ("numbers alone", "categories alone", "numbers alone"):
        inputs = draw(TABLES[name], 5)
        theirs = upstream._loss_function(*inputs, TABLES[name], 2)
        torch.testing.assert_close(torch.stack(loss(*inputs, TABLES[name], 2)), torch.stack(theirs))


@needs_ctgan
def test_several_numbers_in_a_column_are_refused():
    info = [[span(2, "tanh")]]
    with pytest.raises(ValueError, match=r"output_info: got a column of 2 numbers with 'tanh', expected 1 number"):
        adapter._Loss("torch")(*(torch.ones(3, 2) for _ in range(5)), info, 2)


# ---------------------------------------------------------------- a training


@needs_ctgan
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "triton"])
def test_a_fit_is_that_of_ctgan(backend):
    own, ours = fitted(make()), fitted(adapter.attach(make(), backend=backend))
    np.testing.assert_allclose(losses(ours), losses(own), rtol=1e-5)
    assert len(losses(ours)) == 6
    for name, weight in own.decoder.state_dict().items():
        torch.testing.assert_close(ours.decoder.state_dict()[name], weight, rtol=0, atol=2e-4)
    got, expected = ours.sample(200), own.sample(200)
    for name in DISCRETE:  # a probability between two categories may fall to the other side
        assert (got[name] == expected[name]).mean() > 0.98, name
    for name in ("clusters", "normal"):
        assert (abs(got[name] - expected[name]) < 0.01).mean() > 0.98, name


@needs_ctgan
def test_the_backend_is_the_one_asked_for(monkeypatch):
    asked = []
    for name in ("nll", "gaussian_kl"):
        function = getattr(adapter, name)
        monkeypatch.setattr(
            adapter, name, lambda *a, f=function, **kwargs: asked.append(kwargs["backend"]) or f(*a, **kwargs)
        )
    fitted(adapter.attach(make(epochs=1), backend="torch"))
    assert asked == ["torch"] * 6


@needs_ctgan
def test_a_subclass_with_a_fit_around_that_of_ctgan():
    class Mine(TVAE):
        def fit(self, *args, **kwargs):
            self.mine = True
            return super().fit(*args, **kwargs)

    tvae = adapter.attach(make(Mine), backend="torch")
    assert type(tvae).__name__ == "Mine" and isinstance(tvae, Mine)
    np.testing.assert_allclose(losses(fitted(tvae)), losses(fitted(make())), rtol=1e-5)
    assert tvae.mine


@needs_ctgan
def test_a_training_without_the_loss_of_ctgan_is_said():
    class Mine(TVAE):
        def fit(self, *args, **kwargs):
            pass

    with pytest.warns(RuntimeWarning, match=r"this Mine was trained without a call of ctgan's loss function"):
        fitted(adapter.attach(make(Mine)))
    with pytest.warns(RuntimeWarning, match="no step"):
        fitted(adapter.attach(make(epochs=0)))


# ---------------------------------------------------------------- on and off


def own_function(function):
    """Whether this is ctgan's own loss function."""
    return getattr(function, "__module__", None) == "ctgan.synthesizers.tvae" and upstream._loss_function is function


@needs_ctgan
def test_detach_leaves_nothing():
    before = upstream._loss_function
    tvae = make()
    names = set(vars(tvae))
    assert adapter.attach(adapter.attach(tvae)) is tvae
    assert type(tvae) is not TVAE and repr(type(tvae)) == repr(TVAE) and set(vars(tvae)) == names
    assert adapter.detach(tvae) is tvae and type(tvae) is TVAE and set(vars(tvae)) == names
    assert own_function(before)
    assert np.array_equal(losses(fitted(tvae)), losses(fitted(make())))


@needs_ctgan
def test_ctgan_is_as_it_was_after_a_training_and_after_an_error():
    before = upstream._loss_function
    fitted(adapter.attach(make(epochs=1), backend="torch"))
    assert upstream._loss_function is before
    broken = make(epochs=1)
    broken.batch_size = -1
    with pytest.raises(ValueError, match="batch_size"):
        fitted(adapter.attach(broken))
    assert upstream._loss_function is before and own_function(before)


@needs_ctgan
def test_another_thread_has_the_loss_of_ctgan():
    """A plain TVAE trains in a thread in the middle of the training of an attached one."""
    found = {}

    class Mine(TVAE):
        def fit(self, *args, **kwargs):
            other = threading.Thread(target=lambda: found.update(other=upstream._loss_function(*inputs, info, 2)))
            other.start()
            other.join()
            found["own"] = upstream._loss_function(*inputs, info, 2)

    info = TABLES["as ctgan makes them"]
    inputs = draw(info, 6, torch.float32)
    expected = upstream._loss_function(*inputs, info, 2)
    fitted(adapter.attach(make(Mine), backend="torch"))
    assert torch.equal(torch.stack(found["other"]), torch.stack(expected))
    assert type(found["own"][0].grad_fn).__name__ != type(expected[0].grad_fn).__name__
    torch.testing.assert_close(torch.stack(found["own"]), torch.stack(expected))


@needs_ctgan
@pytest.mark.parametrize("trained", [False, True])
def test_a_copy_and_a_pickle_are_attached(trained, tmp_path, monkeypatch):
    tvae = adapter.attach(make(epochs=1), backend="torch")
    if trained:
        fitted(tvae)
    else:
        tvae.decoder = torch.nn.Identity()  # ctgan moves the decoder to the CPU before it pickles
    tvae.save(tmp_path / "tvae.pt")
    copies = copy.deepcopy(tvae), pickle.loads(pickle.dumps(tvae)), TVAE.load(tmp_path / "tvae.pt")
    for made in copies:
        assert type(made) is type(tvae) and not any("kernels" in name for name in vars(made))
        asked = []
        with monkeypatch.context() as patch:
            patch.setattr(
                adapter, "_Loss", lambda backend, asked=asked, of=adapter._Loss: asked.append(backend) or of(backend)
            )
            np.testing.assert_array_equal(losses(fitted(made)), losses(fitted(copy.deepcopy(tvae))))
        assert asked == ["torch"] * 2
        assert type(adapter.detach(made)) is TVAE


# ---------------------------------------------------------------- what is refused


@needs_ctgan
def test_a_model_of_another_kind_is_refused():
    for model in (object(), TVAE, torch.nn.Linear(2, 2)):
        for function in (adapter.attach, adapter.detach):
            with pytest.raises(TypeError, match=r"model: got \w+, expected a ctgan.TVAE or an sdv"):
                function(model)
    with pytest.raises(ValueError, match="model: got one that is not attached"):
        adapter.detach(make())
    with pytest.raises(ValueError, match="backend: got 'none'"):
        adapter.attach(make(), backend="none")


@needs_ctgan
def test_an_unknown_loss_is_refused(monkeypatch):
    attached, plain = adapter.attach(make(epochs=1)), make(epochs=1)

    def _loss_function(recon_x, x, sigmas, mu, logvar, output_info, factor):
        return recon_x.sum(), mu.sum()

    monkeypatch.setattr(upstream, "_loss_function", _loss_function)
    expected = r"model: its loss function \(ctgan\.synthesizers\.tvae\._loss_function, \w{16}\) is not known here"
    with pytest.raises(ValueError, match=expected):
        adapter.attach(plain)
    with pytest.raises(ValueError, match=expected):
        fitted(attached)
    assert type(plain) is TVAE and upstream._loss_function is _loss_function


def test_a_missing_ctgan_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "ctgan" or name.endswith("ns.ctgan")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ctgan", None)
    with pytest.raises(ImportError, match=r"ctgan: not installed.*pip install ctgan"):
        importlib.import_module("vae_kernels.integrations.ctgan")


def test_that_is_the_only_reason():
    assert adapter is not None or reason.startswith("ctgan: ")


def test_the_package_does_not_import_it():
    names = "{'ctgan', 'vae_kernels.integrations.ctgan'}"
    code = f"import sys, vae_kernels; assert not {names} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---------------------------------------------------------------- SDV


def synthesizer():
    known = Metadata.detect_from_dataframes({"rows": table()})
    return TVAESynthesizer(known, embedding_dim=8, batch_size=50, epochs=2)


def fit_of_sdv(model):
    torch.manual_seed(0)
    np.random.seed(0)
    model.fit(table() if SDV_1 else {"rows": table()})
    return model


def rows_of_sdv(model, count):
    drawn = model.sample(count)
    return drawn if SDV_1 else drawn["rows"]


@needs_sdv
def test_a_synthesizer_of_sdv():
    own, ours = fit_of_sdv(synthesizer()), fit_of_sdv(adapter.attach(synthesizer(), backend="torch"))
    np.testing.assert_allclose(ours.get_loss_values()["Loss"], own.get_loss_values()["Loss"], rtol=1e-5)
    assert not np.array_equal(losses(ours._model), losses(own._model))
    assert type(ours._model) is TVAE and list(rows_of_sdv(ours, 20).columns) == list(table().columns)
    assert type(ours).__name__ == "TVAESynthesizer" and isinstance(ours, TVAESynthesizer)
    assert type(adapter.detach(ours)) is TVAESynthesizer
    assert np.array_equal(losses(fit_of_sdv(ours)._model), losses(own._model))


@needs_sdv
def test_a_saved_synthesizer_is_attached(tmp_path):
    ours = fit_of_sdv(adapter.attach(synthesizer(), backend="torch"))
    ours.save(tmp_path / "synthesizer.pkl")
    again = pickle.loads((tmp_path / "synthesizer.pkl").read_bytes())
    assert type(again) is type(ours) and len(rows_of_sdv(again, 5)) == 5
    assert type(copy.deepcopy(ours)) is type(ours)
