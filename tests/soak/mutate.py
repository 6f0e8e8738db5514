"""Mutation: makes one small change at a time in the kernels and formulas, and checks that a test then fails.

    python tests/soak/mutate.py                 # all groups; continues a stopped run
    python tests/soak/mutate.py --again         # tries the survivors too, after a new test was written

Each mutant is made in a scratch copy of the tree (scratch.py). The tests that should find the mutant (groups.py) run
until one fails. If no test of the first stage fails, the second stage runs. equivalent.csv has the survivors that
change no result, with the reason. The program writes bench/results/reliability/mutants.csv. It takes two hours, and is
not a part of CI.
"""

import argparse
import csv
import shutil
import sys
import tempfile
import time
from pathlib import Path

import mutants as make
import scratch
from groups import GROUPS, ROOT, files_of, stages_of

RESULTS = ROOT / "bench/results/reliability/mutants.csv"
EQUIVALENT = Path(__file__).with_name("equivalent.csv")
COLUMNS = ["group", "file", "line", "change", "before", "after", "outcome", "by", "seconds", "reason"]
SEED = 11
KEY = ("file", "before", "after")
LIMIT = 900  # seconds for a stage; a mutant that takes longer hangs


def key_of(mutant):
    return mutant.file, mutant.before.strip(), mutant.after.strip()


def mutants_of(group, tried):
    """The mutants of a group: all that were tried before, and then the first new ones by the seed, up to the number of
    the group."""
    found = []
    for file in files_of(group):
        functions = None if file.startswith("vae_kernels/backends/triton") else group.functions
        found += make.of_file(ROOT, file, functions)
    old = [m for m in found if key_of(m) in tried]
    new = [m for m in make.chosen(found, group.number, SEED) if key_of(m) not in tried]
    return old + new[: max(0, group.number - len(old))]


def judge(group, mutant, tree, reasons):
    """Tries this mutant, and gives its row of the table."""
    path, began = tree / mutant.file, time.monotonic()
    reason = reasons.get((mutant.file, mutant.before.strip(), mutant.after.strip()), "")
    whole = path.read_text()
    path.write_text(mutant.apply(whole))
    by, outcome = "", "invalid"
    try:
        if not group.builds or scratch.build(group.builds, tree):
            by = next(filter(None, (scratch.run(tree, stage, LIMIT)[0] for stage in stages_of(group, mutant))), "")
            outcome = "killed" if by else "equivalent" if reason else "survived"
    finally:
        path.write_text(whole)
    reason = reason if outcome == "equivalent" else ""
    seconds = f"{time.monotonic() - began:.0f}"
    fields = (mutant.file, mutant.line, mutant.kind, mutant.before.strip(), mutant.after.strip(), outcome, by, seconds)
    return dict(zip(COLUMNS[1:], (*fields, reason), strict=True))


def table(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def stands(row):
    """Whether the line that was changed is still in the source."""
    path = ROOT / row["file"]
    return path.exists() and row["before"] in map(str.strip, path.read_text().splitlines())


def explained(row, reasons):
    """The row. A survivor becomes "equivalent" if equivalent.csv has a reason now."""
    reason = reasons.get(tuple(row[key] for key in KEY))
    return row | {"outcome": "equivalent", "reason": reason} if row["outcome"] == "survived" and reason else row


def write(rows):
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with open(RESULTS, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--again", action="store_true", help="try the survivors once more")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    options = parser.parse_args()
    scratch.import_the_heavy()
    reasons = {tuple(row[key] for key in KEY): row["reason"] for row in table(EQUIVALENT)}
    for name in options.groups or GROUPS:
        of_group = [explained(row, reasons) for row in table(RESULTS) if row["group"] == name and stands(row)]
        tried = {tuple(row[k] for k in KEY): row["outcome"] for row in of_group}
        wanted = mutants_of(GROUPS[name], tried)
        if options.list:
            for m in wanted:
                print(f"{m.file}:{m.line}: {m.kind}\n  - {m.before.strip()}\n  + {m.after.strip()}")
            continue
        write([row for row in table(RESULTS) if row["group"] != name] + of_group)
        redo = ("survived",) if options.again else ()
        wanted = [m for m in wanted if tried.get(key_of(m)) in (None, *redo)]
        with tempfile.TemporaryDirectory() as folder:
            attempt(name, wanted, reasons, Path(folder))


def attempt(name, wanted, reasons, folder):
    """Tries these mutants of a group, and writes each row at once. Then it checks that the tests which killed a mutant
    pass without a mutant."""
    group, tree = GROUPS[name], scratch.copy(folder / "tree")
    if group.builds != "cpu":
        shutil.copy2(ROOT / "vae_kernels/_C.so", tree / "vae_kernels/_C.so")
    if group.builds and not scratch.build(group.builds, tree):
        sys.exit((tree / "build.log").read_text())
    for mutant in wanted:
        row = {"group": name} | judge(group, mutant, tree, reasons)
        rows = [
            r for r in table(RESULTS) if tuple(r[k] for k in KEY) != key_of(mutant)
        ]  # read the file again: the run of another group may have written rows
        write([*rows, row])
        print(*(row[k] for k in ("outcome", "file", "line", "seconds", "by")), flush=True)
    if group.builds and not scratch.build(group.builds, tree):  # build once more, without the last mutant
        sys.exit((tree / "build.log").read_text())
    killers = {row["by"] for row in table(RESULTS) if row["group"] == name and "::" in row["by"]}
    wrong = scratch.run(tree, sorted(killers), 3 * LIMIT)[0] if killers else ""
    if wrong:  # a test that also fails without a mutant has not killed a mutant
        sys.exit(f"{name}: {wrong} fails without a mutant")


if __name__ == "__main__":
    main()
