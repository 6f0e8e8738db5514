"""examples/audit_atlas.py: what it measures of planted losses, its CSV, its page; and the rows of the packages that are
installed, measured again."""

import re
import sys

import pytest
import torch
import torch.nn.functional as F
from places import DOCS, EXAMPLES

import vae_kernels as vk

if not EXAMPLES.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no examples/", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("one_thread")
sys.path.append(str(EXAMPLES))  # the parts of the atlas import each other
import atlas  # noqa: E402
from atlas import case, measure, page  # noqa: E402

RESULTS = DOCS.parent / "bench/results/atlas/losses.csv"
ROWS = measure.read(RESULTS)


def kl(mu, logvar):
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()


def multinomial(recon, x, mu, logvar):
    return -(x * recon.log_softmax(1)).sum() / len(x) + 0.3 * kl(mu, logvar) / len(x)


def planted(call=multinomial, **options):
    example = case.batch(30, latents=(4,), x="counts")
    return case.Loss(multinomial, call, example, **{"likelihood": "multinomial"} | options)


# ---------------------------------------------------------------- measurements


def test_weights_by_gradients():
    found = measure.by_gradients(planted())
    assert found["effective_beta"] == "0.3" and float(found["error"]) < 1e-6
    assert found["averaged"] == "the nll is averaged over the batch; the KL is averaged over the batch"
    assert found["equal"] == 'vk.fused_elbo(recon, x, mu, logvar, likelihood="multinomial", beta=0.3)'


def test_powers_of_the_batch_by_gradients():
    def loss(recon, x, mu, logvar):
        return -(x * recon.log_softmax(1)).sum() + kl(mu, logvar) / len(x)

    found = measure.by_gradients(planted(loss))
    assert found["averaged"] == "the nll is summed over the batch; the KL is averaged over the batch"
    assert found["effective_beta"] == "0.0625"  # 1 / 16, and the batch has 16 samples


def test_no_beta_where_a_term_is_another():
    def loss(recon, x, mu, logvar):
        return multinomial(recon, x, mu, logvar) + mu.abs().sum()

    found = measure.by_gradients(planted(loss))
    assert found.get("effective_beta", "") == "" and "mu and logvar are not those of the KL" in found["differs"]
    other = measure.by_gradients(planted(lambda r, x, m, v: F.mse_loss(r, x) + kl(m, v)))
    assert other.get("effective_beta", "") == "" and "recon are not those of the likelihood" in other["differs"]


@pytest.mark.parametrize("std", [1.0, 0.01])
def test_the_noise_of_a_sample(std):
    def sample(mu, logvar):
        return mu + std * torch.exp(logvar / 2) * torch.randn_like(mu)

    assert abs(measure.noise_std(planted(sample=sample)) / std - 1) < 5 * (2 * measure.SAMPLES) ** -0.5


@pytest.mark.parametrize("expected, term", [
    ("yes", kl), ("no", lambda m, v: kl(m, v).clamp(0, 0)), ("only mu", lambda m, v: m.square().sum()),
    ("only logvar", lambda m, v: v.exp().sum() - v.sum()),
])  # fmt: skip
def test_the_gradient_of_the_kl(expected, term):
    loss = planted(lambda r, x, m, v: -(x * r.log_softmax(1)).sum() + term(m, v))
    assert measure.kl_gradient(loss) == expected


def test_a_loss_that_refuses_float64_is_measured_in_float32():
    def loss(recon, x, mu, logvar):
        return torch.nn.functional.linear(multinomial(recon, x, mu, logvar).view(1, 1), torch.ones(1, 1)).sum()

    assert measure.by_gradients(planted(loss))["effective_beta"] == "0.3"


# ---------------------------------------------------------------- code of a package


MODEL = """\
raise ImportError("not here")


class Model:
    @staticmethod
    def loss(x: Missing, weight=3):
        return g(x) * weight

    class cfg:
        beta: float = 0.5
        names: list = make()
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that cannot be imported."""
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted/model.py").write_text(MODEL, encoding="utf-8")
    info = tmp_path / "planted_package-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted-package\nVersion: 1.5\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "planted-package"


def test_a_function_alone_is_the_one_of_the_file(package):
    function = case.alone(package, "planted/model.py", "Model.loss", g=lambda x: x + 1)
    assert function(1) == 6 and case.default(function, "weight") == 3
    assert case.place(package, function) == "planted/model.py:6"
    assert case.Case(package, "loss", None).version == "1.5"
    assert case.fields(package, "planted/model.py", "Model.cfg") == {"beta": 0.5}  # what is no literal is left out


def test_a_package_that_is_not_installed_has_no_version():
    assert case.Case("planted-package", "loss", None).version is None


# ---------------------------------------------------------------- the CSV and the page


def test_rows_of_packages_that_are_not_installed_stay(tmp_path):
    """Rows that were measured anew replace the old ones, and a loss that the atlas has no more is left out."""
    path = tmp_path / "losses.csv"
    first, second = ({"package": c.package, "loss": c.loss, "version": "1"} for c in atlas.CASES[:2])
    measure.saved([first, second, {"package": "gone", "loss": "gone", "version": "1"}], path)
    measure.saved([second | {"version": "2"}], path)
    assert [(r["loss"], r["version"]) for r in measure.read(path)] == [(first["loss"], "1"), (second["loss"], "2")]


def test_every_loss_of_the_atlas_is_measured():
    assert [(r["package"], r["loss"]) for r in ROWS] == [(c.package, c.loss) for c in atlas.CASES]
    assert len({r["package"] for r in ROWS}) >= 12


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['package']} {r['loss']}")
def test_a_row_is_well_formed(row):
    assert tuple(row) == measure.FIELDS
    assert re.fullmatch(r"[\w/]+\.py:[1-9]\d*", row["place"]) and re.match(r"\d+\.\d+", row["version"])
    assert re.fullmatch(r"\d+ x \d+(x\d+)* / \d+(x\d+)*", row["shape"]) and row["how"]
    assert row["read_by"] in ("vk.audit", "gradients") and row["kl_gradient"] in ("yes", "no", "only mu", "only logvar")
    assert row["likelihood"] in vk.LIKELIHOODS
    if row["effective_beta"]:
        assert float(row["effective_beta"]) >= 0 and row["averaged"]
        assert (float(row["effective_beta"]) == 0) == (row["kl_gradient"] == "no")
    else:
        assert row["differs"]
    if row["equal"]:
        assert row["effective_beta"] and float(row["error"]) < measure.SAME
    assert row["noise_std"] == "" or float(row["noise_std"]) > 0


def test_the_page_is_that_of_the_results():
    assert (DOCS / "atlas.md").read_text(encoding="utf-8") == page.text(ROWS), "python examples/audit_atlas.py --docs"


def test_the_page_judges_nobody():
    text = (DOCS / "atlas.md").read_text(encoding="utf-8").lower()
    assert [word for word in ("wrong", "mistake", "bug", "incorrect", "broken") if re.search(rf"\b{word}", text)] == []


@pytest.mark.full
@pytest.mark.parametrize("of", atlas.CASES, ids=lambda c: f"{c.package} {c.loss}")
def test_a_loss_that_is_installed_has_the_same_beta(of):
    row = next(r for r in ROWS if (r["package"], r["loss"]) == (of.package, of.loss))
    if of.version != row["version"]:
        pytest.skip(f"{of.package}: {of.version or 'not installed'}, and the row is of {row['version']}")
    try:
        again = measure.row(of)
    except ImportError as error:
        pytest.skip(f"{of.package} cannot be imported: {error}")
    for name in ("effective_beta", "noise_std"):
        assert (again[name] == "") == (row[name] == "")
        assert again[name] == "" or float(again[name]) == pytest.approx(float(row[name]), rel=1e-2)
    same = ("place", "settings", "likelihood", "shape", "kl_gradient", "averaged")
    assert {name: again[name] for name in same} == {name: row[name] for name in same}
