"""The four ops of vae_kernels/ops.py by Triton kernels: from tensors to a launch, and back. ops.py has the schemas."""

import math

import torch
import triton
import triton.language as tl

from ..formulas import LIKELIHOODS, kl, reparameterize
from ..formulas.elbo import compute_dtype
from ..layout import empty_in_order
from . import maths
from .elbo_kernel import elbo_kernel, finish_kernel
from .launch import INTERPRETED, launch
from .rescale_kernel import rescale_kernel
from .sample_kernel import sample_backward_kernel, sample_kernel

for _module in (*LIKELIHOODS.values(), kl, reparameterize):
    _module.tl, _module.m = tl, maths
_NLL = {name: triton.jit(formula.triton_nll) for name, formula in LIKELIHOODS.items()}
_KL = triton.jit(kl.triton_gaussian_kl)
_SAMPLE = triton.jit(reparameterize.triton_reparameterize)

_DTYPES = {torch.float32: tl.float32, torch.float64: tl.float64}
_TILE = 1024  # elements: eight a thread, 16 bytes each of bfloat16
_ELEMENT, _ROW, _NUMBER = 0, 1, 2  # a parameter against x; elbo_kernel.py
_NONE = 0  # reduction; 1 is mean, 2 is sum


def elbo(
    x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction, need, terms
):  # fmt: skip
    like = (*params, *latent)[0]
    out = {"loss": like.new_empty(like.shape[:1] if reduction == _NONE else (), dtype=compute_dtype(*params, *latent))}
    if terms:
        dtype = out["loss"].dtype
        if params:
            out["nll_out"] = like.new_empty(like.shape[:1], dtype=dtype)
        if latent:
            out["kl_out"] = like.new_empty(like.shape[:1], dtype=dtype)
            if latent[0].dim() > 1:
                out["dims_out"] = like.new_empty(latent[0].shape[1:], dtype=dtype)
    grads = _run(
        None, x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction, need, out
    )
    return [*out.values(), *grads]


def elbo_backward(
    grad, x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction, need
):  # fmt: skip
    return _run(
        grad, x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction, need, {}
    )


def _run(
    incoming, x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction, need, out
):  # fmt: skip
    """One launch for everything that `out` (the loss and its terms, by the kernel's names) and `need` ask for; a second
    one adds up where that is too much for one program. The gradients."""
    like = (*params, *latent)[0]
    device, batch, dtype = like.device, like.shape[0], compute_dtype(*params, *latent)
    wanted = [bool(need >> i & 1) for i in range(len(params) + len(latent))]
    by_dim = beta is not None and beta.dim() > 0
    if dtype == torch.float64:  # a Python number reaches a kernel as a float32
        rec_weight, rec_weight_factor = _as_tensor(rec_weight, rec_weight_factor, device)
        if not by_dim:
            beta, beta_factor = _as_tensor(beta, beta_factor, device)

    by_row = "loss" in out and (reduction == _NONE or len(out) > 1)
    tiles, layouts = _likelihood_tiles(x, params, wanted, incoming, by_row) if params else (_Tiles(1, 0), ())
    kl_tiles = _Tiles(batch, math.prod(latent[0].shape[1:])) if latent else _Tiles(1, 0)
    blocks, kl_blocks = tiles.blocks if params else 0, kl_tiles.blocks if latent else 0

    grads, sums, columns, sinks = [], [None] * 3, [None] * 3, [None] * 7
    for i, (t, of_t) in enumerate(zip((*params, *latent), wanted, strict=True)):
        if not of_t:
            continue
        if i < len(params) and layouts[i] != _ELEMENT:
            grads.append(torch.empty_strided(t.shape, t.stride(), dtype=dtype, device=device))
            (sums if layouts[i] == _NUMBER else columns)[i] = grads[-1]
        else:
            grads.append(empty_in_order(t))
            sinks[i if i < len(params) else i - len(params) + 3] = grads[-1]

    sizes = {}  # of the partial sums, by the kernel's names
    if "loss" in out and params:
        sizes["nll"] = batch * tiles.pieces if by_row else blocks
    if "loss" in out and latent:
        sizes["kl"] = batch * kl_tiles.pieces if by_row else kl_blocks
        if by_dim and by_row:
            sizes["weighted"] = sizes["kl"]
    if "dims_out" in out:
        sizes["dims"] = kl_tiles.row_blocks * kl_tiles.cols
    for k in (1, 2):
        if sums[k] is not None:
            sizes[f"sums{k}"] = blocks
        if columns[k] is not None:
            sizes[f"columns{k}"] = tiles.row_blocks * tiles.cols
    finishers = _finishers(sum(sizes.values()), batch if by_row else 0)
    sizes["totals"] = finishers
    work = torch.empty(sum(sizes.values()), dtype=torch.float64, device=device).split(list(sizes.values()))
    parts = dict(zip(sizes, work, strict=True))

    results = (
        *(parts.get(name) for name in ("nll", "kl", "weighted", "sums1", "sums2", "columns1", "columns2", "dims")),
        parts["totals"],
        _ticket(device),
        *(out.get(name) for name in ("loss", "nll_out", "kl_out")),
        *sums[1:],
        *columns[1:],
        out.get("dims_out"),
        rec_weight,
        rec_weight_factor,
        None if by_dim else beta,
        beta_factor,
    )
    lengths = (kl_tiles.row_blocks if latent else 0,)
    counts = (tiles.pieces, tiles.row_blocks if params else 0, batch, kl_tiles.cols, kl_tiles.pieces, *lengths)
    nll_pieces, kl_pieces = (min(_power_of_two(t.pieces), 64) for t in (tiles, kl_tiles))
    finish = (nll_pieces, kl_pieces, 1024 // max(nll_pieces, kl_pieces))
    values = "loss" in out
    to_add_up = values or any(t is not None for t in (*sums, *columns))
    inputs = [*params, *[None] * (3 - len(params)), *latent, *[None] * (4 - len(latent))]
    launch(
        elbo_kernel,
        (max(blocks + kl_blocks, 1),),
        (
            x,
            *inputs[:3],
            *sinks[:3],
            *inputs[3:],
            *sinks[3:],
            *(tiles.stride(t) for t in (x, *inputs[:3])),
            *(kl_tiles.stride(t) for t in inputs[3:]),
            incoming,
            incoming.stride(0) if incoming is not None and incoming.dim() else 0,
            *results,
            beta if by_dim else None,
            tiles.rows,
            tiles.cols,
            *counts,
        ),
        (
            _NLL[likelihood] if params else None,
            len(LIKELIHOODS[likelihood].PARAMETERS) if params else 0,
            *(layouts[k] if k < len(layouts) else _NUMBER for k in (1, 2)),
            *(tiles.r, tiles.c, tiles.steps, tiles.down),
            _KL if latent else None,
            *(kl_tiles.r, kl_tiles.c, by_row, values, reduction),
            *finish,
            to_add_up and finishers == 1,
            _DTYPES[dtype],
        ),
    )
    if to_add_up and finishers > 1:
        constants = (by_row, values, reduction, *finish, _DTYPES[dtype])
        launch(finish_kernel, (finishers,), (*results, tiles.cols, *counts), constants)
    return grads


class _Tiles:
    """How programs cover a matrix: r rows and c columns each, `steps` tiles side by side, or below one another (down)."""

    def __init__(self, rows, cols, flat=False, down=False):
        self.rows, self.cols, self.flat, self.down = (1, rows * cols, True, False) if flat else (rows, cols, False, down)
        self.c = min(_power_of_two(self.cols), _TILE)
        self.r = _TILE // self.c
        n = rows * cols  # not a function of the GPU: the order of the sums is the same on every one
        self.steps = 1 if n < 1 << 20 else 4 if n < 1 << 26 else 16
        if down:
            self.steps = min(8, _power_of_two(-(-rows // self.r)))
        elif self.c * self.steps > self.cols:
            self.steps = 1
        self.pieces = max(1, -(-self.cols // (self.c * (1 if down else self.steps))))
        self.row_blocks = max(1, -(-self.rows // (self.r * (self.steps if down else 1))))
        self.blocks = self.pieces * self.row_blocks

    def stride(self, t):
        return 0 if t is None or self.flat or t.dim() == 0 else t.stride(0)


def _likelihood_tiles(x, params, wanted, incoming, by_row):
    layouts = [_ELEMENT if p.dim() == x.dim() else _NUMBER if p.dim() == 0 else _ROW for p in params]
    rows, cols = x.shape[0], math.prod(x.shape[1:])
    elements = [x, *(p for p, lay in zip(params, layouts, strict=True) if lay == _ELEMENT)]
    gapless = all(t.stride(0) == cols for t in elements) and _ROW not in layouts
    sums_rows = any(w and lay == _ROW for w, lay in zip(wanted, layouts, strict=False))
    flat = gapless and not by_row and (incoming is None or incoming.dim() == 0)
    return _Tiles(rows, cols, flat, sums_rows), layouts


def _power_of_two(n):
    """The smallest that is not less than n."""
    return 1 << max(n - 1, 0).bit_length()


def _finishers(partial_sums, rows):
    """How many programs add up: one, the last of the launch that made the sums, where a launch would take longer."""
    blocks = max(partial_sums // 32768, rows // 32768)
    return 1 if blocks < 2 else min(_power_of_two(blocks), 256)


def _as_tensor(weight, factor, device):
    weight = torch.full((), factor, dtype=torch.float64, device=device) if weight is None else weight.double() * factor
    return weight, 1.0


_tickets = {}


def _ticket(device):
    """A counter that is 0 between launches; one for each stream, on which launches follow one another."""
    if INTERPRETED.value:
        key = device
    elif torch.compiler.is_compiling() or torch.cuda.is_current_stream_capturing():
        return torch.zeros(1, dtype=torch.int32, device=device)  # it belongs to the graph
    else:
        key = device, torch.cuda.current_stream(device).cuda_stream
    if key not in _tickets:
        _tickets[key] = torch.zeros(1, dtype=torch.int32, device=device)
    return _tickets[key]


def sample(mu, logvar, prior, rng, n_samples, with_kl):
    rows, cols, dtype = mu.shape[0], math.prod(mu.shape[1:]), compute_dtype(mu, logvar, *prior)
    tiles = _Tiles(rows, cols)
    tiles_of_row = tiles.pieces
    z = torch.empty((n_samples, *mu.shape) if n_samples else mu.shape, dtype=mu.dtype, device=mu.device)
    kl = mu.new_empty(mu.shape[:1], dtype=dtype) if with_kl else None
    partial = ticket = None
    if with_kl and tiles_of_row > 1:
        partial = torch.empty(rows * tiles_of_row, dtype=torch.float64, device=mu.device)
        ticket = _ticket(mu.device)
    pieces = min(_power_of_two(tiles_of_row), 64)
    inputs = (mu, logvar, *(prior or (None, None)))
    strides = (tiles.stride(t) for t in inputs)
    counts = (rows, cols, tiles_of_row, tiles.row_blocks)
    constants = (tiles.r, max(tiles.c, 4), cols % 4 == 0, pieces, 1024 // pieces, _DTYPES[dtype])
    launch(
        sample_kernel,
        (tiles.blocks, n_samples or 1),
        (*inputs, *strides, rng, z, kl, partial, ticket, *counts),
        (_SAMPLE, _KL, *constants),
    )
    return [z, kl] if with_kl else [z]


def sample_backward(grad_z, grad_kl, mu, logvar, prior, rng, n_samples, need):
    rows, cols, dtype = mu.shape[0], math.prod(mu.shape[1:]), compute_dtype(mu, logvar, *prior)
    tiles = _Tiles(rows, cols)
    inputs = (mu, logvar, *prior)
    grads = [empty_in_order(t) if need >> i & 1 else None for i, t in enumerate(inputs)]
    nothing = [None] * (4 - len(inputs))
    inputs = (*inputs, *nothing)
    launch(
        sample_backward_kernel,
        (tiles.blocks,),
        (
            *inputs,
            *(tiles.stride(t) for t in inputs),
            rng,
            grad_z,
            grad_kl,
            grad_kl.stride(0) if grad_kl is not None else 0,
            *grads,
            *nothing,
            *(rows, cols, tiles.pieces, n_samples or 1),
        ),
        (_SAMPLE, _KL, tiles.r, max(tiles.c, 4), cols % 4 == 0, _DTYPES[dtype]),
    )
    return [g for g in grads if g is not None]


def rescale_(tensors, factor):
    """tensors *= factor (0-d), four a launch; the kernel reads the factor, and stops at once if it is 1."""
    for i in range(0, len(tensors), 4):
        some = [*tensors[i : i + 4], None, None, None][:4]
        sizes = [0 if t is None else t.numel() for t in some]
        blocks = min(max(1, -(-max(sizes) // _TILE)), 1024)
        launch(rescale_kernel, (blocks,), (factor, *some, *sizes), (_TILE,))
