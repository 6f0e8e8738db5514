"""What a launch of the objective needs besides its tensors: a function of shapes, strides and dtypes, kept for each."""

import functools
import math

import torch
import triton
import triton.language as tl

from ...formulas import ALL, LIKELIHOODS, kl, mixture, reparameterize
from . import counts, maths
from .elbo_kernel import elbo_kernel, finish_kernel
from .launch import Launch

for _module in (*ALL.values(), kl, mixture, reparameterize):
    _module.tl, _module.m, _module.c = tl, maths, counts
    for _name in [name for name in vars(_module) if name.startswith("triton_")]:  # one twin may call another
        setattr(_module, _name, triton.jit(getattr(_module, _name)))
NLL = {name: formula.triton_nll for name, formula in LIKELIHOODS.items()}
KL = kl.triton_gaussian_kl
SAMPLE = reparameterize.triton_reparameterize
DTYPES = {torch.float32: tl.float32, torch.float64: tl.float64}

ELEMENT, ROW, NUMBER = 0, 1, 2  # a parameter against x; elbo_kernel.py
NONE, MEAN, SUM = 0, 1, 2  # reduction


class Tiles:
    """How programs cover a matrix: r rows and c columns, and `steps` tiles side by side, or below one another (down).

    flat: the matrix is read as one row. most_steps: the kernel goes through no more tiles than these.
    Nothing here depends on the GPU: the sums, and so the bits, are the same on every GPU. r and c do not depend on the
    number of rows, and `steps` depends on it at two sizes alone: other batches find their kernel compiled."""

    def __init__(self, rows, cols, flat=False, down=False, tile=1024, most_steps=16):
        n = rows * cols
        self.rows, self.cols, self.flat, self.down = (1, n, True, False) if flat else (rows, cols, False, down)
        self.c = tile if flat else min(power_of_two(self.cols), tile)
        self.r = tile // self.c
        self.steps = min(1 if n < 1 << 20 else 4 if n < 1 << 26 else 16, most_steps)
        if down:
            self.steps = 8  # of a small batch some are empty: that costs less than a kernel for each size
        elif self.c * self.steps > self.cols:
            self.steps = 1
        self.pieces = max(1, -(-self.cols // (self.c * (1 if down else self.steps))))
        self.row_blocks = max(1, -(-self.rows // (self.r * (self.steps if down else 1))))
        self.blocks = self.pieces * self.row_blocks


def latent_tiles(rows, cols):
    """Those of the kernels of latents, which take one tile a program."""
    return Tiles(rows, cols, tile=512, most_steps=1)


def power_of_two(n):
    """The smallest that is not less than n."""
    return 1 << max(n - 1, 0).bit_length()


def pieces_at_once(*tiles):
    """For adding up: the pieces of a row that are read together, for each, and the rows."""
    pieces = [min(power_of_two(t.pieces), 64) for t in tiles]
    return *pieces, 256 // max(pieces)


# What each call gives to the kernels, in this order; the partial sums and the results of both kernels first
_PARTS = ("nll", "kl", "weighted", "sums1", "sums2", "columns1", "columns2", "dims", "totals")
_OUT = ("loss", "terms")
_SUMS_OUT = ("sums1_out", "sums2_out", "columns1_out", "columns2_out")
_WEIGHTS = ("ticket", "rec_weight", "rec_weight_factor", "beta", "beta_factor")
_SHARED = (*_PARTS, *_OUT, *_SUMS_OUT, *_WEIGHTS)
_SINKS = ("g0", "g1", "g2", "h0", "h1", "h2", "h3")
_INPUTS = ("x", "p0", "p1", "p2", "q0", "q1", "q2", "q3", "incoming", "beta_dims")


@functools.lru_cache(maxsize=1024)  # Plan(...) gives the one that there is
class Plan:
    """x, params, latent, incoming: the (shape, strides, dtype) of each tensor; x and incoming may be None."""

    def __init__(self, x, params, likelihood, latent, incoming, by_dim, reduction, need, terms):
        inputs = (*params, *latent)
        self.batch = inputs[0][0][0]
        self.dtype = torch.float64 if torch.float64 in [dtype for _, _, dtype in inputs] else torch.float32
        values = incoming is None  # else gradients alone
        by_row = values and (reduction == NONE or terms)
        layouts = [ELEMENT if len(p[0]) == len(x[0]) else ROW if p[0] else NUMBER for p in params]
        self.out = self._outputs(params, latent, values, reduction, terms)
        self.grads = [self._gradient(i, inputs, layouts) for i in range(len(inputs)) if need >> i & 1]
        names = {name for name, *_ in self.grads}

        tiles, kl_tiles, ragged = Tiles(1, 0), Tiles(1, 0), False  # of nothing
        if params:
            one_run = not by_row and (values or not incoming[0]) and _gapless(x, params, layouts)
            sums_rows = any(name.startswith("columns") for name in names)
            features = math.prod(x[0][1:])
            tiles = Tiles(self.batch, features, one_run, sums_rows)
            ragged = one_run and features % 16 > 0  # the length of the run is a multiple of 16 for some batches alone
        if latent:
            kl_tiles = latent_tiles(self.batch, math.prod(latent[0][0][1:]))
        row_blocks, kl_row_blocks = tiles.row_blocks * bool(params), kl_tiles.row_blocks * bool(latent)
        blocks, kl_blocks = row_blocks * tiles.pieces, kl_row_blocks * kl_tiles.pieces

        self.parts = {}  # the sizes of the partial sums
        if values and params:
            self.parts["nll"] = self.batch * tiles.pieces if by_row else blocks
        if values and latent:
            self.parts["kl"] = self.batch * kl_tiles.pieces if by_row else kl_blocks
            if by_dim and by_row:
                self.parts["weighted"] = self.parts["kl"]
        if terms and latent and len(latent[0][0]) > 1:
            self.parts["dims"] = kl_row_blocks * kl_tiles.cols
        for k in (1, 2):
            if f"sums{k}_out" in names:
                self.parts[f"sums{k}"] = blocks
            if f"columns{k}_out" in names:
                self.parts[f"columns{k}"] = row_blocks * tiles.cols
        adds_up = values or bool(self.parts)
        finishers = _finishers(sum(self.parts.values()), self.batch * by_row)
        if finishers > 1:
            self.parts["totals"] = finishers

        at_once = pieces_at_once(tiles, kl_tiles) if by_row else (1, 1, 1)
        shared = dict(zip(("NLL_PIECES", "KL_PIECES", "BLOCK"), at_once, strict=True))
        shared |= {"ROWS": by_row, "VALUES": values, "REDUCTION": reduction, "DTYPE": DTYPES[self.dtype]}
        shared |= {"cols": 0 if ragged else tiles.cols, "pieces": tiles.pieces, "row_blocks": row_blocks}
        shared["batch"] = self.batch
        shared |= {"latents": kl_tiles.cols, "kl_pieces": kl_tiles.pieces, "kl_row_blocks": kl_row_blocks}
        own = _row_strides(x, params, layouts, latent, incoming, tiles.flat)
        own |= {"rows": None if tiles.flat else tiles.rows, "run": tiles.cols if ragged else None}
        own |= {"R": tiles.r, "C": tiles.c, "STEPS": tiles.steps, "DOWN": tiles.down}
        own |= {"FORMULA": NLL[likelihood] if params else None, "KL": KL if latent else None}
        own["COUNTS"] = bool(params) and LIKELIHOODS[likelihood].SUPPORT == "counts"
        warps = 8 if own["COUNTS"] else 4  # long formulas: half as many elements a thread need fewer registers
        own |= {"N": len(LIKELIHOODS[likelihood].PARAMETERS) if params else 0, "KL_R": kl_tiles.r, "KL_C": kl_tiles.c}
        layouts += [NUMBER] * (3 - len(layouts))
        own |= {"LAYOUT1": layouts[1], "LAYOUT2": layouts[2], "FINISH": adds_up and finishers == 1}
        given = (*_SHARED, *_SINKS, *_INPUTS)
        self.launch = Launch(elbo_kernel, max(blocks + kl_blocks, 1), shared | own, given, warps)
        self.finish = Launch(finish_kernel, finishers, shared, _SHARED) if adds_up and finishers > 1 else None

    def _outputs(self, params, latent, values, reduction, terms):
        """{name in the kernel: shape}, in the order of the op's results."""
        out = {"loss": (self.batch,) if reduction == NONE else ()} if values else {}
        if terms:
            dims = math.prod(latent[0][0][1:]) if latent and len(latent[0][0]) > 1 else 0
            out["terms"] = (1 + self.batch * (bool(params) + bool(latent)) + dims,)
        return out

    def _gradient(self, i, inputs, layouts):
        """(name in the kernel, shape, strides, dtype) of the gradient of input i."""
        shape, strides, dtype = inputs[i]
        n = len(layouts)
        if i < n and layouts[i] != ELEMENT:
            return f"sums{i}_out" if layouts[i] == NUMBER else f"columns{i}_out", shape, strides, self.dtype
        dense = (math.prod(shape[1:]), *strides[1:])  # as layout.empty_in_order
        return f"g{i}" if i < n else f"h{i - n}", shape, dense, dtype

    def __call__(self, x, params, latent, incoming, rec_weight, rec_weight_factor, beta, beta_factor, ticket):
        """Launch: [*results, *gradients]."""
        device = (params or latent)[0].device
        if self.dtype == torch.float64:  # a Python number reaches a kernel as a float32
            rec_weight, rec_weight_factor = _as_tensor(rec_weight, rec_weight_factor, device)
            if beta is None or beta.dim() == 0:
                beta, beta_factor = _as_tensor(beta, beta_factor, device)
        by_dim = beta is not None and beta.dim() > 0
        out = {name: torch.empty(shape, dtype=self.dtype, device=device) for name, shape in self.out.items()}
        grads = {n: torch.empty_strided(s, st, dtype=d, device=device) for n, s, st, d in self.grads}
        parts = {}
        if self.parts:
            # Each begins at a multiple of 16 bytes, whatever the batch: for another alignment Triton compiles anew.
            sizes = [n + n % 2 for n in self.parts.values()]
            work = torch.empty(sum(sizes), dtype=torch.float64, device=device)
            parts = dict(zip(self.parts, work.split_with_sizes(sizes), strict=True))
        shared = (
            *[parts.get(name) for name in _PARTS],
            *[out.get(name) for name in _OUT],
            *[grads.get(name) for name in _SUMS_OUT],
            *(ticket, rec_weight, rec_weight_factor, None if by_dim else beta, beta_factor),
        )
        self.launch(
            *shared,
            *[grads.get(name) for name in _SINKS],
            *(x, *params, *_NOTHING[: 3 - len(params)], *latent, *_NOTHING[: 4 - len(latent)]),
            *(incoming, beta if by_dim else None),
        )
        if self.finish:
            self.finish(*shared)
        return [*out.values(), *grads.values()]


_NOTHING = (None,) * 4


def _row_strides(x, params, layouts, latent, incoming, flat):
    strides = {f"{name}_row": 0 for name in ("x", "p0", "p1", "p2", "q0", "q1", "q2", "q3", "incoming")}
    if x is not None and not flat:
        strides["x_row"] = x[1][0]
        strides |= {f"p{i}_row": p[1][0] for i, p in enumerate(params) if layouts[i] == ELEMENT}
    strides |= {f"q{i}_row": t[1][0] for i, t in enumerate(latent)}
    if incoming is not None and incoming[0]:
        strides["incoming_row"] = incoming[1][0]
    return strides


def _gapless(x, params, layouts):
    cols = math.prod(x[0][1:])
    elements = [x, *(p for p, lay in zip(params, layouts, strict=True) if lay == ELEMENT)]
    return ROW not in layouts and all(strides[0] == cols for _, strides, _ in elements)


def _finishers(partial_sums, rows):
    """How many programs add up: one, the last of the launch that made the sums, where a launch would take longer."""
    blocks = max(partial_sums // 32768, rows // 32768)
    return 1 if blocks < 2 else min(power_of_two(blocks), 256)


def _as_tensor(weight, factor, device):
    weight = torch.full((), factor, dtype=torch.float64, device=device) if weight is None else weight.double() * factor
    return weight, 1.0
