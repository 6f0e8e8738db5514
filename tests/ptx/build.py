"""Compiles and links into the work folder: only what has changed, and never in place of a file that is in use."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .work import ROOT

JOBS = int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))


def digest(*parts):
    """A hash of texts and bytes."""
    return hashlib.sha256(b"\0".join(p if isinstance(p, bytes) else str(p).encode() for p in parts)).hexdigest()


def compile_all(units):
    """units: (command, source, output). How many of the outputs were not up to date."""
    with ThreadPoolExecutor(JOBS) as pool:
        return sum(pool.map(lambda unit: _compile(*unit), units))


def link(command, parts, out):
    """`command -o out`, unless the same command has made `out` from the same parts."""
    key, stamp = digest(*command, *(Path(p).read_bytes() for p in parts)), out.with_name(out.name + ".key")
    if not (out.exists() and stamp.exists() and stamp.read_text() == key):
        _run(command, out)
        _write(stamp, key)
    return out


def _compile(command, source, out):
    stamp, full = out.with_name(out.name + ".json"), [*map(str, command), str(source)]
    if out.exists() and stamp.exists():
        old = json.loads(stamp.read_text())
        if old["command"] == full and old["files"] == _contents(old["files"]):
            return False
    deps = _temporary(out.with_name(out.name + ".d"))
    _run([*full, "-MMD", "-MF", str(deps)], out)
    _write(stamp, json.dumps({"command": full, "files": _contents([str(source), *_dependencies(deps)])}))
    deps.unlink(missing_ok=True)
    return True


def _contents(names):
    paths = {name: ROOT / name for name in names}
    return {name: digest(path.read_bytes()) if path.exists() else "" for name, path in paths.items()}


def _dependencies(path):
    return shlex.split(path.read_text().replace("\\\n", " ").split(":", 1)[1]) if path.exists() else []


def _temporary(path):
    """Beside the path: two processes may compile the same at a time."""
    return path.with_name(f"{path.name}.{os.getpid()}")


def _write(path, text):
    _temporary(path).write_text(text)
    os.replace(_temporary(path), path)


def _run(command, out):
    command = [*map(str, command), "-o", str(_temporary(out))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"ptxsim: {shlex.join(command)}\n{done.stdout}{done.stderr}")
    os.replace(_temporary(out), out)
