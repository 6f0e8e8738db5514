"""The folders of the source tree, and how a child process finds the modules of the tests."""

import importlib.util
import os
import sys
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
CSRC, DOCS, EXAMPLES = ROOT / "csrc", ROOT / "docs", ROOT / "examples"
CPP = TESTS / "cpp"  # C++ sources of the tests
# The command with which a test runs other tests in a child process. The child does not run in the source tree, because
# the vae_kernels there may have no compiled library.
PYTEST = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]

# Folders whose modules other tests import: helpers, and the tables of cases that several backends go through.
SEARCH = [str(TESTS / folder) for folder in ("support", "kernels", "models", "pytorch")]


def module(path, name=None):
    """The module of a Python file or an extension, by its path. name: of an extension, as it was compiled."""
    spec = importlib.util.spec_from_file_location(name or f"at_{path.stem}", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def child(**variables):
    """The environment of a child process that imports modules of the tests.

    The source tree itself is not on the path of the child, because the vae_kernels there may have no compiled library.
    """
    path = [*SEARCH, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)} | variables
