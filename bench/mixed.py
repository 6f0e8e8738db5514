"""python -m bench.mixed: times -log p(x) of a table with mixed columns, forward and backward, on this CPU. The
contenders are a loop over the columns, as in most code for tables, the same under torch.compile, the formulas of this
package in plain PyTorch, grouped by kind, and the fused op."""

import argparse
from pathlib import Path

import torch

import vae_kernels as vk
from vae_kernels.timing import columns as tables
from vae_kernels.timing import results

from . import turns

ROWS = 500  # the batch of TVAE
TABLES = ["8+7x0", "50+50x0", "100+0x0", "50+50x10"]


def columns_of(text, seed=0):
    """The columns of "50+50x10": 50 numbers and 50 categories, of 2 to 19 values. With "x10" each number has a category
    of 10 values beside it: its mode, as TVAE makes it of a column."""
    counts, modes = text.split("x")
    numbers, categories = map(int, counts.split("+"))
    g = torch.Generator().manual_seed(seed)
    widths = torch.randint(2, 20, (categories,), generator=g).tolist()
    each = [("gaussian", "tanh"), ("categorical", int(modes))] if int(modes) else [("gaussian", "tanh")]
    return (*each * numbers, *[("categorical", width) for width in widths])


def loop(columns):
    """The loss as a loop over columns."""
    rival = tables.loop(columns)
    return lambda packed, logscale, x: rival(x, packed, logscale) / len(x)


def fused(likelihood, backend):
    def nll(packed, logscale, x):
        return vk.nll((packed, logscale), x, likelihood=likelihood, reduction="mean", backend=backend)

    return nll


def draw(columns, rows, seed=0):
    likelihood = vk.likelihoods.Mixed(columns)
    return likelihood, *tables.draw(likelihood, rows, torch.Generator().manual_seed(seed))


def step(nll, x):
    def run(*params):
        loss = nll(*params, x)
        return loss, torch.autograd.grad(loss, params)

    return run


def check(nll, truth, params, x):
    """Raise unless the loss and its gradients agree with float64, to the accuracy of float32."""
    both = []
    for function, dtype in ((truth, torch.float64), (nll, torch.float32)):
        inputs = [t.to(dtype).requires_grad_() for t in params]
        loss, grads = step(function, x.to(dtype))(*inputs)
        both.append([loss, *grads])
    for true, ours in zip(*both, strict=True):
        error = ((ours.double() - true).abs().max() / true.abs().max()).item()
        if not error <= 1e-5:
            raise AssertionError(f"relative error {error:.1e}")


def parse():
    parser = argparse.ArgumentParser(prog="python -m bench.mixed", description=__doc__)
    parser.add_argument("--table", action="append", help='numbers+categories x modes, "50+50x10"; repeatable')
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each table")
    parser.add_argument("--threads", type=int, help="of torch; default: as many as it takes")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    return parser.parse_args()


def measure(table, args):
    """The rows of results for one table."""
    columns = columns_of(table)
    likelihood, params, x = draw(columns, args.rows)
    contenders = {"fused": fused(likelihood, "auto"), "loop": loop(columns), "grouped": fused(likelihood, "torch")}
    if not args.no_compile:
        torch._dynamo.reset()
        contenders["loop_compile"] = torch.compile(contenders["loop"])
    for nll in contenders.values():
        check(nll, contenders["grouped"], params, x)

    def prepare(_):
        return [t.detach().requires_grad_() for t in params]

    runs = {name: (prepare, step(nll, x)) for name, nll in contenders.items()}
    sizes = {"table": table, "rows": args.rows, "columns": len(columns), "numbers": likelihood.width}
    for row in turns.rows(runs, args.seconds):
        yield sizes | row


def main():
    args = parse()
    where = turns.where("mixed", args.threads)
    rows = []
    for table in args.table or TABLES:
        for row in measure(table, args):
            rows.append(row | where)
            faster = f"fused is {row['fused_is_times_faster']:>7.2f} x faster"
            print(f"{table:>10} {row['name']:<14} {row['median_us']:>12.1f} us  {faster}")
    if args.csv:
        results.write(args.csv, rows)


if __name__ == "__main__":
    main()
