"""`vae-kernels doctor` on runs of toy data, and what `train` says of illness while it runs."""

import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from training import doctor, small, train

import vae_kernels as vk
from vae_kernels.cli import checkpoint


def test_the_doctor_judges_a_run(finished):
    result = doctor(finished, "--samples", 20)
    assert result.exit_code in (0, 1) and "20 held-out samples" in result.output, result.output
    for symptom in ("posterior collapse", "holes", "beta far from 1", "blur"):
        assert symptom in result.output
    levels = re.findall(r"│ (not found|suspected|found) +│", result.output)
    assert len(levels) > 5 and levels == sorted(levels, key=("found", "suspected", "not found").index)
    assert (result.exit_code == 1) == ("found" in levels) == result.output.startswith("ill: ")


@pytest.mark.full
def test_the_doctor_leaves_a_report(finished, tmp_path):
    said = " ".join(doctor(finished, "--samples", 20).output.split())
    assert f"report with figures: {finished / 'report.html'}" in said
    page = (finished / "report.html").read_text()
    assert page.startswith("<!doctype html>") and ">top<" in page
    assert page.count("<figure>") == 5 + 4 + 3  # pictures, curves, the others
    assert "<h3>Loss of each epoch</h3>" in page and '<th scope="row">--latent-dim</th><td>2</td>' in page
    assert '<th scope="row">seed</th><td>0</td>' in page and "300x1x8x8 uint8, crc32" in page
    result = doctor(finished, "--samples", 20, "--html", tmp_path / "mine.html")
    assert f"figures: {tmp_path / 'mine.html'}" in " ".join(result.output.split())
    assert (tmp_path / "mine.html").read_text() == page
    result = doctor(finished, "--samples", 20, "--html", tmp_path / "no" / "folder.html")
    assert result.exit_code == 2 and "error: cannot write" in result.stderr and result.stderr.count("\n") == 1


def test_the_doctor_judges_a_learned_prior(blobs, tmp_path, no_pictures):
    train(*small(blobs, tmp_path, "--name", "mog", "--epochs", 1, "--prior", "mog"))
    result = doctor(tmp_path / "mog")
    assert result.exit_code in (0, 1) and "rate under one bit" in result.output
    assert "no KL by dimension" in (tmp_path / "mog" / "report.html").read_text()


def test_a_run_says_what_is_ill_while_it_trains(blobs, tmp_path, no_pictures):
    said = train(*small(blobs, tmp_path, "--beta", 1000, "--epochs", 3, "--name", "sick"))
    lines = [line for line in said.splitlines() if "ILL" in line]
    assert len(lines) == 3 and lines[-1].endswith("ILL: posterior collapse: 0 latents active, KL 0.00 nats")
    assert f"vae-kernels doctor {tmp_path / 'sick'}" in said
    well = train(*small(blobs, tmp_path, "--epochs", 20, "--lr", 0.005, "--name", "well"))
    first, *_, last = re.findall(r"^ +\d+ .*/2.*$", well, re.MULTILINE)
    assert "ILL" in first and "ILL" not in last  # by then the latents say more than a bit


@pytest.mark.full
def test_grey_pixels_are_no_log_likelihood_in_train_and_doctor(blobs, tmp_path, no_pictures):
    binary = tmp_path / "binary.npy"
    np.save(binary, np.load(blobs)["x"] > 127)
    for data, name, grey in ((blobs, "grey", True), (binary, "binary", False)):
        said = train(*small(data, tmp_path, "--epochs", 1, "--name", name))
        assert ("of the values are grey, neither 0 nor 1: under bernoulli" in said) == grey
        assert ("after 1 epochs (a cross entropy of grey pixels, no log-likelihood)\n" in said) == grey
        report = " ".join(doctor(tmp_path / name, "--samples", 20).output.split())
        assert ("cross entropy" in report) == grey
    said = train(*small(blobs, tmp_path, "--epochs", 1, "--name", "density", "--likelihood", "continuous_bernoulli"))
    assert "of the values are grey" not in said and "cross entropy" not in said


def test_a_glance_draws_nothing_of_the_trainings_noise(blobs):
    from vae_kernels.cli.alarm import glance

    x = torch.from_numpy(np.load(blobs)["x"])[:, None]
    vae, before = vk.mlp_vae((1, 8, 8), 2), torch.get_rng_state()
    kl, active = glance(vae, x)
    assert torch.equal(torch.get_rng_state(), before) and active in (0, 1, 2)
    assert kl == pytest.approx(vk.gaussian_kl(*vae.encode(x[:256]), reduction="mean").item(), rel=1e-5)


def test_the_doctor_sees_a_collapse(finished, tmp_path):
    """The same run, with an encoder that says nothing."""
    run = tmp_path / "sick"
    shutil.copytree(finished, run)
    weights = load_file(run / checkpoint.MODEL)
    for name in weights:
        if name.startswith("encoder"):
            weights[name].zero_()
    save_file(weights, run / checkpoint.MODEL)
    result = doctor(run)
    assert result.exit_code == 1 and "0 of 2 latents active" in " ".join(result.output.split()), result.output


def test_the_doctor_refuses_what_is_no_run(finished, tmp_path):
    run = tmp_path / "broken"
    shutil.copytree(finished, run)
    (run / checkpoint.MODEL).write_bytes(b"no weights")
    for folder in (tmp_path, run):
        result = doctor(folder)
        assert result.exit_code == 2 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


# ---------------------------------------------------------------- what is seen before and after a training


@pytest.fixture
def columns(tmp_path):
    """A table whose columns have scales from 1e-3 to 1e5."""
    values = np.random.default_rng(0).normal(size=(200, 5)) * [1e-3, 1, 1e3, 1e5, 1]
    np.save(tmp_path / "t.npy", values)
    return tmp_path / "t.npy"


def one_line(text):
    return " ".join(text.split())


def test_columns_of_different_scales_are_said_before_and_after(columns, tmp_path, no_pictures):
    options = "--data", columns, "--out", tmp_path, "--likelihood", "gaussian", "--epochs", 1, "--name", "wide"
    said = one_line(train(*options, "--latent-dim", 2, "--threads", 1, code=2))
    advice = r"values between -[\d.]+e\+05 and [\d.]+e\+05; column 3 has a range of [\d.]+e\+05, column 0 has 0.00\d+: "
    advice += "standardise each column first"
    assert re.search(f"note .*t.npy has {advice}", said), said
    assert re.search(f"error: the loss is no longer finite in epoch 1; .*t.npy has {advice}", said)
    assert "smaller --lr" not in said
    result = doctor(tmp_path / "wide")
    assert result.exit_code == 1 and result.output.count("\n") == 1
    start = f"ill: {tmp_path / 'wide'} holds no finite model, and has finished no epoch: the KL of sample "
    assert result.output.startswith(start) and re.search(advice, result.output)
    assert not (tmp_path / "wide" / "report.html").exists()


def test_a_run_with_a_weight_that_is_nan(finished, tmp_path):
    run = tmp_path / "sick"
    shutil.copytree(finished, run)
    weights = load_file(run / checkpoint.MODEL)
    weights["decoder.0.weight"][2, 1] = float("nan")
    save_file(weights, run / checkpoint.MODEL)
    said = doctor(run).output
    assert said.startswith(f"ill: {run} holds no finite model after its 1 epochs: 1 of the ")
    assert (
        "elements of the parameter decoder.0.weight are not finite: nan; the loss was finite after each epoch; scale"
        in said
    )


def test_columns_of_one_scale_need_no_word(tmp_path, no_pictures):
    np.save(tmp_path / "t.npy", np.random.default_rng(0).normal(size=(100, 5)))
    options = "--data", tmp_path / "t.npy", "--out", tmp_path, "--likelihood", "gaussian", "--epochs", 1
    assert "note" not in train(*options, "--latent-dim", 2, "--threads", 1)


def test_values_up_to_255_are_said(blobs, tmp_path, no_pictures):
    np.save(tmp_path / "f.npy", np.load(blobs)["x"].astype(np.float64))
    options = "--likelihood", "laplace", "--epochs", 1, "--name", "f"
    said = one_line(train(*small(tmp_path / "f.npy", tmp_path, *options)))
    assert re.search(r"note .*f.npy has values between 0 and 25\d: divide x by 255", said)
    assert "divide x by 255" in one_line(doctor(tmp_path / "f").output)


@pytest.mark.full
def test_a_training_that_has_just_begun(blobs, tmp_path, no_pictures, monkeypatch):
    """One report once said to raise beta and to lower beta, and to fit the variance that was trained."""
    monkeypatch.setenv("COLUMNS", "250")  # so that no sentence is broken
    for likelihood in ("bernoulli", "gaussian"):
        options = "--likelihood", likelihood, "--epochs", 3, "--name", likelihood
        train(*small(blobs, tmp_path, *options))
        said = one_line(doctor(tmp_path / likelihood).output)
        assert "train longer, before anything else" in said
        for advice in ("raise beta", "lower beta", "fit the variance", "free_bits"):
            assert advice not in said


def test_an_epoch_says_that_the_mean_alone_is_better(blobs, tmp_path, no_pictures):
    said = train(*small(blobs, tmp_path, "--epochs", 1, "--lr", 1e-9, "--beta", 0.5))
    assert "ILL" in said
    from vae_kernels.cli.alarm import warning

    assert (
        warning(5.0, 3, 1.0, 210.0, 200.0) == "  ILL: no better than the mean of each feature, which has -ELBO 200.00"
    )
    assert warning(5.0, 3, 1.0, 190.0, 200.0) == warning(5.0, 3, 1.0) == ""


def test_the_doctor_compares_train_and_held_out_images(blobs, tmp_path, no_pictures):
    train(*small(blobs, tmp_path, "--epochs", 4, "--name", "run"))
    result = one_line(doctor(tmp_path / "run").output)
    assert "nats on train data" in result and "on held-out data" in result
    (tmp_path / "run" / checkpoint.METRICS).write_text("epoch,test_neg_elbo_nats\n1,much\n")
    result = doctor(tmp_path / "run")
    assert result.exit_code == 2 and "metrics.csv cannot be read as the metrics of a run" in result.stderr
