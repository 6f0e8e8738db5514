"""backends/self_test.py asks the simulated kernels whether they are right. "auto" takes a GPU's kernels only
after this test.

    python -m ptx.proof cuda|triton
"""

import sys

from . import report, work
from .open import open_machine


def main(backend):
    from vae_kernels import backends
    from vae_kernels.backends.self_test import disagreement

    machine, name = open_machine(backend)
    machine.case = "proof"
    said = disagreement(backends.choose(name, ()), "cpu")
    if said:
        print("DISAGREEMENT", said)
    out = work.result(f"proof_{backend}")
    summary = machine.write(out, disagreement=said)
    before = "the product says: " + ("wrong" if said else "right")
    return report.last(f"proof {backend}", before, summary, int(said is not None), out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
