"""`import vae_kernels` imports little beside torch. What is heavy or rarely used is imported when it is first used."""

import importlib
import json
import pickle
import subprocess
import sys

import pytest
import torch
from places import child

import vae_kernels as vk
from vae_kernels.backends import choice
from vae_kernels.core import later

# Each takes a tenth of a second or more, or belongs to an extra that may not be installed.
HEAVY = "jinja2", "matplotlib", "onnxscript", "pandas", "PIL", "pyro", "rich", "scipy", "scvi", "sklearn"
HEAVY += "torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.onnx", "triton", "typer"
OURS = tuple(f"vae_kernels.{name}" for name in ("auditing", "cli", "doctor", "integrations", "timing"))


def after(code):
    """The names of the modules that a new process has after this code, beyond those of `import torch`."""
    before = "import json, sys, torch\nbefore = set(sys.modules)\n"
    code = f"{before}{code}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", code], env=child(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def below(modules, folders):
    return [name for name in modules if name.startswith(tuple(f"{folder}." for folder in folders)) or name in folders]


# Not marked `full`, though a new process imports torch: a new import at the top of one file breaks the promise.
def test_an_import_and_a_loss_import_nothing_heavy():
    loss = "z, kl = vk.sample_kl(*torch.zeros(2, 8, 4, requires_grad=True))\n"
    loss += "vk.fused_elbo(z, torch.rand(8, 4), kl=kl).backward()"
    modules = after(f"import vae_kernels as vk\nvk.available_backends\n{loss}")
    assert "vae_kernels.functional" in modules
    assert not below(modules, HEAVY + OURS)


@pytest.mark.full  # a new process imports torch
def test_what_is_left_for_later_comes_when_it_is_used():
    code = """
import pickle
import vae_kernels as vk
assert {"audit", "diagnose", "load_run", "doctor", "fused_elbo"} <= set(dir(vk))
assert not vars(vk).keys() & {"audit", "diagnose", "load_run", "auditing", "doctor", "cli"}
assert pickle.loads(b"cvae_kernels\\ndiagnose\\n.") is vk.diagnose is vk.doctor.diagnose
from vae_kernels import audit, load_run
assert vk.audit is audit is vk.auditing.audit and vars(vk)["load_run"] is load_run
assert pickle.loads(pickle.dumps(vk.audit)) is vk.audit
"""
    assert not below(after(code), HEAVY)


def test_every_name_that_is_left_for_later_is_public_and_there():
    for name, place in later.FUNCTIONS.items():
        assert name in vk.__all__
        assert getattr(vk, name) is getattr(importlib.import_module(f"vae_kernels.{place}"), name)
    for name in later.FOLDERS:
        assert getattr(vk, name) is importlib.import_module(f"vae_kernels.{name}")
    assert {*vk.__all__, *later.FOLDERS} <= set(dir(vk))


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'vae_kernels' has no attribute 'fused_elob'"):
        _ = vk.fused_elob
    with pytest.raises(ImportError, match="fused_elob"):
        exec("from vae_kernels import fused_elob")
    assert not hasattr(vk, "__wrapped__") and not hasattr(vk, "auditting")


def test_every_public_class_is_pickled_by_its_public_name():
    for name in vk.__all__:
        if isinstance(public := getattr(vk, name), type):
            assert f"cvae_kernels\n{name}\n".encode() in pickle.dumps(public, protocol=0)


@pytest.mark.full  # torch's decorator imports torch._dynamo
def test_the_mark_of_a_constant_is_that_of_torch():
    """choice.py sets the mark itself: torch's decorator imports torch._dynamo."""

    def theirs(device):
        return device

    marks = vars(torch.compiler.assume_constant_result(theirs))
    assert marks and all(vars(f) == marks for f in (choice._not_built_for, choice._proved))


@pytest.mark.full  # it compiles
def test_a_compiler_does_not_trace_a_constant():
    calls = []

    @choice._constant
    def asked(device):
        calls.append(device)  # a compiler that traces this line replays it in each call
        return len(calls) > 100

    @torch.compile(fullgraph=True, backend="eager")
    def f(x):
        return -x if asked(0) else x + 1

    x = torch.ones(3)
    assert torch.equal(f(x), x + 1) and torch.equal(f(x), x + 1)
    assert len(calls) == 1
