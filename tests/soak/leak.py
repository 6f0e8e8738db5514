"""The memory of a process does not grow over 100 000 training steps: `python -m soak.leak` in tests/.

The smallest block of malloc takes 32 bytes on 64-bit machines. The allowed growth is half of this for each step, so a
leak of one block in each step is found.
"""

import os
import sys
from pathlib import Path

import torch

import vae_kernels as vk

from .record import record

SMALLEST = 32
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def actions():
    """The actions that the run takes in turn: every reduction and kind of gradient, a result in memory of the pool, and
    an error."""
    x, logits = torch.rand(8, 64), torch.randn(8, 64, requires_grad=True)
    mu, logvar = torch.randn(2, 8, 6).unbind()
    mu, logvar = mu.requires_grad_(), logvar.requires_grad_()
    beta, prior = torch.rand(6), (torch.zeros(6, requires_grad=True), torch.zeros(6, requires_grad=True))
    scale = torch.zeros((), requires_grad=True)
    large = torch.zeros(1, 300_000, requires_grad=True)  # more than a megabyte, so its gradient comes from the pool
    levels, codes = torch.randn(8, 5, 3, requires_grad=True), torch.zeros(8, 3, dtype=torch.int64)

    def step():
        z, kl = vk.sample_kl(mu, logvar)
        vk.fused_elbo(logits + z.sum(), x, kl=kl).backward()

    def refused():
        try:
            vk.fused_elbo(logits, x[:, :5], mu, logvar)
        except ValueError:
            return
        raise AssertionError("a target of another shape was taken")

    return [
        step,
        lambda: vk.fused_elbo(logits, x, mu, logvar, beta=beta, reduction="none").sum().backward(),
        lambda: vk.fused_elbo(logits, x, mu, logvar, prior=prior, return_terms=True).loss.backward(),
        lambda: vk.nll((logits, scale), x, likelihood="gaussian", reduction="sum").backward(),
        lambda: vk.nll(logits.bfloat16(), x, likelihood="poisson", reduction="mean").backward(),
        lambda: vk.nll(levels, codes, likelihood="categorical").sum().backward(),
        lambda: vk.nll(large, large.detach()).sum().backward(),
        refused,
    ]


def growth(steps, turns=None):
    """The bytes by which the resident memory grows over so many steps, after a warm-up of a tenth of the steps."""
    turns = actions() if turns is None else turns
    largest = 0
    for i in range(steps + steps // 10):
        turns[i % len(turns)]()
        if i == steps // 10:
            first = resident()
        if i >= steps // 10 and i % 100 == 0:
            largest = max(largest, resident())
    return max(0, largest - first)


def main(steps=100_000):
    torch.set_num_threads(1)
    grown = growth(steps)
    record("leak", "make soak-leak", {"training steps": steps, "bytes by which they grew the process": grown})
    if grown > SMALLEST // 2 * steps:
        sys.exit(f"{grown} bytes in {steps} steps: a leak")


if __name__ == "__main__":
    main()
