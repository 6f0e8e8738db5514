"""From a run to a use: `vk.load_run`, and the commands encode, sample and reconstruct. A run goes on where its data lie
now."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training import doctor, refusal, small, train
from typer.testing import CliRunner

import vae_kernels as vk
from vae_kernels import cli


def run(*options, code=0):
    result = CliRunner().invoke(cli.app(), [*map(str, options)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stderr if code else result.output


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "counts.npy"
    np.save(path, np.random.default_rng(0).poisson(3, (60, 7)))
    return path


# a likelihood of each kind, and each prior that has parameters
SETTINGS = {
    "bernoulli": (),
    "gaussian": ("--likelihood", "gaussian"),
    "laplace": ("--likelihood", "laplace", "--model", "conv"),
    "zinb": ("--likelihood", "zinb"),
    "mog": ("--prior", "mog", "--components", 3),
    "vamp": ("--prior", "vamp", "--components", 4),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_is_loaded_as_it_was_saved(name, blobs, counts, tmp_path, no_pictures):
    place = counts if name == "zinb" else blobs
    train(*small(place, tmp_path, "--name", "run", "--epochs", 1, *SETTINGS[name]))
    found = vk.load_run(tmp_path / "run")
    saved = load_file(tmp_path / "run" / "model.safetensors")
    assert saved.keys() == found.vae.state_dict().keys()
    assert all(torch.equal(saved[key], value) for key, value in found.vae.state_dict().items())
    assert not found.vae.training and found.vae.sample(3).shape[1:] == found.data().images.shape[1:]
    assert found.metrics["test_neg_elbo_nats"] and found.config["latent_dim"] == 2
    likelihood = name if name in ("gaussian", "laplace", "zinb") else "bernoulli"
    assert found.vae.likelihood == likelihood
    test = found.data().images[found.data().split()[1]]
    torch.manual_seed(0)
    assert found.vae.loss(test).isfinite()


def test_data_that_lie_elsewhere(finished, blobs, tmp_path):
    here = shutil.copytree(finished, tmp_path / "run")
    config = json.loads((here / "config.json").read_text())
    (here / "config.json").write_text(json.dumps(config | {"data": str(tmp_path / "gone.npz")}))
    assert "--data says where they lie now" in refusal("--resume", here, "--epochs", 2)
    assert "--data says where they lie now" in doctor(here).stderr
    with pytest.raises(ValueError, match="place says where they lie now"):
        vk.load_run(here).data()
    moved = shutil.copy(blobs, tmp_path / "other.npz")
    assert torch.equal(vk.load_run(here).data(moved).images, vk.load_run(finished).data().images)
    assert doctor(here, "--data", moved).exit_code in (0, 1)
    np.savez(tmp_path / "changed.npz", x=np.load(blobs)["x"][::-1])
    assert "its values differ" in refusal("--resume", here, "--epochs", 2, "--data", tmp_path / "changed.npz")
    assert "its values differ" in doctor(here, "--data", tmp_path / "changed.npz").stderr
    train("--resume", here, "--epochs", 2, "--data", moved)
    assert json.loads((here / "config.json").read_text())["data"] == str(moved)
    assert doctor(here).exit_code in (0, 1)


def test_encode(finished, blobs, tmp_path):
    found = vk.load_run(finished)
    expected = found.vae.encode(found.data().images)[0].detach().numpy()
    for out in (tmp_path / "z.npy", tmp_path / "z.csv"):
        run("encode", finished, "--out", out)
        z = np.load(out) if out.suffix == ".npy" else np.loadtxt(out, delimiter=",", skiprows=1)
        np.testing.assert_allclose(z, expected, rtol=1e-6)
    np.save(tmp_path / "more.npy", np.load(blobs)["x"][:5])
    run("encode", finished, "--data", tmp_path / "more.npy", "--out", tmp_path / "z.npy")
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), expected[:5], rtol=1e-5)


def test_sample_and_reconstruct(finished, tmp_path):
    found = vk.load_run(finished)
    run("sample", finished, "-n", 5, "--seed", 3, "--out", tmp_path / "s.npy")
    expected = found.vae.sample(5, generator=torch.Generator().manual_seed(3))
    assert np.array_equal(np.load(tmp_path / "s.npy"), expected)
    run("reconstruct", finished, "-n", 4, "--out", tmp_path / "r.npy")
    np.testing.assert_allclose(np.load(tmp_path / "r.npy"), found.vae.reconstruct(found.data().images[:4]), rtol=1e-6)
    for command in ("sample", "reconstruct"):
        run(command, finished, "--out", tmp_path / f"{command}.png")
        assert (tmp_path / f"{command}.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_is_scaled_as_in_the_training(tmp_path, no_pictures):
    x = np.random.default_rng(0).standard_normal((50, 3)) * [1, 30, 5] + 4
    np.savetxt(tmp_path / "t.csv", x, delimiter=",")
    settings = ("--likelihood", "gaussian", "--standardise", "--name", "run", "--epochs", 1)
    train(*small(tmp_path / "t.csv", tmp_path, *settings))
    found = vk.load_run(tmp_path / "run")
    np.savetxt(tmp_path / "few.csv", x[:5], delimiter=",")
    assert torch.equal(found.read(tmp_path / "few.csv"), found.data().images[:5])
    np.savetxt(tmp_path / "other.csv", x[:, :2], delimiter=",")
    with pytest.raises(ValueError, match="has 2 columns, expected 3"):
        found.read(tmp_path / "other.csv")


def test_what_is_no_run(tmp_path, finished, blobs, monkeypatch):
    with pytest.raises(ValueError, match="is not a folder that vae-kernels train has made"):
        vk.load_run(tmp_path / "nope")
    assert "nope is not a folder" in run("encode", tmp_path / "nope", code=2)
    assert "expected a name that ends in .npy, .csv" in run("encode", finished, "--out", tmp_path / "z.txt", code=2)
    np.save(tmp_path / "a.npy", np.zeros((5, 9), np.float32))
    assert "rows of shape (9,), expected (1, 8, 8)" in run("encode", finished, "--data", tmp_path / "a.npy", code=2)
    broken = shutil.copytree(finished, tmp_path / "run")
    (broken / "model.safetensors").write_bytes(b"{}")
    with pytest.raises(ValueError, match="cannot be read as a run"):
        vk.load_run(broken)
    monkeypatch.setattr("vae_kernels.cli.run.missing", lambda: ["safetensors"])
    with pytest.raises(ImportError, match=r"vk.load_run needs safetensors; get it with: pip install"):
        vk.load_run(finished)


def test_the_options_of_images_are_those_of_the_run(tmp_path, no_pictures):
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (10 + i, 12, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    train(*small(tmp_path, tmp_path / "out", "--size", 8, "--grey", "--name", "run", "--epochs", 1))
    found = vk.load_run(tmp_path / "out" / "run")
    assert (found.config["size"], found.config["colour"]) == (8, "grey")
    assert found.read(tmp_path).shape == (8, 1, 8, 8)
    train("--resume", tmp_path / "out" / "run", "--epochs", 2)
    assert "--colour" in refusal("--resume", tmp_path / "out" / "run", "--epochs", 3, "--rgb")
    assert "got both" in refusal("--data", tmp_path, "--rgb", "--grey")
