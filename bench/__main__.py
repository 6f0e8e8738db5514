"""python -m bench: forward and backward of the whole objective, beside eager PyTorch and torch.compile, on this CPU."""

import argparse
import os
import sys
from pathlib import Path

import torch

from . import core, objectives

SHAPES = [(8, 64, 4), (128, 784, 20), (512, 3072, 128), (256, 49152, 256), (1024, 49152, 256)]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# what malloc does with large blocks decides much of the large sizes: it is part of the result
ALLOCATOR = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")


def parse():
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    shape = lambda text: tuple(map(int, text.split("x")))  # noqa: E731
    parser.add_argument("--shape", type=shape, action="append", help="batch x dims x latents: 128x784x20; repeatable")
    parser.add_argument("--part", choices=["objective", "loss"], default="objective", help="loss: without sampling")
    parser.add_argument("--likelihood", choices=list(objectives.EAGER), default="bernoulli")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each shape")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    return parser.parse_args()


def measure(shape, part, likelihood, dtype, seconds, with_compile):
    """Rows for one shape: each contender's times, and those of a copy of the reconstruction."""
    *tensors, grad_z = objectives.draw(*shape, dtype)
    contenders = objectives.contenders(likelihood, part)
    if with_compile:
        torch._dynamo.reset()
        contenders["compile"] = torch.compile(contenders["eager"])

    def prepare():
        return [t.detach().requires_grad_(i != 1) for i, t in enumerate(tensors)]

    for objective in contenders.values():
        objectives.check(objective, likelihood, *prepare())
    runs = {name: objectives.step(objective, grad_z) for name, objective in contenders.items()}
    target = torch.empty_like(tensors[0])
    # the same twice: the noise of this run
    runs |= {"fused_again": runs["fused"], "copy": lambda recon, *_: target.copy_(recon.detach())}
    times = {name: core.summary(t) for name, t in core.interleave(runs, prepare, seconds).items()}
    # the least an objective can move: read recon and x, write a gradient; a copy moves two of the three
    floor = 1.5 * times["copy"]["median_us"]
    for name, t in times.items():
        yield {
            "batch": shape[0],
            "dims": shape[1],
            "latents": shape[2],
            "part": part,
            "likelihood": likelihood,
            "dtype": str(dtype).removeprefix("torch."),
            "name": name,
            **{key: round(value, 1) for key, value in t.items()},
            "times_faster_than_eager": round(times["eager"]["median_us"] / t["median_us"], 2),
            "share_of_copy_floor": round(floor / t["median_us"], 3),
        }


def main():
    args = parse()
    set_here = {name: os.environ[name].rpartition("/")[2] for name in ALLOCATOR if name in os.environ}
    allocator = " ".join(f"{name}={value}" for name, value in set_here.items()) or "default"
    command = " ".join(["python -m bench", *sys.argv[1:]])
    where = core.machine() | {"allocator": allocator, "command": command}
    print(" ".join(f"{key}={value}" for key, value in where.items()))
    rows = []
    for shape in args.shape or SHAPES:
        settings = (args.part, args.likelihood, DTYPES[args.dtype], args.seconds, not args.no_compile)
        for row in measure(shape, *settings):
            rows.append(row | where)
            print(
                f"{'x'.join(map(str, shape)):>16}  {row['name']:<12} {row['median_us']:>10.1f} us"
                f"  {row['times_faster_than_eager']:>6.2f} x eager"
                f"  {row['share_of_copy_floor']:>6.1%} of the copy floor"
            )
    if args.csv:
        core.write(args.csv, rows)


if __name__ == "__main__":
    main()
