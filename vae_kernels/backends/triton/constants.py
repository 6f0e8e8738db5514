"""The names of numbers that kernels compare with: core/objective.py says what each number means."""

import triton.language as tl

from ...core.objective import Layout, Reduction

NONE = tl.constexpr(Reduction.NONE)
MEAN = tl.constexpr(Reduction.MEAN)
SUM = tl.constexpr(Reduction.SUM)

FULL = tl.constexpr(Layout.FULL)
PER_FEATURE = tl.constexpr(Layout.PER_FEATURE)
SCALAR = tl.constexpr(Layout.SCALAR)
PER_SAMPLE = tl.constexpr(Layout.PER_SAMPLE)
