"""`pytest bench`: is the objective still faster than eager PyTorch? Ratios of runs in turns, never absolute seconds.

Not part of plain `pytest`. pytest-benchmark keeps each ratio in extra_info: --benchmark-json, --benchmark-autosave.
"""

import pytest

from vae_kernels.bench.case import Case
from vae_kernels.bench.contenders import EAGER, OURS
from vae_kernels.bench.measure import AGAIN, Options, measure

CASES = [
    Case(128, 784, 20),
    Case(256, 3072, 128),
    Case(256, 3072, 128, dtype="bfloat16", x="uint8"),
    Case(256, 3072, 128, likelihood="gaussian"),
    Case(64, 2000, 10, likelihood="zinb", outputs=3),
    Case(128, 784, 20, part="loss", direction="forward"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.likelihood}-{c.shape}-{c.dtype}-{c.direction}")
def test_faster_than_eager(benchmark, case):
    """By more than two equal runs differ."""
    rows = benchmark.pedantic(measure, (case, Options(seconds=0.3, modes=(), few=True, memory=False)), rounds=1)
    us = {(row["kind"], row["name"]): row["median_us"] for row in rows}
    (eager,) = (value for (kind, _), value in us.items() if kind == EAGER)
    again = us.pop((OURS, AGAIN))
    (ours,) = (value for (kind, _), value in us.items() if kind == OURS)
    benchmark.extra_info["times faster than eager"] = eager / ours
    assert eager > max(ours, again)
