"""Functions of a tile, float32 or float64: what csrc/special.h is for C++. The Triton twins of the formulas call them.

float32 goes through polynomials of fused multiply-adds. The interpreter has no libdevice, and runs the polynomials too.
float64, in which nobody trains, goes through Triton's own functions. The exp2 instruction and the division of a GPU are
off by up to 2 ulp. Both stand only where the error budget allows that: tests/gpu/test_approximate.py.

No function loses a NaN: a comparison with NaN is false, and `where` then takes the NaN. Triton compiles what follows a
`return` too. So there is an `else` after each `return`.
"""

import triton
import triton.language as tl


@triton.jit
def at_least(x, low):
    return tl.where(x < low, low, x)


@triton.jit
def at_most(x, high):
    return tl.where(x > high, high, x)


@triton.jit
def _reduce(x):
    """x = k ln 2 + r with |r| <= ln 2 / 2: k + 1.5 2^23 + 127, whose low bits are the exponent of 2^k, and r."""
    magic = tl.fma(x, 1.4426950408889634, 12583039.0)
    k = magic - 12583039.0
    return magic, tl.fma(k, 2.12194440e-4, tl.fma(k, -0.693359375, x))


@triton.jit
def _exp_tail(r):
    """(e^r - 1 - r) / r^2 for |r| <= ln 2 / 2."""
    p = tl.fma(r, 1.3813144760206342e-03, 8.369418792426586e-03)
    p = tl.fma(p, r, 4.166845604777336e-02)
    p = tl.fma(p, r, 0.16666515171527863)
    return tl.fma(p, r, 0.4999999403953552)


@triton.jit
def _power_of_two(magic):
    return (magic.to(tl.int32, bitcast=True) << 23).to(tl.float32, bitcast=True)


@triton.jit
def exp_within(x):
    """e^x for -87 <= x <= 88, to an ulp."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        magic, r = _reduce(x)
        return _power_of_two(magic) * (tl.fma(r * r, _exp_tail(r), r) + 1.0)


@triton.jit
def exp_nonpositive(x):
    """e^x for x <= 0, off by |x| 2^-24 of itself and by the 2 ulp of the exp2 instruction: for a sum with 1."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        return tl.exp2(x * 1.4426950408889634)


@triton.jit
def exp_nonpositive_to_an_ulp(x):
    """e^x for x <= 0. In float32 the result is e^-87 for every x below -87."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        return exp_within(at_least(x, -87.0))


@triton.jit
def exp(x):
    """e^x over the whole range, infinity included. In float32 the result is e^-87 for every x below -87."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        magic, r = _reduce(at_most(at_least(x, -87.0), 89.0))
        # 2^k in two steps: 2^k may be too large where e^x is not
        return _power_of_two(magic - 1.0) * (2.0 * (tl.fma(r * r, _exp_tail(r), r) + 1.0))


@triton.jit
def exp_or_zero(x):
    """e^x for x <= 0, -inf included. A result too small for a number is 0. The exp2 instruction is off by some ulp, and
    quick: this function runs for each level and each component."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        x = at_least(x, -200.0)
        t = x * 1.4426950408889634
        rest = tl.fma(x, 1.9259629911266175e-8, tl.fma(x, 1.4426950216293335, -t))  # log2 e in two float32 parts
        e = tl.exp2(t)
        return tl.fma(e, rest * 0.6931471805599453, e)


@triton.jit
def exp_saturated(x):
    """e^x that stops at e^88, or e^709, instead of becoming infinite: for a factor that meets an exact zero."""
    if x.dtype == tl.float64:
        return tl.exp(at_most(x, 709.0))
    else:
        return exp_within(at_most(at_least(x, -87.0), 88.0))


@triton.jit
def reciprocal(x):
    """1 / x for x in [2^-100, 2^100], to an ulp; a division of float32, on a GPU, is off by up to 2."""
    if x.dtype == tl.float64:
        return 1.0 / x
    else:
        root = tl.rsqrt(x)
        r = root * root
        return tl.fma(r, tl.fma(-x, r, 1.0), r)  # a Newton step


@triton.jit
def quotient(y, x):
    """y / x for x in [2^-100, 2^100]."""
    if x.dtype == tl.float64:
        return y / x
    else:
        return y * reciprocal(x)


@triton.jit
def share_of(share, x):
    """share * x, and 0 for a share of 0, whatever x is."""
    return tl.where(share == 0.0, 0.0, share * x)


@triton.jit
def log1p_unit(e):
    """log(1 + e) for 0 <= e <= 1, to full relative accuracy: the polynomial of csrc/scalar.h."""
    if e.dtype == tl.float64:
        u = 1.0 + e
        return tl.log(u) + (e - (u - 1.0)) / u  # the second term: what u lost when it was rounded
    else:
        p = tl.fma(e, -0.0032440233044326305, 0.019851453602313995)
        p = tl.fma(p, e, -0.05695951730012894)
        p = tl.fma(p, e, 0.10603653639554977)
        p = tl.fma(p, e, -0.15305592119693756)
        p = tl.fma(p, e, 0.1967593878507614)
        p = tl.fma(p, e, -0.24954134225845337)
        p = tl.fma(p, e, 0.3332996368408203)
        p = tl.fma(p, e, -0.4999990165233612)
        p = tl.fma(p, e, 1.0)
        return p * e


@triton.jit
def log1p(x):
    """log(1 + x) for -1 < x < 2^100: with 1 + x = 2^k (1 + e) it is k ln 2 + log(1 + e), as in csrc/special.h."""
    if x.dtype == tl.float64:
        u = 1.0 + x
        return tl.log(u) + (x - (u - 1.0)) / u
    else:
        exponent = (1.0 + x).to(tl.int32, bitcast=True) >> 23
        inverse = ((254 - exponent) << 23).to(tl.float32, bitcast=True)  # 2^-k
        rest = log1p_unit(tl.fma(x, inverse, inverse - 1.0))
        return tl.fma((exponent - 127).to(tl.float32), 0.6931471805599453, rest)


@triton.jit
def step(p, v, c: tl.constexpr):
    """p v + c, a step of a polynomial. c has the type of v; Triton before 3.9 reads a number in tl.fma as a float32."""
    return tl.fma(p, v, tl.full([], c, v.dtype))


@triton.jit
def truncated_mean(a):
    """1 / (1 - e^-a) - 1 / a for |a| <= 1: csrc/special.h."""
    z = a * a
    if a.dtype == tl.float64:
        p = step(tl.full([], -2.174868698558061873e-16, tl.float64), z, 8.5860620562778445641e-15)
        p = step(p, z, -3.3896802963225828668e-13)
        p = step(p, z, 1.3382536530684678833e-11)
        p = step(p, z, -5.2841901386874931848e-10)
        p = step(p, z, 2.0876756987868098979e-08)
        p = step(p, z, -8.2671957671957671958e-07)
    else:
        p = tl.fma(z, 2.0876756987868098979e-08, -8.2671957671957671958e-07)
    p = step(p, z, 3.3068783068783068783e-05)
    p = step(p, z, -0.001388888888888889)
    p = step(p, z, 0.08333333333333333)
    return tl.fma(p, a, 0.5)


@triton.jit
def expm1_pair(x):
    """(e^x - 1, e^x - 1 - x), each to full relative accuracy however small x is."""
    if x.dtype == tl.float64:
        return _expm1_pair_float64(x)
    else:
        return _expm1_pair_float32(x)


@triton.jit
def expm1_nonpositive(x):
    """e^x - 1 for x <= 0, to full relative accuracy: below ln 2 / 2 the polynomial that csrc/scalar.h has for e^r."""
    if x.dtype == tl.float64:
        near = at_least(x, -1.0)
        tail = near * 0.0
        for i in tl.static_range(20):
            tail = (1.0 + tail) * near / (20.0 - i)
        return tl.where(x > -1.0, tail, tl.exp(x) - 1.0)
    else:
        return tl.where(x > -0.34657359, tl.fma(_exp_tail(x) * x, x, x), tl.exp2(x * 1.4426950408889634) - 1.0)


@triton.jit
def _expm1_pair_float32(x):
    """csrc/special.h has the derivation."""
    within = at_most(at_least(x, -87.0), 89.0)
    magic, r = _reduce(within)
    half = _power_of_two(magic - 1.0)  # 2^(k-1)
    tail = r * r * _exp_tail(r)  # e^r - 1 - r
    power_minus_1 = half * 2.0 - 1.0
    value = tl.fma(half, 2.0 * (r + tail), power_minus_1)
    minus_x = tl.fma(half, 2.0 * tail, tl.fma(half, 2.0 * r, power_minus_1 - x))
    large = half * (2.0 * (r + tail + 1.0))  # 2^k is infinite before e^x is
    return tl.where(x > 88.0, large, value), tl.where(x > 88.0, large, minus_x)


@triton.jit
def _expm1_pair_float64(x):
    """The series near 0, where e^x - 1 - x cancels; 20 terms of it at |x| < 1 reach float64's last place."""
    small = tl.where(tl.abs(x) < 1.0, x, 0.0)
    tail = small * 0.0
    for i in tl.static_range(20):
        tail = (1.0 + tail) * small / (22.0 - i)
    tail = (1.0 + tail) * small * small * 0.5  # x^2 / 2 (1 + x/3 (1 + x/4 (1 + ...)))
    power = tl.exp(x)
    near = tl.abs(x) < 1.0
    return tl.where(near, small + tail, power - 1.0), tl.where(near, tail, power - 1.0 - x)


@triton.jit
def add_exponentials(top, total, values):
    """Add a tile [P, L] of values to top and total [P]: the largest value, and the sum of e^{value - top}."""
    new_top = tl.maximum(top, tl.max(values, 1))  # the maximum may drop a NaN; the sum below keeps the NaN
    more = tl.sum(exp_nonpositive(values - new_top[:, None]), 1)
    # the first top is the least number, and exp_nonpositive then gives 0
    before = exp_nonpositive(at_least(top - new_top, -1000.0))
    return new_top, tl.fma(total, before, more)
