"""What the benchmarks of one op share: the contenders in turns, and the machine beside each row."""

import os
import sys

import torch

from vae_kernels.timing import clock, results


def rows(runs, seconds, least=7):
    """A row for each contender: the summary of its times, and how many times faster than it "fused" is.

    runs: {name: (a function that prepares the inputs, the function to time)}. seconds: for all contenders.
    """
    times = clock.summaries(clock.interleave(runs, clock.CPU, seconds, least=least))
    for name, t in times.items():
        ratio = round(t["median_us"] / times["fused"]["median_us"], 2)
        yield {"name": name} | {k: round(v, 1) for k, v in t.items()} | {"fused_is_times_faster": ratio}


def where(module, threads):
    """The machine, the versions and the command, for each row. threads: of torch from now on; None changes nothing."""
    if threads:
        torch.set_num_threads(threads)
    # A thread may spin while it waits. On a busy machine such threads measure the other processes too.
    wait = os.environ.get("OMP_WAIT_POLICY", "default")
    found = results.where(" ".join([f"python -m bench.{module}", *sys.argv[1:]]))
    return found | {"threads": torch.get_num_threads(), "omp_wait_policy": wait}
