"""Fuzzing that is led by coverage (atheris, libFuzzer): python tests/soak/guided.py SECONDS [arguments|data|resume ...]

fuzz_arguments.py and fuzz_readers.py make the inputs, from the bytes of the fuzzer in place of a seed. The fuzzer keeps
an input that reaches a new line of vae_kernels, of numpy's reader or of zipfile, and changes this input further. Each
kind of input adds a line to bench/results/reliability/fuzz.csv. A wrong answer is printed, and its bytes are in a file.
The program needs `pip install atheris`.
"""

import random
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "support")]
with atheris.instrument_imports(include=["vae_kernels", "numpy.lib._format_impl", "zipfile"]):
    import fuzz_arguments
    import fuzz_readers
from fuzz import record  # noqa: E402 - after the imports that atheris instruments


class Guided(random.Random):
    """A generator of random numbers that gives the bytes of the fuzzer, and zeros after the last byte."""

    def __new__(cls, data):
        return super().__new__(cls)

    def __init__(self, data):
        self.bytes = atheris.FuzzedDataProvider(data)

    def getrandbits(self, k):
        return int.from_bytes(self.bytes.ConsumeBytes(-(-k // 8)).ljust(-(-k // 8), b"\0"), "little") & ((1 << k) - 1)

    def random(self):
        return self.getrandbits(32) / 2**32


def target(what, folder):
    """A function that takes a generator of random numbers, and gives what is wrong with the answer, or None."""
    here = folder / "here"
    here.mkdir()
    if what == "arguments":
        return lambda rng: fuzz_arguments.one(rng)[1]
    if what == "data":
        return lambda rng: fuzz_readers.data(rng, here)
    whole = fuzz_readers.finished(folder)
    return lambda rng: fuzz_readers.resume(rng, here, whole)


def fuzz(what, seconds):
    """Runs the fuzzer. libFuzzer ends the process."""
    with tempfile.TemporaryDirectory() as folder:
        judge = target(what, Path(folder))

        def test(data):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wrong = judge(Guided(data))
            if wrong:
                raise AssertionError(wrong)

        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", "-seed=1", "-rss_limit_mb=0"], test)
        atheris.Fuzz()


def main(seconds, targets):
    for what in targets or ("arguments", "data", "resume"):
        done = subprocess.run([sys.executable, __file__, seconds, "--in-here", what], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.stderr[-5000:])
        runs, took = re.search(r"Done (\d+) runs in (\d+) second", done.stderr).groups()
        record(f"{what}, led by coverage", 1, int(runs), 0, int(took))


if __name__ == "__main__":
    if sys.argv[2:3] == ["--in-here"]:
        fuzz(sys.argv[3], int(sys.argv[1]))
    else:
        main(sys.argv[1], sys.argv[2:])
