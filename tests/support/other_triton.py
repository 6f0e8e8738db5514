"""Runs a module of this folder in a child process without Triton's interpreter.

The child uses the installed Triton, or the Triton in the folder that the environment variable TRITON_PATH names.
"""

import json
import os
import subprocess
import sys

from places import SUPPORT


def run(module, *arguments):
    """Runs `python module arguments`, and gives the JSON that it prints."""
    path = [p for p in (os.environ.get("TRITON_PATH"), os.environ.get("PYTHONPATH")) if p]
    env = os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, str(SUPPORT / module), *map(str, arguments)]
    done = subprocess.run(command, cwd=SUPPORT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
