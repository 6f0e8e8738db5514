"""For pytest: the tests of tests/gpu/test_cuda_host.py through the simulator."""

import os

import cuda_host
import pytest

from . import report, targets, work
from .cuda import Cuda

os.environ[cuda_host.LIBRARY] = str(targets.host())  # the tests build none of their own
machine = Cuda()
cuda_host.load = lambda path: machine.host


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items[:] = work.part(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    machine.forget()
    machine.case = item.nodeid


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    report.finish(machine, work.result("cuda"), terminalreporter)
