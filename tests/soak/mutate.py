"""Mutation: breaks kernels and formulas on purpose, one small change at a time, and asks whether the tests see it.

    python tests/soak/mutate.py                 # all groups; goes on where it was stopped
    python tests/soak/mutate.py --again         # those that survived too, after a test was written

Each mutant lives in a scratch copy of the tree (scratch.py). The tests that should see it (groups.py) run until the
first one fails, and, where none of the first ones does, those of the second stage. A survivor that changes no result is
in equivalent.csv, with the reason. Writes bench/results/reliability/mutants.csv. In two hours; not a part of CI.
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
LIMIT = 900  # seconds of a stage; what takes longer hangs


def key_of(mutant):
    return mutant.file, mutant.before.strip(), mutant.after.strip()


def mutants_of(group, tried):
    """The first ones by the seed: as many as the group has, less those that were tried and are not among them."""
    found = []
    for file in files_of(group):
        functions = None if file.startswith("vae_kernels/backends/triton") else group.functions
        found += make.of_file(ROOT, file, functions)
    old = [m for m in found if key_of(m) in tried]
    new = [m for m in make.chosen(found, group.number, SEED) if key_of(m) not in tried]
    return old + new[: max(0, group.number - len(old))]


def judge(group, mutant, tree, reasons):
    """The row of this mutant."""
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
    """Whether the line that was changed is still there."""
    path = ROOT / row["file"]
    return path.exists() and row["before"] in map(str.strip, path.read_text().splitlines())


def explained(row, reasons):
    """The row, a survivor equivalent where there is a reason now."""
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
    """Each of these mutants of a group, its row written at once; then whether those who killed pass without them."""
    group, tree = GROUPS[name], scratch.copy(folder / "tree")
    if group.builds != "cpu":
        shutil.copy2(ROOT / "vae_kernels/_C.so", tree / "vae_kernels/_C.so")
    if group.builds and not scratch.build(group.builds, tree):
        sys.exit((tree / "build.log").read_text())
    for mutant in wanted:
        row = {"group": name} | judge(group, mutant, tree, reasons)
        rows = [
            r for r in table(RESULTS) if tuple(r[k] for k in KEY) != key_of(mutant)
        ]  # another group may have written
        write([*rows, row])
        print(*(row[k] for k in ("outcome", "file", "line", "seconds", "by")), flush=True)
    if group.builds and not scratch.build(group.builds, tree):  # without the last mutant
        sys.exit((tree / "build.log").read_text())
    killers = {row["by"] for row in table(RESULTS) if row["group"] == name and "::" in row["by"]}
    wrong = scratch.run(tree, sorted(killers), 3 * LIMIT)[0] if killers else ""
    if wrong:  # a test that fails without a mutant has killed nothing
        sys.exit(f"{name}: {wrong} fails without a mutant")


if __name__ == "__main__":
    main()
