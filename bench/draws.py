"""python -m bench.draws: times many draws of z for each x, and hierarchies of latents, forward and backward, on a CPU.

draws:   the likelihood of K draws beside x, without copies of x, for the ELBO ("mean") and for a bound that weighs the
         draws ("iwae"). By hand x is copied once for each draw.
groups:  the sample and the KL of G groups with learned priors, one after another, by sample_kl and by hand.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

import vae_kernels as vk
from vae_kernels.timing import counts, results

from . import turns

DRAWS = [(50, 128, 784), (8, 64, 3072)]
GROUPS = [(40, 16, 128), (40, 16, 512), (40, 16, 65_536)]  # groups, batch, latents of a group


def draws(k, batch, dims, bound):
    """({contender: a function of the leaves}, the leaves)"""
    g = torch.Generator().manual_seed(0)
    x, recon = torch.rand(batch, dims, generator=g), torch.randn(k, batch, dims, generator=g)

    def total(nll):  # [K, B]
        return nll.mean() if bound == "mean" else -torch.logsumexp(-nll, 0).mean()

    def fused(recon):
        reduction = {"mean": "mean", "iwae": "none"}[bound]
        nll = vk.nll(recon, x, n_samples=k, reduction=reduction)
        return nll if bound == "mean" else total(nll)

    def by_hand(recon):
        copies = x.repeat(k, 1).to(recon.dtype)
        nll = F.binary_cross_entropy_with_logits(recon.flatten(0, 1), copies, reduction="none").sum(1)
        return total(nll.view(k, batch))

    return {"fused": fused, "by_hand": by_hand}, [recon]


def groups(g, batch, latents):
    generator = torch.Generator().manual_seed(0)
    leaves = [0.5 * torch.randn(batch, latents, generator=generator) for _ in range(4 * g)]

    def fused(*leaves):
        zs, kls = [], []
        for i in range(0, len(leaves), 4):
            z, kl = vk.sample_kl(leaves[i], leaves[i + 1], prior=(leaves[i + 2], leaves[i + 3]))
            zs.append(z)
            kls.append(kl)
        return vk.controls.grouped_kl(kls).kl.mean(), *zs

    def by_hand(*leaves):
        zs, kls = [], []
        for i in range(0, len(leaves), 4):
            mu, logvar, prior_mu, prior_logvar = leaves[i : i + 4]
            zs.append(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu))
            ratio = ((mu - prior_mu).square() + logvar.exp()) * torch.exp(-prior_logvar)
            kls.append(0.5 * (prior_logvar - logvar + ratio - 1).sum(1))
        return torch.stack(kls, 1).sum(1).mean(), *zs

    return {"fused": fused, "by_hand": by_hand}, leaves


def step(function):
    def run(*leaves):
        loss, *zs = out if isinstance(out := function(*leaves), tuple) else (out,)
        # what the decoder would send back to z is one tensor of ones for each group
        return torch.autograd.grad([loss, *zs], leaves, [torch.ones_like(t) for t in (loss, *zs)])

    return run


def check(contenders, leaves):
    """Raise unless both losses, and their gradients, agree in float64. In float32 a softmax over draws whose nll is 500
    nats has lost four digits, by hand as well."""
    found = []
    for function in contenders.values():
        inputs = [t.double().requires_grad_() for t in leaves]
        out = function(*inputs)
        loss = out[0] if isinstance(out, tuple) else out
        found.append([loss, *torch.autograd.grad(loss, inputs)])
    for ours, theirs in zip(*found, strict=True):
        error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        if not error <= 1e-10:
            raise AssertionError(f"relative error {error:.1e}")


def measure(part, sizes, made, seconds):
    contenders, leaves = made
    check(contenders, leaves)

    def prepare(_):
        return [t.detach().requires_grad_() for t in leaves]

    runs = {name: (prepare, step(f)) for name, f in contenders.items()}
    found = list(turns.rows(runs, seconds))
    memory = {name: counts.peak_bytes(step(f), prepare(None), "cpu") for name, f in contenders.items()}
    given = sum(t.numel() * t.element_size() for t in leaves)
    for row in found:
        row = {"part": part, "sizes": "x".join(map(str, sizes))} | row
        yield row | {"peak_bytes": memory[row["name"]], "bytes_of_the_gradients": given}


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.draws", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each case")
    parser.add_argument("--threads", type=int, help="of torch; default: as many as it takes")
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    args = parser.parse_args()
    where = turns.where("draws", args.threads)
    cases = [(bound, sizes, lambda s=sizes, b=bound: draws(*s, b)) for sizes in DRAWS for bound in ("mean", "iwae")]
    cases += [("groups", sizes, lambda s=sizes: groups(*s)) for sizes in GROUPS]
    rows = []
    for part, sizes, made in cases:
        for row in measure(part, sizes, made(), args.seconds):
            rows.append(row | where)
            memory = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / row['bytes_of_the_gradients']:6.2f}"
            faster = f"fused is {row['fused_is_times_faster']:>6.2f} x faster, memory / gradients {memory}"
            print(f"{part:>7} {row['sizes']:>14} {row['name']:<8} {row['median_us']:>11.1f} us  {faster}")
    if args.csv:
        results.write(args.csv, rows)


if __name__ == "__main__":
    main()
