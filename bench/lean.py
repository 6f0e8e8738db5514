"""python -m bench.lean: times the objective with the backend "lean", which "auto" takes where there are no kernels of
ours, beside the best eager forms, torch.compile of the best eager form, and the reference ("torch"). Forward and
backward, on this CPU, with the compiled library hidden."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from vae_kernels.backends import choice
from vae_kernels.timing import results
from vae_kernels.timing.case import Case
from vae_kernels.timing.contenders import EAGER, OURS
from vae_kernels.timing.measure import AGAIN, Options, measure
from vae_kernels.timing.table import table

CASES = [
    Case(128, 784, 20),
    Case(512, 3072, 128),
    Case(512, 3072, 128, likelihood="gaussian"),
    Case(64, 12288, 128),
    Case(128, 20000, 10, likelihood="zinb", outputs=3),
]
OTHERS = [
    Case(512, 3072, 128, likelihood="gaussian", outputs=2),
    Case(512, 3072, 128, likelihood="laplace"),
    Case(512, 3072, 128, likelihood="laplace", outputs=2),
    Case(512, 3072, 128, likelihood="continuous_bernoulli"),
    Case(512, 3072, 128, likelihood="discretized_logistic", outputs=2),
    Case(16, 3072, 128, likelihood="categorical", x="uint8"),
    Case(128, 4000, 10, likelihood="poisson"),
    Case(128, 4000, 10, likelihood="negative_binomial", outputs=2),
]


def hide():
    """Hide the compiled library and Triton from "auto", as on a machine without both."""
    for name in ("cpu", "cuda", "triton"):
        choice._MISSING[name] = "hidden by bench.lean"


def best(rows, kind):
    """The row of this kind with the smallest median."""
    return min((r for r in rows if r["kind"] == kind and r["name"] != AGAIN and r["median_us"]), key=_median)


def _median(row):
    return row["median_us"]


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.lean", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each case")
    parser.add_argument("--threads", type=int, action="append", help="of torch; repeatable; default: 1 and 2")
    parser.add_argument("--others", action="store_true", help="the other likelihoods too")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--no-reference", action="store_true", help='leave the backend "torch" out')
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    args = parser.parse_args()
    hide()
    where = results.where(" ".join(["python -m bench.lean", *sys.argv[1:]]))
    wait = os.environ.get("OMP_WAIT_POLICY", "default")
    backends = ("auto",) if args.no_reference else ("auto", "torch")
    options = Options(seconds=args.seconds, modes=() if args.no_compile else ("default",), backends=backends)
    rows = []
    for case in CASES + OTHERS * args.others:
        for threads in args.threads or (1, 2):
            found = measure(replace(case, threads=threads), options)
            rows += [{"suite": "lean"} | row | where | {"omp_wait_policy": wait} for row in found]
            eager, ours = best(found, EAGER), best([r for r in found if not r["name"].endswith(", torch")], OURS)
            print(f"{threads} threads", table(found), sep="\n")
            memory = [row["peak_bytes"] for row in (eager, ours)]
            ratio = "" if None in memory else f", its peak memory {memory[1] / max(memory[0], 1):.2f} of eager's"
            print(f"lean is {eager['median_us'] / ours['median_us']:.2f} times as fast as eager{ratio}", flush=True)
    if args.csv:
        columns = [*results.COLUMNS, "omp_wait_policy"]
        results.write(args.csv, [{c: results.shown(row.get(c)) for c in columns} for row in rows], columns)


if __name__ == "__main__":
    torch.compiler.config.force_disable_caches = True  # so first_us includes a compilation, not a look-up
    main()
