"""Does the simulator see what it should? Each barrier and each fence of a kernel is taken out, one at a time, and the
call is made again: is anything found, or is the result another one?

    python -m ptx.mutate cuda|triton [case ...]

"not reported" is no fault of the simulator where the instruction orders nothing in this case.
"""

import collections
import sys

import torch

from . import product
from .open import open_machine
from .tables import OPS

TRIES = 3  # at most, each of them under other schedules: the first that sees something is the last


def main(backend, *names):
    machine, called = open_machine(backend)
    cases, total = product.cases(backend, called), collections.Counter()
    for name in names or cases:
        for what, seen, wrong in mutants(machine, cases[name]):
            total[what.split()[0], bool(seen), wrong] += 1
            text = f"SEEN {', '.join(sorted(seen))}" if seen else "not reported"
            print(f"{name}: {what}: {text}; result {'wrong' if wrong else 'same'}", flush=True)
    print(f"mutate {backend}: (instruction, reported, result wrong): times", dict(total))
    return 0


def mutants(machine, run):
    """(instruction, what is found without it, whether the result is another one), for each that ran in run()."""
    start(machine)
    machine.modules.clear()
    before = [t.detach().clone() for t in run()]
    assert not machine.kinds(), machine.findings
    modules = [*{id(m): m for m in machine.modules.values()}.values()]
    for module, hits in [(module, module.hits()) for module in modules]:
        lines = module.text.splitlines()
        for at, (insn, count) in enumerate(zip(module.code, hits, strict=True)):
            line = lines[insn.line - 1] if insn.line else ""
            without = weaker(OPS[insn.op], line)
            if count and without is not None:
                swapped = "\n".join([*lines[: insn.line - 1], without, *lines[insn.line :]])
                machine.swap = {module.text: swapped}
                seen, wrong = attempts(machine, run, before)
                machine.swap = {}
                yield f"{OPS[insn.op]} at line {insn.line} of {function_at(module, at)}", seen, wrong


def weaker(op, line):
    """The line without its barrier, fence or ordering; None where it has none."""
    if op in ("bar", "membar", "fence"):
        return ""
    return line.replace("acq_rel", "relaxed") if op == "atom" and "acq_rel" in line else None


def attempts(machine, run, before):
    seen, wrong = set(), False
    for _ in range(TRIES):
        start(machine)
        try:
            after = run()
        except Exception as error:  # the simulator's, or the product's on what came out
            seen.add(str(error).splitlines()[0][:60])
        else:
            same = [
                torch.equal(a, b) or bool((a.isnan() & b.isnan()).any()) for a, b in zip(after, before, strict=True)
            ]
            wrong |= not all(same)
        seen |= machine.kinds()
        if seen:
            break
    start(machine)
    return seen, wrong


def start(machine):
    machine.forget()
    machine.findings.clear()
    machine.reset_tickets()


def function_at(module, at):
    """The name of the function that has the instruction of this number."""
    return next(n for n, f in module.functions.items() if f.pc is not None and f.pc <= at < f.end)[:60]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
