"""Faults that are planted in copies of csrc/cuda, compiled by nvcc, and run: what is found?

python -m ptx.planted        prints {fault: [kinds]} as JSON, last
"""

import json
import shutil
import sys

from . import product, targets
from .cuda import Cuda
from .work import CSRC, work

UNITS = ("position.cu", "latent.cu")
# name -> file, what stands there, the fault in its place, the kind of what is found
FAULTS = {
    "nothing": ("position.h", "struct Position {", "struct Position {", None),
    "a bound": ("gather.h", "out[j] = j * lanes < n ?", "out[j] = j * lanes <= n ?", "fatal"),
    "a race": ("latent.cu", "static_cast<T*>(job.out)[at.block] =", "static_cast<T*>(job.out)[0] =", "global-race-waw"),
    "a missing barrier": (
        "launch.h", "    __syncthreads();\n    run_phases<K, P + 1>", "    run_phases<K, P + 1>", "shared-race"),
    "an uninitialised read": (
        "latent.cu", "shared.of[at.thread] = sum;", "if (at.thread < job.cols) shared.of[at.thread] = sum;",
        "shared-uninitialised-read"),
}  # fmt: skip


def main():
    found = {}
    for i, fault in enumerate(FAULTS):
        machine = Cuda(planted(fault, f"planted_{i}"))
        machine.attach()
        for _ in range(3):  # each under other schedules
            machine.forget()
            try:
                product.cases("cuda", "cpu")["levels"]()
            except RuntimeError as error:  # the product's, of a launch that could not go on
                print(f"{fault}: {str(error).splitlines()[0]}")
            machine.reset_tickets()
        found[fault] = sorted(machine.kinds())
    print(json.dumps(found))
    return 0


def planted(fault, name):
    """The folder with the PTX."""
    file, there, wrong, _ = FAULTS[fault]
    csrc = work(f"{name}_source", "csrc")
    shutil.rmtree(csrc, ignore_errors=True)
    shutil.copytree(CSRC, csrc)
    source = csrc / "cuda" / file
    text = source.read_text()
    assert text.count(there) == 1, f"{there} is not once in {file}"
    source.write_text(text.replace(there, wrong))
    return targets.ptx(csrc, name, UNITS)


if __name__ == "__main__":
    sys.exit(main())
