"""python -m bench.gpu: the check of a GPU, in at most eight minutes and without a network.

The check has three parts. It describes the machine. It checks every backend against float64, and the noise bit by bit
against the CPU. It times each case that was just checked, beside eager PyTorch and torch.compile. A failure is printed
and does not stop the other parts; the exit status is then 1. A run that a signal or the end of its time stops writes
the rows of all cases before, and has exit status 1 too. --dry runs everything on the CPU at toy sizes, with Triton in
its interpreter; its times mean nothing. --sanitize checks the numbers at toy sizes under CUDA's compute-sanitizer.
"""

import _thread
import argparse
import contextlib
import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from .. import backends
from ..backends import available_backends
from ..core import noise
from ..core.objective import Draw
from ..densities import mixture_log_prob
from . import check, results
from .case import Case, draw
from .clock import Dry, Gpu
from .contenders import ours
from .measure import Options, measure, step
from .table import table

SHAPES = [
    (128, 784, 20), (256, 3072, 128), (256, 12288, 128), (64, 196608, 256), (1024, 20000, 30), (8, 16384, 4096),
    (1024, 784, 20), (8, 64, 4),
]  # fmt: skip
DRY_SHAPES = [(4, 33, 4), (3, 64, 5)]
MIXTURES, DRY_MIXTURES = [(3, 5, 7), (200, 700, 41), (9, 20_000, 2), (30_000, 64, 40)], [(3, 5, 7), (70, 66, 3)]
NUMBERS = [(3, 1031, 7), (128, 784, 20), (9, 40000, 64)]
CASES = [  # likelihood, dtype of recon and latents, dtype of x
    ("bernoulli", "float32", "float32"),
    ("bernoulli", "bfloat16", "float32"),
    ("gaussian", "float32", "float32"),
    ("bernoulli", "bfloat16", "uint8"),
]


GRACE = 45  # seconds that the last case may take after --minutes


class Stopped(BaseException):
    """A signal has come. It is no Exception, so that Report.part() does not take a signal for a failure."""


class Report:
    """Prints each failure at once, and remembers it."""

    def __init__(self):
        self.failures, self.stopped, self.timer = [], None, None

    @contextlib.contextmanager
    def part(self, name):
        try:
            yield
        except Exception as error:
            if self.stopped:  # the exit of a CUDA graph has raised an error in place of Stopped
                raise Stopped from error
            self.failures.append(name)
            print(f"FAILED {name}\n{traceback.format_exc(limit=4)}", flush=True)

    def stop_on_signals(self, seconds):
        """From now on, raise Stopped at the first signal that ends a program, and after this many seconds."""

        def stop(number, frame):
            for name in SIGNALS:
                signal.signal(name, signal.SIG_IGN)  # the rows are still to be written: no second signal may disturb
            self.stopped = signal.Signals(number).name
            raise Stopped

        for name in SIGNALS:
            signal.signal(name, stop)
        self.alarm(seconds)

    def alarm(self, seconds):
        """A signal after this many seconds; 0 takes the alarm back. Windows has no SIGALRM: there it is SIGINT."""
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, seconds)
            return
        if self.timer is not None:
            self.timer.cancel()
        if seconds:
            self.timer = threading.Timer(seconds, _thread.interrupt_main)
            self.timer.daemon = True
            self.timer.start()


# Windows has only the first two
SIGNALS = tuple(getattr(signal, n) for n in ("SIGTERM", "SIGINT", "SIGHUP", "SIGALRM") if hasattr(signal, n))


def cases(shapes):
    for likelihood, dtype, x in CASES:
        for shape in shapes:
            yield Case(*shape, likelihood=likelihood, dtype=dtype, x=x)


def check_numbers(report, names, device, shapes, mixtures):
    for name in names:
        for shape in mixtures:
            with report.part(f"mixture of {name}, {shape}"):
                check_mixture(name, shape, device)
        for rng in ((0, 0), (1, 2), (0x1234567890AB, (5 << 32) + 7)):
            for shape in ((3, 5), (1000, 20), (17, 3000)):
                with report.part(f"noise of {name}, {rng}, {shape}"):
                    check_noise(name, rng, shape, device)
        for case in cases(shapes):
            case = replace(case, part="loss", incoming=3.0)
            with report.part(f"numbers of {name}, {case}"):
                tensors = draw(case).to(device)
                found = step(ours(case, name)["fused_elbo"], case)(tensors.leaves())
                check.worst(check.errors(case, tensors, check.truth(case, tensors), *found), ours=True)


def check_noise(name, rng, shape, device):
    zeros, words = torch.zeros(shape, device=device), torch.tensor(rng)
    module = backends.choose(name, (zeros,))
    z, _ = module.sample_kl(Draw(zeros, zeros, (), words.to(device), None, False))
    different = (z.cpu() != noise.normals(words, shape)).sum().item()
    assert not different, f"{different} of {z.numel()} differ from the CPU's"


def check_mixture(name, shape, device):
    """log p and its gradients, to the accuracy of float32: a score s has an error of s eps, and e^s has this relative
    error."""
    n, k, d = shape
    draw_normal = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))
    tensors, weight = [draw_normal(s) for s in ((n, d), (k, d), (k, d), (k,))], draw_normal(n)
    found = []
    for backend, dtype in ((name, torch.float32), ("torch", torch.float64)):
        inputs = [t.to(device, dtype).requires_grad_() for t in tensors]
        log_p = mixture_log_prob(*inputs, backend=backend)
        found.append([log_p, *torch.autograd.grad(log_p, inputs, weight.to(log_p))])
    for result, value, truth in zip(("log p", "z", "loc", "logvar", "logits"), *found, strict=True):
        error = ((value - truth).abs().max() / truth.abs().max()).item()
        assert error <= 1e-4, f"{result} is wrong by {error:.1e} of the largest"


def sanitize(report):
    """Check the numbers under each tool of compute-sanitizer. torch's memory cache is off, because it hides bad
    accesses."""
    env = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
        with report.part(f"compute-sanitizer {tool}"):
            command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
            command += [sys.executable, "-m", "vae_kernels.timing.gpu", "--numbers"]
            done = subprocess.run(command, env=env, capture_output=True, text=True)
            output = done.stdout[-3000:] + done.stderr[-1000:]
            assert done.returncode == 0, f"exit status {done.returncode}: {output}"
            print(f"{tool}: clean", flush=True)


def rows_of(report, case, options):
    """The rows of a case, with all backends together. If that fails, the rows of each backend that works alone."""
    with report.part(f"times of {case}"):
        return measure(case, options)
    rows = []
    for name in options.backends if len(options.backends) > 1 else ():
        with report.part(f"times of {case}, {name} alone"):
            rows += measure(case, replace(options, backends=(name,)))
    return rows


def describe(dry):
    if dry:
        return "no GPU: the times mean nothing"
    p = torch.cuda.get_device_properties(0)
    toolkit = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    return f"{p.name}, {p.multi_processor_count} SMs, {p.total_memory >> 30} GiB, {toolkit}"


def parse():
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("--dry", action="store_true", help="on the CPU, at toy sizes")
    parser.add_argument("--numbers", action="store_true", help="check the numbers at toy sizes, and end")
    parser.add_argument("--sanitize", action="store_true", help="check the numbers under compute-sanitizer, and end")
    parser.add_argument("--out", type=Path, help="folder of the results; the file of this device gets the rows")
    parser.add_argument(
        "--minutes", type=float, default=7.0, help=f"no case begins after this time; {GRACE} s later the run ends"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds to measure each case")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    if args.dry and os.environ.get("TRITON_INTERPRET") != "1":
        parser.error("--dry needs TRITON_INTERPRET=1 in the environment, for Triton's interpreter")
    if not args.dry and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; --dry runs the check without one")
    return args


def main():
    args = parse()
    begin, report, clock = time.perf_counter(), Report(), Dry() if args.dry else Gpu()
    found = available_backends()
    names = tuple(name for name in ("triton", "cuda") if found[name] is None and not (args.dry and name == "cuda"))
    where = results.where(" ".join(["python -m bench.gpu", *sys.argv[1:]]), describe(args.dry))
    triton = __import__("triton").__version__ if found["triton"] is None else found["triton"]
    for key, value in (where | {"triton": triton, "backends": found}).items():
        print(f"{key}: {value}", flush=True)
    # torch.profiler: CUDA graphs crash if CUPTI is torn down and restarted
    os.environ.setdefault("TEARDOWN_CUPTI", "0")
    report.stop_on_signals(args.minutes * 60 + GRACE)
    try:
        run(report, args, names, clock, where, begin)
    except Stopped:
        report.failures.append(f"stopped by {report.stopped} after {time.perf_counter() - begin:.0f} s")
    report.alarm(0)
    print(f"{len(report.failures)} failures in {time.perf_counter() - begin:.0f} s")
    for failure in report.failures:
        print(f"FAILED {failure}", flush=True)
    raise SystemExit(1 if report.failures else 0)


def run(report, args, names, clock, where, begin):
    if not names:
        report.failures.append("no backend for this GPU")
    elif args.sanitize or args.numbers:
        sanitize(report) if args.sanitize else check_numbers(report, names, clock.device, DRY_SHAPES, DRY_MIXTURES)
    else:
        sizes = (DRY_SHAPES, DRY_MIXTURES) if args.dry else (NUMBERS, MIXTURES)
        check_numbers(report, names, clock.device, *sizes)
        print(f"checked in {time.perf_counter() - begin:.0f} s; failures: {report.failures or 'none'}", flush=True)
        modes = () if args.no_compile or args.dry else ("default",)
        options = Options(clock, args.seconds, 1 if args.dry else 5, modes, few=True, backends=names)
        times(report, args, where, options, begin)


def times(report, args, where, options, begin):
    rows, written = [], 0
    try:
        for case in cases(DRY_SHAPES if args.dry else SHAPES):
            if time.perf_counter() - begin > args.minutes * 60:
                report.failures.append(f"no time for {case}")
                continue
            gc.collect()
            new = rows_of(report, case, options)
            rows += [{"suite": "gpu"} | row | where for row in new]
            if new:
                print(table(new), flush=True)
            written = write(args.out, where, rows, written)  # after each case, because the machine may be taken away
    finally:
        write(args.out, where, rows, written)


def write(out, where, rows, written):
    """Write the rows into the file of this device if there are new rows. Returns how many rows are written."""
    if out and len(rows) > written:
        results.merge(results.file_of(out, where["device"]), rows)
        return len(rows)
    return written


if __name__ == "__main__":
    main()
