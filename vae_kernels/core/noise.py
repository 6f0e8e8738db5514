"""The noise: standard normals that depend on (seed, offset, element) alone. Every backend gives the same bits.

Element i, counted row-major over the logical shape, is lane i & 3 of group c = i >> 2. The four 32-bit words of a group
are Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", SC11) with key = seed and counter
= (offset low, offset high, c low, c high), low word first. The method of Box & Muller (1958, Ann. Math. Stat. 29) makes
lanes 0 and 1 of the words (w0, w1), and lanes 2 and 3 of the words (w2, w3):

    u = w0 2^-32 + 2^-33        r = sqrt(-2 log u)        turn = (w1 + 1/2) 2^-32
    lanes = r sin(2 pi turn), r cos(2 pi turn)

log, sin and cos are polynomials. They are computed with IEEE float32 operations (fma, multiply, square root; rounding
to nearest even) in the order that is written here, so no result depends on a maths library. The error is below 1e-6,
and |normal| <= sqrt(66 log 2) = 6.764.

`rng` is an int64 tensor everywhere. An rng of two words is (seed, offset): the bit patterns of two uint64 numbers, so a
word may be negative. An rng of four words is (seed, offset, first, total): the samples are the samples first, first +
1, ... of a batch of `total`, and each sample gets the noise that it has in the whole batch. So many ranks together draw
the noise that one process would draw.
"""

import math
from typing import Any

import torch

_MASK = 0xFFFFFFFF
# The coefficients, from the highest power down. Each coefficient is a float32 number: Python's float64 holds it
# exactly.
_LOG = (  # (log(1 + t) - t) / t^2 on [sqrt(1/2) - 1, sqrt(2) - 1], times t
    0.08734836429357529,
    -0.14307518303394318,
    0.14917974174022675,
    -0.16570508480072021,
    0.19962072372436523,
    -0.25001755356788635,
    0.33333951234817505,
    -0.49999991059303284,
)
_LOG2 = 0.693147182464599609375
_SIN = (
    -75.40206909179688,
    81.5925521850586,
    -41.3416633605957,
    6.2831854820251465,
)  # sin(2 pi r) / r in r^2, |r| <= 1/8
_COS = (-83.59261322021484, 64.92124938964844, -19.739152908325195, 1.0)  # cos(2 pi r) in r^2


def new_rng(generator: torch.Generator | None = None, device: torch.device | str = "cpu") -> torch.Tensor:
    """A new (seed, offset), int64 [2], from the generator. None is the device's generator, which torch.manual_seed
    seeds."""
    options: Any = {"dtype": torch.int64, "generator": generator, "device": device}
    if generator is None:
        return torch.randint(-(2**63), 2**63 - 1, (2,), **options)
    try:
        return torch.randint(-(2**63), 2**63 - 1, (2,), **options)
    except RuntimeError as error:
        if not torch.cuda.is_current_stream_capturing():
            raise
        raise RuntimeError(
            "generator: a CUDA graph is being captured that does not know this generator; expected "
            "graph.register_generator_state(generator) before the capture (docs/citizen.md, CUDA graphs)"
        ) from error


def of_device(generator, mu, n_samples=None):
    """Standard normals of torch.randn: of the shape of mu, or of n_samples of them; float64 for a float64 mu, else
    float32. The bits depend on the device, and on the version of PyTorch."""
    shape = mu.shape if n_samples is None else (n_samples, *mu.shape)
    dtype = torch.float64 if mu.dtype == torch.float64 else torch.float32
    return torch.randn(shape, generator=generator, dtype=dtype, device=mu.device)


def of_shard(rng, first, total):
    """The rng of the samples first, first + 1, ... of a batch of `total`. It is made on the device: a copy from the
    host would have to be waited for."""
    return torch.cat((rng, *(torch.full((1,), n, dtype=torch.int64, device=rng.device) for n in (first, total))))


def normals(rng, shape, device=None, n_samples=None):
    """Standard normals, float32, of this shape, on this device (None: the device of rng).

    shape is [B, ...], or [n_samples, B, ...] if n_samples is not None.
    """
    rng = rng if device is None else rng.to(device)
    if rng.numel() == 4:
        return _normals_at(rng, _elements(rng, (n_samples or 1, *shape[n_samples is not None :]))).reshape(shape)
    count = math.prod(shape)
    w0, w1, w2, w3 = words(rng, (count + 3) // 4)
    pairs = _box_muller(torch.stack((w0, w2), dim=1), torch.stack((w1, w3), dim=1))
    return torch.stack(pairs, dim=2).reshape(-1)[:count].reshape(shape)


def _elements(rng, shape):
    """The index that each element of a shard has in the whole batch: int64 [n_samples, B, elements of a sample]."""
    draw, row, col = (torch.arange(n, device=rng.device) for n in (*shape[:2], math.prod(shape[2:])))
    return (draw[:, None, None] * rng[3] + rng[2] + row[:, None]) * len(col) + col


def _normals_at(rng, element):
    """The normals of any elements. Each element costs a whole Philox call, and takes one lane of the call."""
    w0, w1, w2, w3 = _words_at(rng, element >> 2)
    second = (element & 2) != 0
    sine, cosine = _box_muller(torch.where(second, w2, w0), torch.where(second, w3, w1))
    return torch.where((element & 1) != 0, cosine, sine)


def words(rng, n_groups):
    """The four Philox words of groups 0 .. n_groups - 1: four int64 tensors [n_groups] of values in [0, 2^32)."""
    return _words_at(rng, torch.arange(n_groups, device=rng.device))


def _words_at(rng, group):
    key0, key1 = _halves(rng[0])
    return philox4x32((*_halves(rng[1].expand_as(group)), *_halves(group)), (key0, key1))


def philox4x32(counter, key, rounds=10):
    """The Philox bijection. counter: four int64 tensors of one shape. key: two int64 tensors that broadcast. All values
    are in [0, 2^32)."""
    c0, c1, c2, c3 = counter
    key0, key1 = key
    for _ in range(rounds):
        high0, low0 = _multiply(0xD2511F53, c0)
        high1, low1 = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ key0, low1, high0 ^ c3 ^ key1, low0
        key0, key1 = (key0 + 0x9E3779B9) & _MASK, (key1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def _halves(x):
    """(low, high) 32 bits of an int64. The mask also clears the sign bits that the arithmetic shift repeats."""
    return x & _MASK, (x >> 32) & _MASK


def _multiply(a, b):
    """(high, low) 32 bits of the product of two 32-bit values, in steps of 32 x 16 bits that fit in an int64."""
    low = a * (b & 0xFFFF)
    high = a * (b >> 16) + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def _box_muller(x, y):
    """Two float32 normals from two words (int64 tensors of values in [0, 2^32))."""
    u = _fma(x.to(torch.float32), 2.0**-32, 2.0**-33)
    square = 2 * _minus_log(u)
    square = torch.where(square > 0, square, 0.0)
    # A float64 square root that is rounded to float32 is the correctly rounded float32 square root (Figueroa 1995,
    # "When is double rounding innocuous?"). The float32 square root of a device may be approximate.
    r = torch.sqrt(square.double()).float()
    sin, cos = _sin_cos(y)
    return r * sin, r * cos


def _minus_log(u):
    """-log(u) for normal float32 u > 0, as -(k log 2 + log m) with u = 2^k m and m in [sqrt(1/2), sqrt(2))."""
    bits = u.view(torch.int32)
    k = (bits - 0x3F3504F3) >> 23
    t = (bits - (k << 23)).view(torch.float32) - 1
    p = _horner(_LOG, t)
    return -_fma(k.to(torch.float32), _LOG2, _fma(p * t, t, t))


def _sin_cos(y):
    """sin and cos of 2 pi (y + 1/2) 2^-32 for a word y. The nearest quarter turn is taken off, which is exact, and the
    polynomials take the rest, |r| <= 1/8 turn."""
    quarter = ((y >> 29) + 1) >> 1
    r = _fma((y - (quarter << 30)).to(torch.float32), 2.0**-32, 2.0**-33)
    square = r * r
    s, c = _horner(_SIN, square) * r, _horner(_COS, square)
    odd = (quarter & 1) == 1
    sin, cos = torch.where(odd, c, s), torch.where(odd, s, c)
    return torch.where((quarter & 2) != 0, -sin, sin), torch.where(((quarter + 1) & 2) != 0, -cos, cos)


def _horner(coefficients, t):
    p = coefficients[0]
    for c in coefficients[1:]:
        p = _fma(p, t, c)
    return p


def _fma(a, b, c):
    """a b + c, rounded once to float32. a or b is a float32 tensor. The others may be Python floats of float32 value.

    In float64 the product is exact (24 + 24 bits) and the sum is not. If the sum is rounded to odd, not to nearest, the
    second rounding does no harm (53 >= 24 + 2 bits): Boldo & Melquiond 2008, "Emulation of FMA and correctly rounded
    sums: proved algorithms using rounding to odd", IEEE Trans. Computers 57(4). Knuth's TwoSum gives the sum's error.
    """
    product, c = _double(a) * _double(b), _double(c)
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    bits = total.view(torch.int64)
    # An inexact sum with an even last bit moves to its odd neighbour on the side of the true value. Bits + 1 is the
    # neighbour away from 0.
    bits = bits + torch.sign(error * total).to(torch.int64) * (~bits & 1)
    return bits.view(torch.float64).float()


def _double(v):
    return v.double() if isinstance(v, torch.Tensor) else v
