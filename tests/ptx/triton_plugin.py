"""For pytest: the tests of the backend "triton" through the simulator."""

import os

import pytest

from . import report, work
from .triton import Triton

machine = Triton()
machine.attach()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    os.environ.pop("TRITON_INTERPRET", None)  # conftest.py has set it
    backend = lambda item: getattr(item, "callspec", None) and item.callspec.params.get("backend")  # noqa: E731
    items[:] = work.part([item for item in items if backend(item) in (None, "triton")])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    machine.forget()
    machine.case = item.nodeid


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    report.finish(machine, work.result("triton"), terminalreporter)
