"""Windows and macOS lack modules and names that Python has on Linux. vae_kernels needs none of them."""

import ast
import ctypes
import importlib.util
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from places import ROOT, SUPPORT

from vae_kernels.cli import reading
from vae_kernels.cli.data import load

PACKAGE = Path(importlib.util.find_spec("vae_kernels").origin).parent
SOURCES = [path for place in (PACKAGE, ROOT / "bench", ROOT / "examples") for path in sorted(place.rglob("*.py"))]
SOURCES += [path for path in [ROOT / "setup.py"] if path.exists()]


def opens_text(call):
    """Whether this call opens a file as text."""
    arguments = call.args
    if isinstance(call.func, ast.Attribute):
        if call.func.attr in ("read_text", "write_text"):
            return True
        arguments = [None, *arguments]  # path.open(mode), but open(path, mode)
    if "open" not in (getattr(call.func, "attr", None), getattr(call.func, "id", None)):
        return False
    mode = arguments[1] if len(arguments) > 1 else ast.Constant("r")
    mode = next((keyword.value for keyword in call.keywords if keyword.arg == "mode"), mode)
    return isinstance(mode, ast.Constant) and set(str(mode.value)) <= set("rwxat+")


def without_encoding(source):
    """The lines of this source that open a file as text in the encoding of the system. On Windows that is not UTF-8."""
    if not re.search(r"\bopen\(|_text\(", source):  # most files: a parse takes a hundred times longer
        return []
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and opens_text(node)]
    return [call.lineno for call in calls if "encoding" not in {keyword.arg for keyword in call.keywords}]


def test_every_text_file_has_an_encoding():
    found = {path.name: without_encoding(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source, lines",
    [
        ("open(a)\nopen(a, 'w')\nopen(a, mode='a+')\na.open()\na.open('w')\na.read_text()\na.write_text(b)", 7),
        ("open(a, encoding='utf-8')\nopen(a, 'rb')\nopen(a, mode='wb')\na.open('rb')\nImage.open(a)\ngzip.open(a)", 0),
    ],
)
def test_a_text_file_without_an_encoding_is_found(source, lines):
    assert without_encoding(source) == list(range(1, lines + 1))


@pytest.mark.full  # half a minute: a process that imports everything and trains
def test_everything_works_without_what_only_linux_has(tmp_path):
    """The process imports a copy of the package that has no compiled library. Its output goes to a pipe in the code
    page of Windows."""
    ignore = shutil.ignore_patterns("*.so", "*.reason.txt", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "site" / "vae_kernels", ignore=ignore)
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": str(tmp_path / "site"), "PYTHONIOENCODING": "cp1252", "PYTHONWARNDEFAULTENCODING": "1"}
    (tmp_path / "runs").mkdir()
    command = [sys.executable, str(SUPPORT / "other_system.py"), str(tmp_path / "runs")]
    r = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, encoding="cp1252")
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]
    names = {path.relative_to(PACKAGE.parent).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py")}
    names = {name.removesuffix("/__init__").replace("/", ".") for name in names if not name.endswith("/__main__")}
    left_out = names - set(r.stdout.splitlines()[-1].split()) - {"vae_kernels"}
    # modules whose package is missing in this process
    assert all(name.startswith(("vae_kernels.backends.triton", "vae_kernels.integrations.")) for name in left_out)
    assert "gr\N{LATIN SMALL LETTER O WITH DIAERESIS}\N{LATIN SMALL LETTER SHARP S}e \\u0394" in r.stdout


def test_windows_says_how_much_memory_there_is(monkeypatch):
    def fill(status):
        """As kernel32 does: MEMORYSTATUSEX begins with its own size, and has the memory in its third field."""
        length, *_ = struct.unpack("<II7Q", bytes(status))
        status[1] = 123 << 30
        return length == struct.calcsize("<II7Q")

    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=SimpleNamespace()), raising=False)
    monkeypatch.setattr(ctypes.windll.kernel32, "GlobalMemoryStatusEx", fill, raising=False)
    assert reading.memory() == 123 << 30
    monkeypatch.setattr(ctypes.windll.kernel32, "GlobalMemoryStatusEx", lambda status: 0)
    with pytest.raises(OSError, match="memory"):
        reading.memory()


def test_images_have_one_order_on_every_system(tmp_path, monkeypatch):
    """Paths of Windows are ordered without regard to the case. The checksum of the data, and the split, need one order
    everywhere."""
    for name, value in (("a", 10), ("B", 20), ("c", 30)):
        Image.new("L", (2, 2), value).save(tmp_path / f"{name}.png")
    monkeypatch.setattr(Path, "__lt__", lambda a, b: str(a).lower() < str(b).lower())
    assert load(tmp_path, "bernoulli").images[:, 0, 0, 0].tolist() == [20, 10, 30]
