"""The Triton kernels keep their error budget whatever NVIDIA's approximate instructions do: in the interpreter, with
the errors of support/approximate.py."""

import approximate
import cases
import levels
import pytest
import test_mixture as mixture
import test_objective as objective
import torch
from known import BACKENDS
from oracles import ORACLES

import vae_kernels as vk
from vae_kernels import backends

pytestmark = [
    pytest.mark.skipif("triton" not in BACKENDS, reason="triton cannot be run here"),
    pytest.mark.full,  # the interpreter, with an error in each instruction, takes a second a case
]


@pytest.fixture(params=approximate.ERRORS)
def error(request):
    with approximate.instructions(request.param):
        yield request.param


def test_the_errors_are_there():
    """The Bernoulli kernel has e^-|l| from ex2.approx: its values move, and the instructions are exact afterwards."""
    logits = torch.linspace(-3, 3, 64).unsqueeze(1)
    value = lambda: vk.nll(logits, torch.zeros(64, 1), backend="triton")  # noqa: E731
    exact = value()
    for error in approximate.ERRORS:
        with approximate.instructions(error):
            assert not torch.equal(value(), exact), error
        assert torch.equal(value(), exact)


@pytest.mark.parametrize("shape", [(70, 31), (3, 1031)], ids=str)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_objective(error, likelihood, shape):
    x, params = cases.draw(likelihood, shape)
    objective.compare("triton", likelihood, x, params, objective.posterior(shape[0], (5,), torch.float32, True), "none")


@pytest.mark.parametrize("levels_and_positions", [(259, (5, 3)), (7, (50,))], ids=str)
def test_levels(error, levels_and_positions):
    levels.compare("triton", *levels.draw(3, *levels_and_positions))


@pytest.mark.parametrize("size", [(33, 70, 3), (3, 2, 37)], ids=str)
def test_mixture(error, size):
    mixture.compare(mixture.draw(*size), backend="triton")


@pytest.mark.parametrize("layout", objective.SAMPLE_LAYOUTS)
def test_sample(error, layout):
    objective.compare_samples(backends.choose("triton", ()), torch.float32, layout, True)
