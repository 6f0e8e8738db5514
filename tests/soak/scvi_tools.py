"""scvi-tools' own tests of its models, plain and with each trained model attached: `python -m soak.scvi_tools 1.4.2` in
tests/.

pip fetches the source distribution with the tests, and what the tests need, into a temporary folder; nothing is
installed beside it. Another version of scvi-tools than the installed one is fetched too, and runs over the packages
that are installed. A test that fails with attach() and passes without it is an error. With `--ours`, the tests of this
package (tests/models/test_scvi*.py) run with that version in place of scvi-tools' own.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from importlib import metadata
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
MODELS = ["scvi", "scanvi", "linear_scvi", "condscvi", "totalvi", "peakvi", "multivi", "models_with_minified_data"]
FILES = [*(f"tests/model/test_{name}.py" for name in MODELS), "tests/external/poissonvi/test_poissonvi.py"]
# what the tests of 1.4.2 ask for: later versions of mudata and rich break them
NEEDS = ["mudata<0.3.3", "rich<14", "captum"]

PLUGIN = '''
"""Attaches each model of scvi-tools when its training starts."""
import os
from scvi.train import TrainRunner
from vae_kernels.integrations.scvi import attach

started = TrainRunner.__init__

def with_attach(self, model, *args, **kwargs):
    try:
        attach(model)
        line = f"attached {type(model).__name__}"
    except (TypeError, ValueError) as error:
        line = f"refused {type(model).__name__}: {error}"
    with open(os.environ["ATTACHED"], "a") as file:
        print(line, file=file)
    started(self, model, *args, **kwargs)

TrainRunner.__init__ = with_attach
'''


def pip(*args):
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *args], check=True)


def fetched(version, work):
    """The folder of the source distribution, and the folders that go before the installed packages."""
    # the versions >= 1.4.3 ask for Python >= 3.12, but run on 3.11 too
    asked = ["--no-deps", "--ignore-requires-python", f"scvi-tools=={version}"]
    pip("download", *asked, "--no-binary", "scvi-tools", "--dest", str(work))
    (archive,) = work.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(work, filter="data")
    pip("install", "--no-deps", "--target", str(work / "needs"), *NEEDS)
    before = [work / "needs"]
    if metadata.version("scvi-tools") != version:
        pip("install", *asked, "--target", str(work / "scvi"))
        before.append(work / "scvi")
    return archive.with_suffix("").with_suffix(""), before


def outcomes(root, before, args, work, name, **variables):
    """The outcome of each test of a run of pytest: "passed", "failed" or "skipped"."""
    report = work / f"{name}.xml"
    paths = os.pathsep.join(map(str, [*before, work, TESTS.parent]))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *args]
    # the matrices are small: two threads would wait for each other longer than they compute
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **variables}
    subprocess.run(command, cwd=root, env=environment, stdout=subprocess.DEVNULL if name != "ours" else None)
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[f"{case.get('classname')}.{case.get('name')}"] = outcome
    return found


def main(version, ours, only):
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        try:
            root, before = fetched(version, work)
        except subprocess.CalledProcessError as error:
            print(f"skipped: pip could not fetch scvi-tools {version} and what its tests need ({error})")
            return 0
        if ours:
            files = sorted(map(str, (TESTS / "models").glob("test_scvi*.py")))
            found = outcomes(TESTS.parent, before[1:], ["--full", *files], work, "ours")
            return int("failed" in found.values())
        (work / "attach_all.py").write_text(PLUGIN)
        log = work / "attached.txt"
        files = [f for f in FILES if (root / f).exists() and (only is None or only in f)]
        plain = outcomes(root, before, files, work, "plain")
        attached = outcomes(root, before, ["-p", "attach_all", *files], work, "attached", ATTACHED=str(log))
        lines = log.read_text().splitlines() if log.exists() else []
    worse = sorted(t for t, outcome in attached.items() if outcome == "failed" and plain.get(t) != "failed")
    for name, run in {"plain": plain, "attached": attached}.items():
        print(name, {outcome: list(run.values()).count(outcome) for outcome in ("passed", "failed", "skipped")})
    print("fail plain:", *sorted(t for t, outcome in plain.items() if outcome == "failed"), sep="\n  ")
    print("fail with attach() only:", *worse, sep="\n  ")
    for line in sorted(set(lines)):
        print(f"{lines.count(line):5} {line}")
    used = any(line.startswith("attached") for line in lines)
    return int(bool(worse) or not used or "passed" not in plain.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="?", default=metadata.version("scvi-tools"))
    parser.add_argument("--ours", action="store_true", help="the tests of this package, with this version")
    parser.add_argument("--only", help="only the files of scvi-tools' tests with this in their names")
    arguments = parser.parse_args()
    sys.exit(main(arguments.version, arguments.ours, arguments.only))
