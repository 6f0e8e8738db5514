"""ctgan's own tests of TVAE, plain and with each TVAE attached, and our own tests: `python -m soak.ctgan` in tests/.

`--source FOLDER` is a checkout of ctgan's repository, https://github.com/sdv-dev/CTGAN, because no file of a package
registry has these tests. Without it, git fetches the tag of the installed version into a temporary folder. ctgan is
under the Business Source License: its tests are run and not kept. A test that fails with attach() and passes without it
is an error.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from .scvi_tools import TESTS, outcomes

FILES = ["tests/unit/synthesizer/test_tvae.py", "tests/integration/synthesizer/test_tvae.py"]

PLUGIN = '''
"""Attaches each TVAE when its training starts. A test that puts a mock in the place of the loss keeps the mock."""
import os
from ctgan import TVAE
from vae_kernels.integrations.ctgan import attach

plain = TVAE.fit

def fit(self, *args, **kwargs):
    TVAE.fit = plain  # attach() takes the method of the class
    try:
        try:
            attach(self)
            line = "attached"
        except ValueError as error:
            line = f"refused: {error}"
        with open(os.environ["ATTACHED"], "a") as file:
            print(line, file=file)
        return self.fit(*args, **kwargs)
    finally:
        TVAE.fit = fit

TVAE.fit = fit
'''


def main(source):
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if source is None:
            source, tag = work / "source", f"v{metadata.version('ctgan')}"
            command = ["git", "clone", "--quiet", "--depth", "1", "--branch", tag]
            if subprocess.run([*command, "https://github.com/sdv-dev/CTGAN", str(source)]).returncode:
                print("skipped: git could not fetch ctgan's tests")
                return 0
        before = [Path(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
        (work / "attach_all.py").write_text(PLUGIN)
        log = work / "attached.txt"
        plain = outcomes(source, before, FILES, work, "plain")
        attached = outcomes(source, before, ["-p", "attach_all", *FILES], work, "attached", ATTACHED=str(log))
        lines = log.read_text().splitlines() if log.exists() else []
        ours = outcomes(TESTS.parent, before, ["--full", str(TESTS / "models/test_ctgan.py")], work, "ours")
    worse = sorted(t for t, outcome in attached.items() if outcome == "failed" and plain.get(t) != "failed")
    for name, run in {"plain": plain, "attached": attached, "ours": ours}.items():
        print(name, {outcome: list(run.values()).count(outcome) for outcome in ("passed", "failed", "skipped")})
    print("fail plain:", *sorted(t for t, outcome in plain.items() if outcome == "failed"), sep="\n  ")
    print("fail with attach() only:", *worse, sep="\n  ")
    for line in sorted(set(lines)):
        print(f"{lines.count(line):5} {line}")
    return int(bool(worse) or "failed" in ours.values() or "attached" not in lines or "passed" not in plain.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, help="a checkout of ctgan's repository")
    sys.exit(main(parser.parse_args().source))
