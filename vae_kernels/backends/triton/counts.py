"""Functions of a tile that the likelihoods of counts share: what csrc/special.h is for C++. The Triton twins of the
formulas call this module tile_counts.

vae_kernels/formulas/counts.py has the maths. maths.step and tl.full give a coefficient the type of the tile.
"""

import triton
import triton.language as tl

from . import maths


@triton.jit
def _atanh_tail(z):
    """(atanh(s) / s - 1) / s^2 in powers of z = s^2 <= 1/9."""
    if z.dtype == tl.float64:
        p = z * 0.0 + tl.full([], 0.080820228059717661105, tl.float64)
        p = maths.step(p, z, 0.044003692430723369411)
        p = maths.step(p, z, 0.060005364047953562676)
        p = maths.step(p, z, 0.066570721048274680752)
        p = maths.step(p, z, 0.076927850324793115517)
        p = maths.step(p, z, 0.090908947180664290846)
        p = maths.step(p, z, 0.11111111358713931495)
        p = maths.step(p, z, 0.14285714283554378581)
        p = maths.step(p, z, 0.20000000000007291337)
        p = maths.step(p, z, 0.33333333333333329281)
    else:
        p = tl.fma(z, 0.116121646, 0.108532876)
        p = tl.fma(p, z, 0.14296179)
        p = tl.fma(p, z, 0.19999853)
        p = tl.fma(p, z, 0.33333334)
    return p


@triton.jit
def _split(x):
    """x = 2^k m with m in [sqrt(1/2), sqrt(2)), for a normal x: (k, m)."""
    if x.dtype == tl.float64:
        shifted = x.to(tl.int64, bitcast=True) + (0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
        part = ((shifted & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).to(tl.float64, bitcast=True)
        k = ((shifted >> 52) - 1023).to(tl.float64)
    else:
        shifted = x.to(tl.int32, bitcast=True) + (0x3F800000 - 0x3F3504F3)
        part = ((shifted & 0x7FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True)
        k = ((shifted >> 23) - 127).to(tl.float32)
    return k, part


@triton.jit
def log(x):
    """log(x), for a normal x > 0. The result is finite for infinity and NaN."""
    k, part = _split(x)
    s = maths.quotient(part - 1.0, part + 1.0)
    z = s * s
    return tl.fma(k, tl.full([], 0.6931471805599453, x.dtype), 2.0 * tl.fma(s * z, _atanh_tail(z), s))


@triton.jit
def log1p_rest(e, ratio):
    """e - log(1 + e) >= 0, to full relative accuracy; ratio is 1 + e."""
    near = (ratio > 0.5) & (ratio < 2.0)
    k, part = _split(ratio)
    f = tl.where(near, e, part - 1.0)
    s = maths.quotient(f, 2.0 + f)
    z = s * s
    tail = _atanh_tail(z)
    far = e - tl.fma(k, tl.full([], 0.6931471805599453, e.dtype), 2.0 * tl.fma(s * z, tail, s))
    return tl.where(near, s * tl.fma(-2.0 * z, tail, f), far)


@triton.jit
def log1p_tail(e):
    """(log(1 + e) - e) / e^2 on [0, 1]: -1/2 at 0."""
    if e.dtype == tl.float64:
        w = 1.0 / (2.0 + e)
        s = e * w
        return tl.fma(2.0 * s * w, _atanh_tail(s * s), s * 0.0 - 1.0) * w
    else:
        p = tl.fma(e, -0.0032440233044326305, 0.019851453602313995)
        p = tl.fma(p, e, -0.05695951730012894)
        p = tl.fma(p, e, 0.10603653639554977)
        p = tl.fma(p, e, -0.15305592119693756)
        p = tl.fma(p, e, 0.1967593878507614)
        p = tl.fma(p, e, -0.24954134225845337)
        p = tl.fma(p, e, 0.3332996368408203)
        return tl.fma(p, e, -0.4999990165233612)


@triton.jit
def _dual(p, d, v, c: tl.constexpr):
    return tl.fma(p, v, tl.full([], c, v.dtype)), tl.fma(d, v, p)


@triton.jit
def stirling(v):
    """The error of Stirling's formula for log Gamma(y + 1), and -y times its derivative, at y = 1 / v >= 1."""
    d = v * 0.0
    if v.dtype == tl.float64:
        p = d + tl.full([], 0.00021332507059039434, tl.float64)
        p, d = _dual(p, d, v, -0.0025056509953055375)
        p, d = _dual(p, d, v, 0.013760307115920217)
        p, d = _dual(p, d, v, -0.04688918100874011)
        p, d = _dual(p, d, v, 0.11088665527955452)
        p, d = _dual(p, d, v, -0.19265682980619173)
        p, d = _dual(p, d, v, 0.2535010476781426)
        p, d = _dual(p, d, v, -0.25586002906491917)
        p, d = _dual(p, d, v, 0.1972596145582884)
        p, d = _dual(p, d, v, -0.11285533047069607)
        p, d = _dual(p, d, v, 0.04407433811935882)
        p, d = _dual(p, d, v, -0.008833793707392448)
        p, d = _dual(p, d, v, -0.000497299799458)
        p, d = _dual(p, d, v, -0.00013339298553912822)
        p, d = _dual(p, d, v, 0.0008419692541680424)
        p, d = _dual(p, d, v, 2.056877464820991e-06)
        p, d = _dual(p, d, v, -0.0005955732468191205)
        p, d = _dual(p, d, v, 2.903440378923773e-08)
        p, d = _dual(p, d, v, 0.0007936492928927653)
        p, d = _dual(p, d, v, 4.472406975482246e-11)
        p, d = _dual(p, d, v, -0.002777777778457091)
        p, d = _dual(p, d, v, 3.983543603761793e-15)
        p, d = _dual(p, d, v, 0.08333333333333333)
    else:
        p = d + -1.8315919e-05
        p, d = _dual(p, d, v, 0.00020257701)
        p, d = _dual(p, d, v, -0.0007222823)
        p, d = _dual(p, d, v, 0.0011102485)
        p, d = _dual(p, d, v, -7.473104e-05)
        p, d = _dual(p, d, v, -0.0027689587)
        p, d = _dual(p, d, v, -4.0628998e-07)
        p, d = _dual(p, d, v, 0.083333336)
    return v * p, v * tl.fma(v, d, p)


@triton.jit
def exp_pair(x):
    """e^x and e^x - 1 for x <= 0, each to full relative accuracy. e^x is 0 where e^x is no normal number."""
    value, _ = maths.expm1_pair(x)
    power = maths.exp_nonpositive_to_an_ulp(x)
    if x.dtype == tl.float64:
        return power, value
    else:
        return tl.where(x < -87.0, 0.0, power), value


@triton.jit
def half_log_2pi(like):
    """1/2 log 2 pi, of the type of this tile."""
    return tl.full([], 0.9189385332046727, like.dtype)
