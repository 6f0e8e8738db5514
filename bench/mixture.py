"""python -m bench.mixture: times log p(z) of a mixture of Gaussians, forward and backward, on this CPU. The contenders
are broadcasting, the matrix product of the expanded square, both of these under torch.compile, torch.distributions,
KeOps if it is installed (`pip install pykeops`), and vae_kernels."""

import argparse
import importlib.util
import math
from pathlib import Path

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import vae_kernels as vk
from vae_kernels.timing import results

from . import turns

SHAPES = [(128, 10, 20), (512, 500, 40)]


def broadcast(z, loc, logvar, logits):
    """The formula of the textbook, which makes an [N, K, D] tensor in each operation."""
    square = (z[:, None] - loc) ** 2 * torch.exp(-logvar)
    log_normal = -0.5 * (square + logvar + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(logits.log_softmax(0) + log_normal, 1)


def matmul(z, loc, logvar, logits):
    """z^2 / s^2 - 2 z m / s^2 + m^2 / s^2 by two matrix products: fast, but the terms cancel and digits are lost."""
    precision = torch.exp(-logvar)
    scaled = loc * precision
    square = (z * z) @ precision.t() - 2 * (z @ scaled.t()) + (loc * scaled).sum(1)
    constant = logits.log_softmax(0) - 0.5 * (logvar + math.log(2 * math.pi)).sum(1)
    return torch.logsumexp(constant - 0.5 * square, 1)


def distributions(z, loc, logvar, logits):
    normals = Independent(Normal(loc, torch.exp(0.5 * logvar), validate_args=False), 1)
    return MixtureSameFamily(Categorical(logits=logits), normals).log_prob(z)


def keops(z, loc, logvar, logits):
    """KeOps (Charlier et al. 2021, JMLR 22) compiles the formula for each pair, and never has the N x K matrix."""
    from pykeops.torch import LazyTensor

    constant = logits.log_softmax(0) - 0.5 * (logvar + math.log(2 * math.pi)).sum(1)
    point, mean, precision = LazyTensor(z[:, None]), LazyTensor(loc[None]), LazyTensor(torch.exp(-logvar)[None])
    square = ((point - mean) ** 2 * precision).sum(-1)
    return (LazyTensor(constant[None, :, None]) - 0.5 * square).logsumexp(1).squeeze(1)


def draw(n, k, d, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = (n, d), (k, d), (k, d), (k,)
    z, loc, logvar, logits = (torch.randn(s, generator=g) for s in shapes)
    return [z, loc, 0.3 * logvar, logits]


def step(log_prob):
    def run(*inputs):
        log_p = log_prob(*inputs).mean()
        return log_p, torch.autograd.grad(log_p, inputs)

    return run


def check(log_prob, tensors):
    """Raise unless log p and its gradients agree with float64, to the accuracy of float32."""
    results = []
    for function, dtype in ((vk.mixture_log_prob, torch.float64), (log_prob, torch.float32)):
        inputs = [t.to(dtype).requires_grad_() for t in tensors]
        log_p, grads = step(function)(*inputs)
        results.append([log_p, *grads])
    for truth, ours in zip(*results, strict=True):
        error = ((ours.double() - truth).abs().max() / truth.abs().max()).item()
        if not error <= 1e-4:
            raise AssertionError(f"relative error {error:.1e}")


def parse():
    parser = argparse.ArgumentParser(prog="python -m bench.mixture", description=__doc__)
    shape = lambda text: tuple(map(int, text.split("x")))  # noqa: E731
    parser.add_argument("--shape", type=shape, action="append", help="points x components x dims; repeatable")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each shape")
    parser.add_argument("--threads", type=int, help="of torch; default: as many as it takes")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--only-fused", action="store_true", help="leave all others out: for sizes they cannot do")
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    return parser.parse_args()


def measure(shape, args):
    """The rows of results for one shape."""
    tensors = draw(*shape)
    contenders = {"fused": vk.mixture_log_prob}
    if not args.only_fused:
        contenders |= {"broadcast": broadcast, "distributions": distributions, "matmul": matmul}
        if importlib.util.find_spec("pykeops"):
            contenders["keops"] = keops
        if not args.no_compile:
            torch._dynamo.reset()
            compiled = {f"{name}_compile": torch.compile(contenders[name]) for name in ("broadcast", "matmul")}
            contenders |= compiled
        for log_prob in contenders.values():
            check(log_prob, tensors)

    def prepare(_):
        return [t.detach().requires_grad_() for t in tensors]

    runs = {name: (prepare, step(log_prob)) for name, log_prob in contenders.items()}
    sizes = dict(zip(("points", "components", "dims"), shape, strict=True))
    for row in turns.rows(runs, args.seconds, least=3 if args.only_fused else 7):
        yield sizes | row


def main():
    args = parse()
    where = turns.where("mixture", args.threads)
    rows = []
    for shape in args.shape or SHAPES:
        for row in measure(shape, args):
            rows.append(row | where)
            size = "x".join(map(str, shape))
            faster = f"fused is {row['fused_is_times_faster']:>7.2f} x faster"
            print(f"{size:>16} {row['name']:<18} {row['median_us']:>12.1f} us  {faster}")
    if args.csv:
        results.write(args.csv, rows)


if __name__ == "__main__":
    main()
