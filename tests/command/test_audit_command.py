"""`vae-kernels audit FILE.py:FUNCTION` says what `vk.audit` says. Its exit code says whether something is wrong."""

import io
import sys

import pytest
from rich.console import Console
from screen import screen
from typer.testing import CliRunner

import vae_kernels as vk
from vae_kernels import cli
from vae_kernels.auditing import steps
from vae_kernels.cli import audit as command

CODE = """
import torch
import torch.nn.functional as F
from my_kl import kl


def right(recon, x, mu, logvar):
    return F.binary_cross_entropy_with_logits(recon, x, reduction="sum") / len(x) + kl(mu, logvar)


def averaged(recon, x, mu, logvar):
    return F.binary_cross_entropy_with_logits(recon, x) + kl(mu, logvar)


def of_probabilities(recon, x, mu, logvar):
    return F.binary_cross_entropy(recon, x, reduction="sum") / len(x) + kl(mu, logvar)


def convolved(recon, x, mu, logvar):
    assert x.dim() == 4
    return F.mse_loss(recon, x, reduction="sum") / 2 / len(x) + kl(mu, logvar)


def of_counts(recon, x, mu, logvar):
    return (recon.exp() - x * recon).sum() / len(x) + kl(mu, logvar)


def broken(recon, x, mu, logvar):
    return x @ x


example = torch.zeros(5, 18), torch.zeros(5, 18), torch.zeros(5, 4), torch.zeros(5, 4)


def train_step(loss):
    recon, x, mu, logvar = (t.clone().requires_grad_(t is not example[1]) for t in example)
    loss(recon, x, mu, logvar).backward()
"""
KL = "def kl(mu, logvar):\n    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum() / len(mu)\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_kl.py").write_text(KL)  # beside the file: it is imported as a script would
    (tmp_path / "losses.py").write_text(CODE)
    yield tmp_path / "losses.py"
    for name in ("losses", "my_kl"):
        sys.modules.pop(name, None)


def audit(*options):
    return CliRunner().invoke(cli.app(), ["audit", *map(str, options)])


def test_it_says_what_audit_says(file):
    found = audit(f"{file}:averaged", "--shape", "16x30/5")
    assert found.exit_code == 1 and not found.stderr
    example = command.drawn("16x30/5")
    assert found.output == f"{vk.audit(sys.modules['losses'].averaged, example)}\n"
    assert "effective beta = 30." in found.output and "vk.fused_elbo(recon, x, mu, logvar)\n" in found.output


EXAMPLES = {
    ("right",): "bernoulli likelihood with effective beta = 1.",
    ("of_probabilities", "--probabilities"): "recon is read as probabilities",
    ("convolved", "--shape", "6x3x4x4/5", "--likelihood", "gaussian"): "gaussian likelihood with effective beta = 1.",
    ("of_counts", "--likelihood", "poisson"): "poisson likelihood with effective beta = 1.",
    ("convolved", "--example", "example", "--shape", "6x3x4x4/5"): None,  # its x is another: the loss refuses it
}


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_examples(file, words):
    name, *options = words
    options = options if "--shape" in options else [*options, "--shape", "16x30/5"]
    found = audit(f"{file}:{name}", *options)
    expected = EXAMPLES[words]
    if expected is None:
        assert found.exit_code == 2 and "losses.py:20: AssertionError: " in found.stderr
    else:
        assert found.exit_code == 0 and expected in found.output, found.output + found.stderr


def test_a_module_in_place_of_a_file(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert audit("losses:right", "--shape", "16x30/5").exit_code == 0


def test_a_step_and_a_page(file, monkeypatch):
    monkeypatch.setattr(steps, "SECONDS", 0.05)
    page = file.parent / "audit.html"
    found = audit(f"{file}:right", "--shape", "16x30/5", "--step", "train_step", "--html", page)
    assert found.exit_code == 0, found.output + found.stderr
    assert "In your training step" in found.output and "by Amdahl's law" in found.output
    text = page.read_text(encoding="utf-8")
    assert "<h1>Audit of right</h1>" in text and "In your training step" in text and "effective beta = 1." in text


REFUSALS = {
    ("losses.py",): "loss: got 'losses.py', expected FILE.py:FUNCTION or MODULE:FUNCTION",
    ("gone.py:right",): "loss: gone.py: no such file",
    ("losses.py:wrong",): "losses.py has no wrong",
    ("losses.py:example",): "loss: example is a tuple, expected a function",
    ("losses.py:right", "--shape", "16x30"): "--shape: got '16x30', expected batch x dims / latents",
    ("losses.py:right", "--shape", "0x30/2"): "--shape: got '0x30/2'",
    ("losses.py:right", "--outputs", "2"): "--outputs: got 2, but bernoulli has logits",
    ("losses.py:right", "--probabilities", "--likelihood", "zinb"): "--probabilities: has no effect",
    ("losses.py:right", "--example", "none"): "--example: ",
    ("losses.py:of_probabilities",): "losses.py:16: RuntimeError: all elements of input should be between 0 and 1; is",
    ("losses.py:broken",): "losses.py:29: RuntimeError: ",
    ("losses.py:right", "--step", "none"): "--step: ",
    ("losses.py:right", "--step", "broken"): "step: got a function of (recon, x, mu, logvar), expected one of the loss",
    ("losses.py:right", "--html", "gone/page.html"): "--html: gone/page.html: No such file or directory",
    ("syntax.py:right",): "SyntaxError: ",
    ("fails.py:right",): "fails.py:1: ZeroDivisionError: division by zero\n",
}


@pytest.mark.parametrize("words", REFUSALS, ids=" ".join)
def test_refusals(file, monkeypatch, words):
    monkeypatch.chdir(file.parent)
    (file.parent / "syntax.py").write_text("def right(:\n")
    (file.parent / "fails.py").write_text("1 / 0\n")
    found = audit(*words)
    assert found.exit_code == 2 and found.stderr.startswith("error: ") and found.stderr.count("\n") == 1
    assert REFUSALS[words] in found.stderr


@pytest.mark.parametrize("columns", [80, 100])
def test_a_terminal_gets_a_table(file, columns, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    audit(f"{file}:averaged", "--shape", "16x30/5")
    result = vk.audit(sys.modules["losses"].averaged, command.drawn("16x30/5"))
    out = io.StringIO()
    console = Console(file=out, width=columns, force_terminal=True, color_system="truecolor", soft_wrap=True)
    command.show(result, console)
    lines = screen(out.getvalue().replace("\n", "\r\n"), columns)
    assert " ".join(" ".join(lines).split()) == " ".join(str(result).split())  # the same words, wrapped
    assert "\x1b[1;31m  wrong" in out.getvalue()
    at = next(i for i, line in enumerate(lines) if line.startswith("  wrong  "))
    assert lines[at + 1].startswith("         ") == (columns == 80)  # a sentence goes on under its first word
