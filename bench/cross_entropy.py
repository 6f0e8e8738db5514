"""python -m bench.cross_entropy: times PyTorch's cross-entropies beside our categorical and multinomial, forward and
backward, on this CPU. Words: a decoder's last linear layer and its loss, as F.cross_entropy, as F.linear_cross_entropy
of PyTorch 2.13 with and without chunks, and as nll. Baskets: the counts of a recommender, whose loss is a cross-entropy
with counts in place of probabilities."""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

import vae_kernels as vk
from vae_kernels.timing import counts, results, rivals

from . import turns

TOKENS, HIDDEN, WORDS = 640, 256, 10_000  # 16 sentences of 40 tokens
USERS, ITEMS = 500, 20_108  # the batch and the items of Mult-VAE on MovieLens-20M (Liang et al. 2018)
COLUMNS = ("case", "rows", "classes", "hidden", "name", "median_us", "p20_us", "p80_us", "fused_is_times_faster")
COLUMNS += ("disturbed", "peak_bytes", "device", "torch", "python", "threads", "commit", "command", "omp_wait_policy")


def separate(h, weight, bias, x):
    return F.cross_entropy(F.linear(h, weight, bias), x, reduction="sum")


def linear_cross_entropy(h, weight, bias, x, options=None):
    return F.linear_cross_entropy(h, weight, x, linear_bias=bias, reduction="sum", options=options)


def chunked(h, weight, bias, x):
    return linear_cross_entropy(h, weight, bias, x, torch.nn.LinearCrossEntropyOptions())


def words(h, weight, bias, x):
    return vk.nll(F.linear(h, weight, bias), x, likelihood="categorical", reduction="sum")


def baskets(logits, x):
    return vk.nll(logits, x, likelihood="multinomial", reduction="sum")


def cases():
    """{case: (sizes, contenders, the tensors with gradients, x)}"""
    g = torch.Generator().manual_seed(0)
    h, weight = torch.randn(TOKENS, HIDDEN, generator=g), 0.05 * torch.randn(WORDS, HIDDEN, generator=g)
    layers = {"fused": words, "F.cross_entropy": separate}
    if hasattr(F, "linear_cross_entropy"):
        layers |= {"F.linear_cross_entropy": linear_cross_entropy, "F.linear_cross_entropy, chunks": chunked}
    yield (
        {"case": "words", "rows": TOKENS, "classes": WORDS, "hidden": HIDDEN},
        layers,
        (h, weight, torch.randn(WORDS, generator=g)),
        torch.randint(WORDS, (TOKENS,), generator=g),
    )
    found = {"fused": baskets, "log_softmax": rivals.multinomial, "F.cross_entropy": rivals.multinomial_cross_entropy}
    yield (
        {"case": "baskets", "rows": USERS, "classes": ITEMS, "hidden": 0},
        {name: f if f is baskets else lambda logits, x, f=f: f(x, logits) for name, f in found.items()},
        (torch.randn(USERS, ITEMS, generator=g),),
        (torch.rand(USERS, ITEMS, generator=g) < 0.01).float(),
    )


def step(loss, x):
    """A function of the tensors: the loss, and its gradients."""

    def run(*tensors):
        leaves = [t.detach().requires_grad_() for t in tensors]
        value = loss(*leaves, x)
        return value.detach(), *torch.autograd.grad(value, leaves)

    return run


def measured(sizes, contenders, tensors, x, seconds):
    """The rows of a case. AssertionError if two contenders do not agree."""
    wide = step(next(iter(contenders.values())), x.double() if x.is_floating_point() else x)
    truth = wide(*(t.double() for t in tensors))
    steps = {name: step(loss, x) for name, loss in contenders.items()}
    for run in steps.values():
        for result, expected in zip(run(*tensors), truth, strict=True):
            # float32 sums of so many terms lose about sqrt(classes) eps of the largest number
            torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    for row in turns.rows({name: (lambda _: tensors, run) for name, run in steps.items()}, seconds):
        peak = counts.peak_bytes(steps[row["name"]], tensors, "cpu")
        print(f"{sizes['case']}, {row['name']:31} {row['median_us'] / 1e3:8.1f} ms, {peak / 2**20:.0f} MiB", flush=True)
        yield sizes | {"peak_bytes": peak} | row


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.cross_entropy", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each case")
    parser.add_argument("--threads", type=int, help="of torch; default: as many as it takes")
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    args = parser.parse_args()
    where, found = turns.where("cross_entropy", args.threads), []
    for case in cases():
        found += [row | where for row in measured(*case, args.seconds)]
    if args.csv:
        results.write(args.csv, [{c: results.shown(row.get(c)) for c in COLUMNS} for row in found], COLUMNS)


if __name__ == "__main__":
    main()
