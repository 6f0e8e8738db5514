"""python -m bench.monitor: measures the time that return_terms=True and vk.Monitor add to fused_elbo, forward and
backward, on this CPU.

A run is `every` steps, with the row that a Monitor then reads. We measure in two ways: the three contenders in turns in
one process, and each contender in a process of its own, as in a real training. The two ways differ, because the tensors
that are kept of one step decide where malloc puts the tensors of the next step."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch

import vae_kernels as vk
from vae_kernels.timing import clock, results
from vae_kernels.timing.case import Case, draw, parse_shape

SHAPES = {"128x784/20": 100, "512x3072/128": 100, "1024x49152/256": 20}  # shape: every
NAMES = ("loss", "return_terms", "Monitor")


def steps(name, case, every):
    """A function that takes `every` steps."""
    tensors = draw(case).leaves()
    recon, x, mu, logvar = tensors.params[0], tensors.x, tensors.mu, tensors.logvar
    monitor = vk.Monitor(every)

    def run():
        for _ in range(every):
            recon.grad = mu.grad = logvar.grad = None
            out = vk.fused_elbo(recon, x, mu, logvar, return_terms=name != "loss")
            (out if name == "loss" else out.loss).backward()
            if name == "Monitor":
                monitor.update(out, mu=mu, logvar=logvar, logits=recon)

    return run


def timed(names, shape, every, seconds):
    """{name: microseconds for a step in the fastest run}"""
    case = Case(*parse_shape(shape), part="loss")
    runs = {name: (lambda i: (), steps(name, case, every)) for name in names}
    found = clock.interleave(runs, clock.CPU, seconds, least=3)
    return {name: min(run.seconds for run in some) / every * 1e6 for name, some in found.items()}


def alone(name, shape, every, args):
    """The time of one contender in a process of its own, in us."""
    words = ["-m", "bench.monitor", "--only", name, "--shape", shape, "--every", every, "--seconds", args.seconds / 3]
    words += ["--threads", torch.get_num_threads()]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(shape, every, args):
    found = {"one": timed(NAMES, shape, every, args.seconds)}
    turns = [{name: alone(name, shape, every, args) for name in NAMES} for _ in range(args.turns)]
    found["own"] = {name: min(turn[name] for turn in turns) for name in NAMES}
    for process, times in found.items():
        for name, us in times.items():
            more = us - times["loss"]
            row = {"shape": shape, "every": every, "process": process, "name": name, "us": round(us, 1)}
            yield row | {"more_us": round(more, 1), "more_percent": round(100 * more / times["loss"], 1)}


def parse():
    parser = argparse.ArgumentParser(prog="python -m bench.monitor", description=__doc__)
    parser.add_argument("--shape", action="append", help="batch x dims / latents; repeatable")
    parser.add_argument("--every", type=int, default=100, help="steps between rows, of --shape")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each shape and way")
    parser.add_argument("--turns", type=int, default=3, help="processes for each contender")
    parser.add_argument("--threads", type=int, help="of torch; default: as many as it takes")
    parser.add_argument("--only", choices=NAMES, help="print the us of this one alone")
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    return parser.parse_args()


def main():
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    shapes = dict.fromkeys(args.shape, args.every) if args.shape else SHAPES
    if args.only:
        for shape, every in shapes.items():
            print(timed([args.only], shape, every, args.seconds)[args.only])
        return
    where = results.where(" ".join(["python -m bench.monitor", *sys.argv[1:]]))
    where |= {"threads": torch.get_num_threads(), "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default")}
    rows = []
    for shape, every in shapes.items():
        for row in measure(shape, every, args):
            rows.append(row | where)
            line = "{shape:>15} {process} {name:<13} {us:>10.1f} us {more_us:>+8.1f} {more_percent:>+6.1f} %"
            print(line.format(**row))
    if args.csv:
        results.write(args.csv, rows)


if __name__ == "__main__":
    main()
