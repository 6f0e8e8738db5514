"""The rivals of the benchmarks in bench/ compute what our ops compute, and a rival that does not is refused."""

import importlib
import sys

import pytest
import torch
from places import ROOT

from vae_kernels.timing import contenders

if not (ROOT / "bench").is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no bench/", allow_module_level=True)


@pytest.fixture
def bench(monkeypatch):
    """Imports a module of bench/."""
    monkeypatch.syspath_prepend(str(ROOT))
    for name in [name for name in sys.modules if name.partition(".")[0] == "bench"]:
        monkeypatch.delitem(sys.modules, name)
    return lambda name: importlib.import_module(f"bench.{name}")


@pytest.fixture
def cross_entropy(bench, monkeypatch):
    module = bench("cross_entropy")
    sizes = {"TOKENS": 6, "HIDDEN": 5, "WORDS": 11, "USERS": 4, "ITEMS": 30}
    for name, size in sizes.items():
        monkeypatch.setattr(module, name, size)
    return module


def test_the_cross_entropies(cross_entropy):
    """Every contender passes the check, and has a row."""
    for sizes, rivals, tensors, x in cross_entropy.cases():
        rows = list(cross_entropy.measured(sizes, rivals, tensors, x, 0.0))
        assert [row["name"] for row in rows] == list(rivals) and len(rows) >= 3
        assert all(row["median_us"] > 0 and row["case"] == sizes["case"] for row in rows)


@pytest.mark.parametrize("case", [0, 1])
def test_a_wrong_cross_entropy_is_refused(cross_entropy, case):
    sizes, contenders, tensors, x = list(cross_entropy.cases())[case]
    name, loss = list(contenders.items())[-1]
    with pytest.raises(AssertionError, match="not close"):
        list(cross_entropy.measured(sizes, contenders | {name: lambda *a: 1.01 * loss(*a)}, tensors, x, 0.0))


@pytest.mark.full
def test_keops_is_the_mixture(bench):
    pytest.importorskip("pykeops", reason="KeOps is not installed: pip install pykeops")
    mixture = bench("mixture")
    tensors = mixture.draw(16, 3, 4)
    mixture.check(mixture.keops, tensors)
    with pytest.raises(AssertionError, match="relative error"):
        mixture.check(lambda *inputs: 1.01 * mixture.keops(*inputs), tensors)


@pytest.mark.full
def test_an_option_of_torch_compile_counts_as_a_mode():
    """The option reaches the compiler, and the result stays the same."""
    assert {"default", "cpp_wrapper"} <= set(contenders.known_modes()) <= set(contenders.MODES)
    x = torch.randn(5)
    expected = x.exp().sum()
    for mode in ("default", "cpp_wrapper"):
        torch.testing.assert_close(contenders.compiled(lambda x: x.exp().sum(), mode)(x), expected)
