"""The wheel of pure Python is for every system. A fresh environment gets this wheel, and no compiler is on its PATH."""

import zipfile

import pytest
from fresh import OBJECTIVE, fresh
from places import ROOT
from test_build import backend, copied

if not (ROOT / "setup.py").exists():
    pytest.skip("the tests run without the source tree beside them: there is no setup.py", allow_module_level=True)
pytestmark = pytest.mark.full  # half a minute: a wheel, an environment, a training

MISSING = """
reasons = vk.available_backends()
assert reasons["torch"] is None and "pure Python" in reasons["cpu"] and "pure Python" in reasons["cuda"], reasons
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    r, wheels = backend("build_wheel", copied(tmp_path_factory.mktemp("pure")), VAE_KERNELS_PURE="1")
    assert r.returncode == 0, r.stderr
    (path,) = wheels
    return path


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    return fresh(wheel, tmp_path_factory.mktemp("fresh"))


def test_the_wheel_is_for_every_system(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        (about,) = (z.read(name).decode() for name in names if name.endswith(".dist-info/WHEEL"))
        assert "pure Python" in z.read("vae_kernels/_C.reason.txt").decode()
    assert "Root-Is-Purelib: true" in about and "Tag: py3-none-any" in about
    assert not [name for name in names if name.endswith(".so") or ".data/" in name or name.startswith("csrc")]
    packages = {p.relative_to(ROOT).as_posix() for p in (ROOT / "vae_kernels").rglob("*.py")}
    assert packages == {name for name in names if name.endswith(".py")}


def test_what_is_asked_for_must_fit_together(tmp_path):
    for name, value in (("VAE_KERNELS_PURE", "yes"), ("VAE_KERNELS_CUDA", "1")):
        r, wheels = backend("build_wheel", copied(tmp_path / name), **{"VAE_KERNELS_PURE": "1", name: value})
        assert r.returncode and not wheels and f"{name}={value}" in r.stderr, r.stderr


def test_the_objective_of_an_installation_without_a_compiler(run):
    assert run("python", "-c", OBJECTIVE + MISSING).strip().startswith(str(run.packages))


def test_the_command_of_an_installation_without_a_compiler(run):
    assert "Train and judge" in run("vae-kernels", "--help")
    said = run("vae-kernels", "train", "--epochs", "1", "--no-report")
    assert "test -ELBO" in said
    (metrics,) = (run.folder / "runs").glob("*/metrics.csv")
    header, row = (line.split(",") for line in metrics.read_text(encoding="utf-8").splitlines())
    assert 150 < float(row[header.index("test_neg_elbo_nats")]) < 250  # 543 nats before the training
