"""python -m bench.last_layer: would a kernel pay that fuses the decoder's last linear layer with the likelihood? Times
the layer and the zinb nll of cells, forward and backward, on this CPU: as a whole, with vae_kernels' op ("fused"); and
in tiles of genes, where each tile's outputs and gradients stay in the caches. The tiles are a prototype: they are in no
module of the package. docs/last_layer.md has the counted bytes."""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

import vae_kernels as vk
from vae_kernels.timing import counts, results

from . import turns

GENES, HIDDEN, PARAMETERS, TILE = 20_000, 128, 3, 1_000
COLUMNS = ("batch", "genes", "hidden", "name", "median_us", "p20_us", "p80_us", "fused_is_times_faster", "peak_bytes")
COLUMNS += ("device", "torch", "python", "threads", "commit", "command", "omp_wait_policy")


def whole(h, weight, bias, x):
    """(nll, the gradients of h, weight [P, N, H] and bias [P, N])"""
    leaves = [t.detach().requires_grad_() for t in (h, weight, bias)]
    recon = [F.linear(leaves[0], w, b) for w, b in zip(leaves[1], leaves[2], strict=True)]
    nll = vk.nll(tuple(recon), x, likelihood="zinb", reduction="sum")
    return nll.detach(), *torch.autograd.grad(nll, leaves)


def tiled(h, weight, bias, x):
    """The same, gene by gene: the outputs of a tile are gone before those of the next tile are made."""
    total, of_h, of_weight, of_bias = 0, torch.zeros_like(h), torch.empty_like(weight), torch.empty_like(bias)
    for first in range(0, x.shape[1], TILE):
        genes = slice(first, first + TILE)
        recon = [F.linear(h, w[genes], b[genes]).requires_grad_() for w, b in zip(weight, bias, strict=True)]
        nll = vk.nll(tuple(recon), x[:, genes].contiguous(), likelihood="zinb", reduction="sum")
        for p, grad in enumerate(torch.autograd.grad(nll, recon)):
            of_h.addmm_(grad, weight[p, genes])
            torch.mm(grad.t(), h, out=of_weight[p, genes])
            torch.sum(grad, 0, out=of_bias[p, genes])
        total = total + nll.detach()
    return total, of_h, of_weight, of_bias


def draw(batch):
    g = torch.Generator().manual_seed(0)
    h = torch.randn(batch, HIDDEN, generator=g).relu()
    weight = torch.randn(PARAMETERS, GENES, HIDDEN, generator=g) * 0.05
    bias = torch.randn(PARAMETERS, GENES, generator=g)
    return h, weight, bias, torch.poisson(torch.full((batch, GENES), 0.3), generator=g)


def check(inputs):
    for ours, theirs in zip(tiled(*inputs), whole(*inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())


def measured(batch, seconds):
    """The rows of both ways."""
    inputs, contenders = draw(batch), {"fused": whole, "tiled": tiled}
    check(inputs)
    for row in turns.rows({name: (lambda _: inputs, f) for name, f in contenders.items()}, seconds):
        peak = counts.peak_bytes(contenders[row["name"]], inputs, "cpu")
        print(f"batch {batch}, {row['name']:5} {row['median_us'] / 1e3:.1f} ms, {peak / 2**20:.0f} MiB", flush=True)
        yield {"batch": batch, "genes": GENES, "hidden": HIDDEN, "peak_bytes": peak} | row


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.last_layer", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    args = parser.parse_args()
    where, found = turns.where("last_layer", args.threads), []
    for batch in (128, 1024):
        found += [row | where for row in measured(batch, args.seconds)]
    if args.csv:
        results.write(args.csv, [{c: results.shown(row.get(c)) for c in COLUMNS} for row in found], COLUMNS)


if __name__ == "__main__":
    main()
