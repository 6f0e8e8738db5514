"""The ops of a mixture by Triton kernels: from tensors to launches. ops/schemas.py says what they take."""

import functools

import torch

from ...formulas import categorical
from ...formulas import mixture as formula
from . import mixture_kernel
from .launch import Launch
from .plan import DTYPES

ROWS = 32  # of a program
WIDE = 64  # what samples and components are filled up to multiples of
PROGRAMS = 512  # as many as give all of a GPU work, where there are as many tiles
PACKED = ("points", "locs", "roots", "constants")
RESULTS = ("log_p", "peak", "log_sum")


def mixture(z, loc, logvar, log_weight, need):
    plan = Plan(*_key(z, loc))
    packed = plan.pack(z, loc, logvar, log_weight)
    results = [torch.empty(len(z), dtype=t, device=z.device) for t in (z.dtype, torch.float64, torch.float64)]
    plan.log_sum_exp(packed, results)
    return results + (plan.gradients(packed, (None, *results[1:]), need) if need else [])


def mixture_backward(grad, z, loc, logvar, log_weight, peak, log_sum, need):
    plan = Plan(*_key(z, loc))
    return plan.gradients(plan.pack(z, loc, logvar, log_weight), (grad, peak, log_sum), need)


def _key(z, loc):
    return len(z), *loc.shape, z.dtype


def _splits(owners, others, columns):
    """How many programs share the others of a tile of owners: a function of the shapes alone, so that sums are the same
    on every GPU."""
    tiles, most = -(-owners // ROWS), -(-others // columns)
    return min(most, max(1, PROGRAMS // max(tiles, 1)))


@functools.lru_cache(maxsize=1024)  # Plan(...) gives the one that there is
class Plan:
    """The launches for samples [samples, dims] and as many components."""

    def __init__(self, samples, components, dims, dtype):
        self.samples, self.components, self.dims, self.dtype = samples, components, dims, dtype
        self.wide_samples, self.wide_components = (-(-n // WIDE) * WIDE for n in (samples, components))
        sizes = {"samples": samples, "wide_samples": self.wide_samples, "wide_components": self.wide_components}
        self.sizes = sizes | {"dims": dims}
        self.tile = {"ROWS": ROWS, "CHAIN": 32, "DTYPE": DTYPES[dtype]}
        self.tile |= {"DEVIATIONS": formula.triton_deviations, "SCORE": formula.triton_score}
        fixed = self.sizes | {"components": components, "TILE": ROWS, "D": 16, "DTYPE": DTYPES[dtype]}
        fixed |= {"ROOT": formula.triton_root, "CONSTANT": formula.triton_constant}
        programs = (self.wide_samples + self.wide_components) // ROWS
        given = ("z", "loc", "logvar", "log_weight", *PACKED)
        self._pack = Launch(mixture_kernel.mixture_pack_kernel, programs, fixed, given)
        # forward, float32 has registers for twice as many columns
        self.columns = 64 if dtype == torch.float32 else 32
        self.splits = _splits(samples, components, self.columns)
        self.forward, self.join = self._forward()
        self.backward = functools.cache(self._backward)

    def _forward(self):
        programs = -(-self.samples // ROWS)
        fixed = self.sizes | self.tile | {"splits": self.splits, "COLUMNS": self.columns}
        fixed["ADD"] = categorical.triton_add
        fixed |= {"LOWEST": torch.finfo(self.dtype).min, "LOG_TOTAL": formula.triton_log_total}
        given = (*PACKED, *RESULTS, "tops", "totals")
        forward = Launch(mixture_kernel.mixture_kernel, programs * self.splits, fixed, given)
        fixed = {"samples": self.samples, "wide_samples": self.wide_samples, "splits": self.splits, "ROWS": 128}
        fixed |= {"JOIN": formula.triton_join, "LOG_TOTAL": formula.triton_log_total}
        given = ("tops", "totals", *RESULTS)
        return forward, Launch(mixture_kernel.mixture_join_kernel, -(-self.samples // 128), fixed, given)

    def _backward(self, of_samples, incoming_row):
        """The launch, and its finish."""
        both = self.samples, self.components
        owners, others = both if of_samples else both[::-1]
        wide = self.wide_samples if of_samples else self.wide_components
        splits, tiles = _splits(owners, others, 32), -(-owners // ROWS)
        fixed = self.sizes | self.tile | {"splits": splits, "COLUMNS": 32}
        fixed |= {"incoming_row": incoming_row, "OF_SAMPLES": of_samples}
        fixed |= {"RESPONSIBILITY": formula.triton_responsibility, "WITHIN": formula.triton_within}
        given = (*PACKED, "peak", "log_sum", "incoming", "first", "second")
        launch = Launch(mixture_kernel.mixture_backward_kernel, tiles * splits, fixed, given)
        d = 16
        chunks = -(-self.dims // d)
        fixed = {"owners": owners, "wide": wide, "dims": self.dims, "splits": splits, "chunks": chunks}
        fixed |= {"ROWS": ROWS, "D": d}
        given = ("first", "second", "roots", "of_z", "of_loc", "of_logvar", "of_log_weight")
        finish = Launch(mixture_kernel.mixture_finish_kernel, tiles * chunks, fixed, given)
        return launch, finish, splits, wide

    def pack(self, *inputs):
        """points, locs, roots and constants, as the kernels read them."""
        sizes = [self.dims * self.wide_samples, *[self.dims * self.wide_components] * 2, self.wide_components]
        packed = torch.empty(sum(sizes), dtype=self.dtype, device=inputs[0].device).split_with_sizes(sizes)
        self._pack(*inputs, *packed)
        return packed

    def log_sum_exp(self, packed, results):
        if not self.samples:
            return
        parts = None, None
        if self.splits > 1:
            parts = torch.empty((2, self.splits * self.wide_samples), dtype=self.dtype, device=packed[0].device)
        self.forward(*packed, *results, *parts)
        if self.splits > 1:
            self.join(*parts, *results)

    def gradients(self, packed, of_samples, need):
        """Those that are needed; of_samples: the incoming gradient, peak and log_sum."""
        incoming, peak, log_sum = of_samples
        shapes = (self.samples, self.dims), *[(self.components, self.dims)] * 2, (self.components,)
        grads = [
            torch.empty(shape, dtype=self.dtype, device=packed[0].device) if need >> i & 1 else None
            for i, shape in enumerate(shapes)
        ]
        for side, of in ((True, (grads[0], None, None, None)), (False, (None, *grads[1:]))):
            if all(g is None for g in of) or (side and not self.samples):
                continue
            launch, finish, splits, wide = self.backward(side, 0 if incoming is None else incoming.stride(0))
            shape = (1, splits, self.dims, wide) if side else (2, splits, self.dims + 1, wide)
            sums = (*torch.empty(shape, dtype=self.dtype, device=packed[0].device), None)[:2]
            if splits:
                launch(*packed, peak, log_sum, incoming, *sums)
            finish(*sums, packed[2], *of)
        return [g for g in grads if g is not None]
