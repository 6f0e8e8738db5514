"""python -m bench.lean_train: the training step of `vae-kernels train` on the MNIST digits where there is no compiled
library, beside that of `--loss eager` and of a loss of nothing, in turns. The networks and the optimizer are the same,
so no loss can be faster than the loss of nothing, in which the gradients of the outputs of the networks are given."""

import argparse
import functools
from pathlib import Path

import torch

import vae_kernels as vk
from vae_kernels.cli import data, fit
from vae_kernels.timing import results

from . import lean, turns

BATCH = 100
COLUMNS = ("loss", "batch", "median_us", "p20_us", "p80_us", "fused_is_times_faster")
COLUMNS += ("device", "torch", "python", "threads", "commit", "command", "omp_wait_policy")


@functools.cache
def given(shape):
    return torch.full(shape, 1e-3)


def backward(kind, vae, x):
    """The gradients of one step."""
    if kind == "nothing":
        mu, logvar = vae.encode(x)
        outputs = mu, logvar, vae.decode(mu)
        torch.autograd.backward(outputs, [given(t.shape) for t in outputs])
    else:
        fit.objective(kind, vae, x).backward()


def steps(images):
    """{loss: (a function that prepares nothing, the step)}, each with a model of its own."""
    found = {}
    for kind in ("fused", "eager", "nothing"):
        torch.manual_seed(0)
        vae = vk.mlp_vae(tuple(images.shape[1:]), 20)
        optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
        found[kind] = (lambda _: (), functools.partial(step, kind, vae, optimizer, images))
    return found


def step(kind, vae, optimizer, images):
    x = images[torch.randint(len(images), (BATCH,))]
    optimizer.zero_grad(set_to_none=True)
    backward(kind, vae, fit.once_read("fused" if kind == "nothing" else kind, vae, x))
    optimizer.step()


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.lean_train", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, action="append", help="of torch; repeatable; default: 1 and 2")
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    args = parser.parse_args()
    lean.hide()
    images = data.load(None, "bernoulli").images
    found = []
    for threads in args.threads or (1, 2):
        where = turns.where("lean_train", threads)
        for row in turns.rows(steps(images), args.seconds, least=50):
            found.append({"loss": row.pop("name"), "batch": BATCH} | row | where)
            print(f"{threads} threads: {found[-1]['loss']:8} {found[-1]['median_us'] / 1e3:.2f} ms", flush=True)
    if args.csv:
        results.write(args.csv, [{c: results.shown(row.get(c)) for c in COLUMNS} for row in found], COLUMNS)


if __name__ == "__main__":
    main()
