"""`pytest bench`: tests that the objective takes less time than eager PyTorch. Plain `pytest` does not run this file.

The test measures ratios, never absolute seconds. In each round both run in turns, and the clock that pytest-benchmark
reads goes forward by (our time / eager time). So the table of pytest-benchmark shows ratios. `--benchmark-compare`
(`--benchmark-compare-fail=median:20%`) finds what has become slower since `--benchmark-autosave`, even on a machine
that is slower today.
"""

import pytest

from vae_kernels.timing.case import Case
from vae_kernels.timing.clock import CPU
from vae_kernels.timing.contenders import EAGER, OURS
from vae_kernels.timing.measure import AGAIN, Options, line_up

CASES = [
    Case(128, 784, 20),
    Case(256, 3072, 128),
    Case(256, 3072, 128, dtype="bfloat16", x="uint8"),
    Case(256, 3072, 128, likelihood="gaussian"),
    Case(32, 2000, 10, likelihood="zinb", outputs=3),
    Case(128, 784, 20, part="loss", direction="forward"),
]
ROUNDS, RUNS = 15, 5


class Ratios:
    """The clock for pytest-benchmark: a second on this clock is a ratio of 1."""

    now = 0.0

    def __call__(self):
        return self.now


CLOCK = Ratios()


def turn(prepare, function):
    """The seconds of the quickest of some runs. The first run is left out: it finds the caches of the other
    contender."""
    return min(run.seconds for run in CPU.times(function, [prepare(i) for i in range(RUNS)])[1:])


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.likelihood}-{c.shape}-{c.dtype}-{c.part}-{c.direction}")
def test_share_of_eager(benchmark, case):
    functions, _, _ = line_up(case, Options(modes=(), few=True))
    ours, eager = (next(f for key, f in functions.items() if key[0] == kind) for kind in (OURS, EAGER))

    def both():
        CLOCK.now += turn(*ours) / turn(*eager)

    benchmark.pedantic(both, rounds=ROUNDS, warmup_rounds=1)
    noise = [turn(*functions[OURS, AGAIN]) / turn(*ours) for _ in range(ROUNDS)]
    assert benchmark.stats.stats.median < 1 / max(1, sorted(noise)[ROUNDS // 2])
