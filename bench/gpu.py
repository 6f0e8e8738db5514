"""python -m bench.gpu: the check of a GPU, in at most eight minutes and without a network.

First what the machine is and copies; then whether every backend gives what float64 gives, and the noise of the CPU bit
by bit; then times beside eager PyTorch and torch.compile, each of a case that was just checked. One failure does not
stop the rest; it is printed, and ends in exit status 1. --dry runs all of it on the CPU, at toy sizes, Triton in its
interpreter: what it then prints as times means nothing. --sanitize runs the numbers, at toy sizes, under CUDA's
compute-sanitizer.
"""

import argparse
import contextlib
import gc
import os
import statistics
import subprocess
import sys
import time
import traceback
from pathlib import Path

if "--dry" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton

import torch

import vae_kernels as vk
from vae_kernels import backends, philox

from . import core, objectives
from .devices import Dry, Gpu

SHAPES = [
    (128, 784, 20), (256, 3072, 128), (256, 12288, 128), (64, 196608, 256), (1024, 20000, 30), (8, 16384, 4096),
    (1024, 784, 20), (8, 64, 4),
]  # fmt: skip
DRY_SHAPES = [(4, 33, 4), (3, 64, 5)]
CASES = [  # likelihood, dtype of recon and latents, dtype of x
    ("bernoulli", torch.float32, torch.float32),
    ("bernoulli", torch.bfloat16, torch.float32),
    ("gaussian", torch.float32, torch.float32),
    ("bernoulli", torch.bfloat16, torch.uint8),
]
COLD = 160 << 20  # bytes of inputs to go round: more than any level-2 cache holds


class Report:
    """Prints as it goes, and remembers what failed."""

    def __init__(self):
        self.failures = []

    @contextlib.contextmanager
    def part(self, what):
        try:
            yield
        except Exception:
            self.failures.append(what)
            print(f"FAILED {what}\n{traceback.format_exc(limit=4)}", flush=True)


def inputs(shape, dtype, of_x, device, seed=0):
    """recon, x, mu, logvar, and the gradient that comes back to z, on the device."""
    recon, x, mu, logvar, grad_z = objectives.draw(*shape, torch.float32, seed)
    x = (x * 255).round().to(torch.uint8) if of_x == torch.uint8 else x.to(of_x)
    recon, mu, logvar = (t.to(device, dtype).requires_grad_() for t in (recon, mu, logvar))
    return recon, x.to(device), mu, logvar, grad_z.to(device, dtype)


def contenders(likelihood, names, compiled):
    """{name: f(recon, x, mu, logvar) that gives (loss, z)}: the whole objective, sampling and KL included."""
    eager = objectives.EAGER[likelihood]

    def by_hand(recon, x, mu, logvar):
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        loss = eager(recon.float(), x.float(), mu.float(), logvar.float())  # as autocast does it
        return loss, mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def fused(backend):
        def objective(recon, x, mu, logvar):
            z, kl = vk.sample_kl(mu, logvar, backend=backend)
            return vk.fused_elbo(recon, x, kl=kl, likelihood=likelihood, backend=backend), z

        return objective

    found = {"eager": by_hand} | {name: fused(name) for name in names}
    return found | ({"compile": torch.compile(by_hand)} if compiled else {})


def check_numbers(report, names, device, shapes):
    for name in names:
        for rng in ((0, 0), (1, 2), (0x1234567890AB, (5 << 32) + 7)):
            for shape in ((3, 5), (1000, 20), (17, 3000)):
                with report.part(f"noise of {name}, {rng}, {shape}"):
                    zeros, words = torch.zeros(shape, device=device), torch.tensor(rng)
                    module = backends.choose(name, (zeros,))
                    z, _ = module.sample_kl(zeros, zeros, (), words.to(device), None, False)
                    different = (z.cpu() != philox.normals(words, shape)).sum().item()
                    assert not different, f"{different} of {z.numel()} differ from the CPU's"
        for likelihood, dtype, of_x in CASES:
            for shape in shapes:
                with report.part(f"numbers of {name}, {likelihood}, {dtype}, {of_x}, {shape}"):
                    check(name, likelihood, inputs(shape, dtype, of_x, device)[:4])


def check(backend, likelihood, tensors):
    """Loss and gradients against float64, to a few roundings of the storage type."""
    settings = {"likelihood": likelihood, "beta": 0.7}
    results = []
    for to, who in ((torch.float64, "torch"), (None, backend)):
        wide = lambda t, to=to: t if to is None or not t.is_floating_point() else t.to(to)  # noqa: E731
        recon, x, mu, logvar = (wide(t.detach()) for t in tensors)
        wanted = [t.requires_grad_() for t in (recon, mu, logvar)]
        loss = vk.fused_elbo(recon, x, mu, logvar, backend=who, **settings)
        results.append([loss, *torch.autograd.grad(loss * 3, wanted)])
    for name, truth, ours in zip(("loss", "recon", "mu", "logvar"), *results, strict=True):
        error = ((ours.double() - truth).abs().max() / truth.abs().max()).item()
        assert error <= 16 * torch.finfo(ours.dtype).eps, f"{name}: relative error {error:.1e}"


def measure(gpu, report, shape, case, names, compiled, seconds):
    """Rows of one shape and case: events, graph replay, host, memory."""
    likelihood, dtype, of_x = case
    size = lambda t: torch.empty((), dtype=t).element_size()  # noqa: E731
    batch, dims, latents = shape
    n, k = batch * dims, batch * latents
    # the least a step moves: recon, x, gradient; mu, logvar, z and again mu, logvar, grad_z, two gradients
    least = n * (2 * size(dtype) + size(of_x)) + k * 8 * size(dtype)
    copies = 1 if gpu.device == "cpu" else max(2, min(64, COLD // least))
    sets = [inputs(shape, dtype, of_x, gpu.device, seed) for seed in range(copies)]
    rows, steps = [], {}
    for name, objective in contenders(likelihood, names, compiled).items():
        with report.part(f"{name} {likelihood} {dtype} {of_x} {shape}"):
            if name in names:
                check(name, likelihood, sets[0][:4])
            step = objectives.step_with(objective)
            step(*sets[0])  # compiles
            gpu.synchronize()
            steps[name] = step
    times = {name: [] for name in (*steps, *(f"{name} again" for name in names if name in steps))}
    turn, end = (sets * 8)[: max(8, copies)], time.perf_counter() + seconds
    while time.perf_counter() < end or not times["eager"]:
        for name in times:
            times[name] += gpu.events(steps[name.removesuffix(" again")], turn)[1:]
    for name, measured in times.items():
        row = {"batch": batch, "dims": dims, "latents": latents, "likelihood": likelihood}
        row |= {"dtype": str(dtype)[6:], "x": str(of_x)[6:], "name": name}
        row |= {key: round(value, 2) for key, value in core.summary(measured).items()}
        row |= {"graph_us": "", "host_us": "", "peak_mib": "", "least_mib": round(least / 2**20, 3)}
        if name in steps:
            with report.part(f"graph of {name}, {likelihood} {dtype} {shape}"):
                if name != "compile":
                    row["graph_us"] = round(gpu.graph(steps[name], sets[: min(copies, 20)]) * 1e6, 2)
            row["host_us"] = round(host(gpu, steps[name], sets[0]) * 1e6, 2)
            row["peak_mib"] = round(gpu.peak_bytes(steps[name], sets[0]) / 2**20, 3)
        rows.append(row)
    return rows


def host(gpu, step, arguments, n=50):
    """Seconds of Python for a step, the GPU left to run behind."""
    gpu.synchronize()
    begin = time.perf_counter()
    for _ in range(n if gpu.device == "cuda" else 1):
        step(*arguments)
    seconds = (time.perf_counter() - begin) / (n if gpu.device == "cuda" else 1)
    gpu.synchronize()
    return seconds


def sanitize(report):
    """The numbers under each tool of compute-sanitizer, without torch's cache, which hides bad accesses."""
    env = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
        with report.part(f"compute-sanitizer {tool}"):
            command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
            command += [sys.executable, "-m", "bench.gpu", "--numbers"]
            done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
            said = done.stdout[-3000:] + done.stderr[-1000:]
            assert done.returncode == 0, f"exit status {done.returncode}: {said}"
            print(f"{tool}: clean", flush=True)


def copy_bandwidth(gpu):
    """Bytes a second, read and written, of a copy of 1 GiB."""
    a = torch.empty((1 << 28) if gpu.device == "cuda" else 1 << 12, device=gpu.device)
    b = torch.empty_like(a)
    times = gpu.events(lambda: b.copy_(a), [()] * 12)
    return 2 * a.numel() * 4 / statistics.median(times[2:])


def table(rows, bandwidth):
    lines = []
    for row in rows:
        us, eager = row["median_us"], next(r["median_us"] for r in rows if same_case(r, row) and r["name"] == "eager")
        share = row["least_mib"] * 2**20 / (us * 1e-6) / bandwidth
        shape = f"{row['batch']}x{row['dims']}/{row['latents']}"
        lines.append(
            f"{shape:>16} {row['likelihood']:<9} {row['dtype']:<8} {row['x']:<7} {row['name']:<13} "
            f"{us:>10.1f} us {eager / us:>6.2f}x eager {share:>6.1%} of copy  graph {row['graph_us']!s:>8} us "
            f"host {row['host_us']!s:>7} us  peak {row['peak_mib']!s:>8} MiB"
        )
    return "\n".join(lines)


def same_case(a, b):
    return all(a[key] == b[key] for key in ("batch", "dims", "latents", "likelihood", "dtype", "x"))


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("--dry", action="store_true", help="on the CPU, at toy sizes")
    parser.add_argument("--numbers", action="store_true", help="check the numbers at toy sizes, and end")
    parser.add_argument("--sanitize", action="store_true", help="the same under compute-sanitizer, and end")
    parser.add_argument("--out", type=Path, help="folder for gpu.csv")
    parser.add_argument("--minutes", type=float, default=7.0, help="no new case is begun after that")
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring, for each case")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    begin, report, gpu = time.perf_counter(), Report(), Dry() if args.dry else Gpu()
    if not args.dry and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; --dry runs the check without one")

    found = vk.available_backends()
    names = [name for name in ("triton", "cuda") if found[name] is None and not (args.dry and name == "cuda")]
    triton = __import__("triton").__version__ if found["triton"] is None else found["triton"]
    where = core.machine() | {"device": gpu.describe(), "triton": triton}
    where["command"] = " ".join(["python -m bench.gpu", *sys.argv[1:]])
    for key, value in (where | {"backends": found}).items():
        print(f"{key}: {value}")
    if not names:
        report.failures.append("no backend for this GPU")
    if args.sanitize or args.numbers:
        sanitize(report) if args.sanitize else check_numbers(report, names, gpu.device, DRY_SHAPES)
        end(report, begin)
    bandwidth = copy_bandwidth(gpu)
    print(f"copy: {bandwidth / 1e9:.0f} GB/s read and written", flush=True)

    shapes = DRY_SHAPES if args.dry else SHAPES
    check_numbers(report, names, gpu.device, DRY_SHAPES if args.dry else [(3, 1031, 7), (128, 784, 20), (9, 40000, 64)])
    print(f"checked in {time.perf_counter() - begin:.0f} s; failures: {report.failures or 'none'}", flush=True)

    rows = []
    for case in CASES:
        for shape in shapes:
            if time.perf_counter() - begin > args.minutes * 60:
                report.failures.append(f"no time for {case[0]} {case[1]} {case[2]} {shape}")
                continue
            gc.collect()
            new = measure(gpu, report, shape, case, names, not args.no_compile and not args.dry, args.seconds)
            rows += [row | where for row in new]
            print(table(new, bandwidth), flush=True)
            if args.out:  # what there is, should the time run out
                args.out.mkdir(parents=True, exist_ok=True)
                core.write(args.out / "gpu.csv", rows)
    print(f"\n{table(rows, bandwidth)}\n")
    end(report, begin)


def end(report, begin):
    print(f"{len(report.failures)} failures in {time.perf_counter() - begin:.0f} s")
    for failure in report.failures:
        print(f"FAILED {failure}")
    raise SystemExit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
