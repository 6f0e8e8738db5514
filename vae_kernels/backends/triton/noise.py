"""The noise that vae_kernels/core/noise.py specifies, tile by tile: the same bits, from the same operations.

Every float operation below is one IEEE operation. No product meets a sum outside tl.fma, so a compiler has nothing to
contract.
"""

import triton
import triton.language as tl


@triton.jit
def words(seed, offset, group):
    """The four Philox words of a tile of groups (int64); seed and offset are int64 scalars."""
    zero = (group * 0).to(tl.uint32)
    offset_low, offset_high = zero + offset.to(tl.uint32), zero + (offset >> 32).to(tl.uint32)
    return tl.philox(seed, offset_low, offset_high, group.to(tl.uint32), (group >> 32).to(tl.uint32))


@triton.jit
def _minus_log(u):
    """-log(u) for a normal u in (0, 1]."""
    bits = u.to(tl.int32, bitcast=True)
    k = (bits - 0x3F3504F3) >> 23
    t = (bits - (k << 23)).to(tl.float32, bitcast=True) - 1.0
    p = tl.fma(t, 0.08734836429357529, -0.14307518303394318)
    p = tl.fma(p, t, 0.14917974174022675)
    p = tl.fma(p, t, -0.16570508480072021)
    p = tl.fma(p, t, 0.19962072372436523)
    p = tl.fma(p, t, -0.25001755356788635)
    p = tl.fma(p, t, 0.33333951234817505)
    p = tl.fma(p, t, -0.49999991059303284)
    return -tl.fma(k.to(tl.float32), 0.693147182464599609375, tl.fma(p * t, t, t))


@triton.jit
def _sine_cosine(y):
    """Sine and cosine of 2 pi (y + 1/2) 2^-32."""
    quarter = ((y >> 29) + 1) >> 1
    t = (y - (quarter << 30)).to(tl.int32, bitcast=True).to(tl.float32)
    t = tl.fma(t, 2.3283064365386963e-10, 1.1641532182693481e-10)
    z = t * t
    s = tl.fma(z, -75.40206909179688, 81.5925521850586)
    s = tl.fma(s, z, -41.3416633605957)
    s = tl.fma(s, z, 6.2831854820251465) * t
    c = tl.fma(z, -83.59261322021484, 64.92124938964844)
    c = tl.fma(c, z, -19.739152908325195)
    c = tl.fma(c, z, 1.0)
    odd = (quarter & 1) != 0
    sine, cosine = tl.where(odd, c, s), tl.where(odd, s, c)
    return tl.where((quarter & 2) != 0, -sine, sine), tl.where(((quarter + 1) & 2) != 0, -cosine, cosine)


@triton.jit
def box_muller(x, y):
    """Two normals from two words."""
    u = tl.fma(x.to(tl.float32), 2.3283064365386963e-10, 1.1641532182693481e-10)
    square = 2.0 * _minus_log(u)
    radius = tl.sqrt_rn(tl.where(square > 0.0, square, 0.0))
    sine, cosine = _sine_cosine(y)
    return radius * sine, radius * cosine


@triton.jit
def normals_of_groups(seed, offset, group, ROWS: tl.constexpr, COLS: tl.constexpr):
    """[ROWS, COLS] normals of whole groups [ROWS, COLS / 4]: each Philox call gives four, which need no shuffle."""
    w0, w1, w2, w3 = words(seed, offset, group)
    n0, n1 = box_muller(w0, w1)
    n2, n3 = box_muller(w2, w3)
    return tl.reshape(tl.join(tl.join(n0, n2), tl.join(n1, n3)), [ROWS, COLS])


@triton.jit
def normals_of_elements(seed, offset, element):
    """The normals of any elements. Each element takes one lane of a Philox call of its own."""
    w0, w1, w2, w3 = words(seed, offset, element >> 2)
    second = (element & 2) != 0
    sine, cosine = box_muller(tl.where(second, w2, w0), tl.where(second, w3, w1))
    return tl.where((element & 1) != 0, cosine, sine)
