"""What `import vae_kernels` leaves for later: the functions and folders that most programs never use.

    vae_kernels.audit        # imports vae_kernels.auditing now, and keeps the function
    vae_kernels.doctor       # imports the folder now

Every public class is imported at once: a pickle names it, and a compiled graph may make one.
"""

import importlib
import sys
from typing import Any

from . import moved

FUNCTIONS = {"audit": "auditing", "diagnose": "doctor", "load_run": "cli.run"}
"""{a public function: the module that has it}"""
FOLDERS = frozenset({"auditing", "cli", "doctor", "integrations"})

_PACKAGE = __name__.partition(".")[0]


def attribute(name: str) -> Any:
    """The attribute of the package that the package does not have yet. Python asks for each name only once."""
    if name in FUNCTIONS:
        value = getattr(importlib.import_module(f"{_PACKAGE}.{FUNCTIONS[name]}"), name)
        setattr(sys.modules[_PACKAGE], name, value)
        return value
    if name in FOLDERS:
        return importlib.import_module(f"{_PACKAGE}.{name}")  # Python sets the attribute
    return moved.at_old_path(name)
