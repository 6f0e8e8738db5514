"""python -m bench.counts: the ZINB likelihood of single cells, forward and backward, on this CPU: as scvi-tools writes
it in eager PyTorch, by torch.compile, with torch.distributions, and with vae_kernels."""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

import vae_kernels as vk

from . import core


def eager(x, rate, log_theta, logits, eps=1e-8):
    """The formula of scvi-tools' log_zinb_positive, with its eps; theta = exp(px_r) is one a gene."""
    theta = log_theta.exp()
    softplus = F.softplus(-logits)
    log_total = torch.log(theta + rate + eps)
    part = -logits + theta * (torch.log(theta + eps) - log_total)
    zero = F.softplus(part) - softplus
    count = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    other = part - softplus + x * (torch.log(rate + eps) - log_total) + count
    log_p = torch.mul((x < eps).float(), zero) + torch.mul((x > eps).float(), other)
    return -log_p.sum(-1).mean()


def distributions(x, rate, log_theta, logits):
    count = torch.distributions.NegativeBinomial(log_theta.exp(), logits=rate.log() - log_theta, validate_args=False)
    log_p = count.log_prob(x) + F.logsigmoid(-logits)
    return -torch.where(x == 0, torch.logaddexp(F.logsigmoid(logits), log_p), log_p).sum(-1).mean()


def fused(x, rate, log_theta, logits):  # scvi-tools' decoder gives the rate: its logarithm is a part of the loss
    return vk.nll((rate.log(), log_theta, logits), x, likelihood="zinb", reduction="mean")


def fused_logs(x, log_rate, log_theta, logits):
    return vk.nll((log_rate, log_theta, logits), x, likelihood="zinb", reduction="mean")


def draw(cells, genes, zeros, seed=0):
    """x, rate, log_theta, logits; about this share of the counts is 0."""
    g = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(shape, generator=g)  # noqa: E731
    some = torch.poisson(torch.exp(0.5 + 0.8 * random(cells, genes)), generator=g) + 1
    x = torch.where(torch.rand(cells, genes, generator=g) < zeros, torch.zeros(()), some)
    return x, torch.exp(random(cells, genes) - 1), 0.7 * random(genes) + 1, random(cells, genes) - 1


def step(loss):
    def run(x, rate, log_theta, logits):
        value = loss(x, rate, log_theta, logits)
        return value, torch.autograd.grad(value, [rate, log_theta, logits])

    return run


def check(loss, tensors, logs):
    """Raise unless the loss and its gradients are those of float64, as far as float32 and the formula's eps go."""
    x, rate, *others = (t.double() for t in tensors)
    inputs = [t.requires_grad_() for t in (rate, *others)]
    truth = fused(x, *inputs)
    expected = [truth, *torch.autograd.grad(truth, inputs)]
    if logs:
        expected[1] = expected[1] * rate
    first = tensors[1].log() if logs else tensors[1]
    inputs = [t.detach().clone().requires_grad_() for t in (first, *tensors[2:])]
    value, grads = step(loss)(tensors[0], *inputs)
    for a, b in zip((value, *grads), expected, strict=True):
        error = ((a.double() - b).abs().max() / b.abs().max()).item()
        if not error <= 1e-4:
            raise AssertionError(f"relative error {error:.1e}")


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.counts", description=__doc__)
    shape = lambda text: tuple(map(int, text.split("x")))  # noqa: E731
    parser.add_argument("--shape", type=shape, action="append", help="cells x genes: 128x20000; repeatable")
    parser.add_argument("--zeros", type=float, default=0.8, help="the share of counts that are 0")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each shape")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    args = parser.parse_args()
    where = core.machine() | {"zeros": args.zeros, "command": " ".join(["python -m bench.counts", *sys.argv[1:]])}
    contenders = {"eager": eager, "distributions": distributions, "fused": fused, "fused_logs": fused_logs}
    if not args.no_compile:
        contenders["compile"] = torch.compile(eager)
    rows = []
    for cells, genes in args.shape or [(128, 2000), (128, 20000)]:
        tensors = draw(cells, genes, args.zeros)
        for name, loss in contenders.items():
            check(loss, tensors, logs=name == "fused_logs")

        def prepare(tensors=tensors):
            return [t.detach().requires_grad_(i > 0) for i, t in enumerate(tensors)]

        times = core.interleave({name: step(loss) for name, loss in contenders.items()}, prepare, args.seconds)
        times = {name: core.summary(t) for name, t in times.items()}
        for name, t in times.items():
            faster = round(times["eager"]["median_us"] / t["median_us"], 2)
            sizes = {"batch": cells, "dims": genes, "latents": 0, "part": "nll", "likelihood": "zinb"}
            numbers = {key: round(value, 1) for key, value in t.items()}
            rows.append(
                sizes | {"dtype": "float32", "name": name} | numbers | {"times_faster_than_eager": faster} | where
            )
            print(f"{cells:>6}x{genes:<6} {name:<14} {t['median_us']:>11.1f} us  {faster:>6.2f} x eager")
    if args.csv:
        core.write(args.csv, rows)


if __name__ == "__main__":
    main()
