"""csrc/special.h is right to a few units in the last place, and csrc/noise.h bit by bit. The C++ functions are called
without our loops (conftest.py)."""

import numpy as np
import pytest
import torch

from vae_kernels.core import noise

DTYPES = {"float32": np.float32, "float64": np.float64}


def ulps(actual, exact, dtype):
    """The error in units in the last place of the exact result. Subnormal numbers have the unit of the smallest normal
    number."""
    spacing = np.spacing(np.abs(exact).astype(dtype).clip(np.finfo(dtype).tiny))
    return np.abs(actual.astype(np.float64) - exact) / spacing.astype(np.float64)


# name: (the interval, the true function, the bound in ulps). The bound is 1/2 ulp for the last rounding, plus the
# errors before it. exp: the reduced argument (1/4), its square and its tail (1/4 each) and the polynomial (0.06), in
# all 1.3. expm1: twice the error of exp, because the sum can be half as large as exp. log1p: the last Horner step costs
# 1/2 ulp and the steps before cost 1/4, 1/8, ...; without fma each step costs twice as much.
EXACT = {
    "exp": (-86.9, 88.7, np.exp, 2),
    "exp_nonpositive": (-86.9, 0, np.exp, 2),
    "exp_saturated": (-86.9, 88, np.exp, 2),
    "expm1": (-100, 88.7, np.expm1, 3),
    "expm1_nonpositive": (-100, 0, np.expm1, 3),
    "log1p_unit": (0, 1, np.log1p, 3),
    "log1p": (0, 2.0**64, np.log1p, 4),  # 1 + x is rounded too
}


@pytest.mark.parametrize("name", EXACT)
def test_function_to_a_few_ulps(cpp, name):
    low, high, truth, bound = EXACT[name]
    sizes = np.concatenate([np.linspace(0, 1, 200001), np.geomspace(1e-37, 1, 200001)])
    x = np.unique(np.concatenate([low * sizes, high * sizes]).astype(np.float32))
    error = ulps(getattr(cpp.float32, name)(x), truth(x.astype(np.float64)), np.float32)
    assert error.max() <= bound, f"{error.max():.2f} ulp at {x[error.argmax()]!r}"
    wide = x.astype(np.float64) * (8 if name.startswith("exp") else 1)
    wide = wide[wide < 709]
    error = ulps(getattr(cpp.float64, name)(wide), truth(wide), np.float64)
    assert error.max() <= bound + 1, f"{error.max():.2f} ulp at {wide[error.argmax()]!r}"  # numpy may be off by 1 ulp


def test_functions_out_of_range(cpp):
    f, d = cpp.float32, cpp.float64
    far = np.array([89.0, 1e4, 1e38, np.inf], dtype=np.float32)
    tiny = np.finfo(np.float32).tiny
    assert (f.exp(far) == np.inf).all() and (f.expm1(far) == np.inf).all() and (f.expm1_minus_x(far) == np.inf).all()
    assert (np.abs(f.exp(-far)) <= 2 * tiny).all() and (np.abs(f.exp_nonpositive(-far)) <= 2 * tiny).all()
    assert (f.expm1(-far) == -1).all()
    top = f.exp_saturated(np.float32(88))
    assert (f.exp_saturated(far) == top).all() and np.isfinite(top) and f.exp_saturated(np.float32(-1e4)) <= 2 * tiny
    assert d.exp(710.0) == np.inf and d.exp_saturated(710.0) == d.exp_saturated(1e300) < np.inf
    assert f.exp(np.float32(0)) == d.exp(0.0) == 1 and f.expm1(np.float32(0)) == f.log1p_unit(np.float32(0)) == 0


@pytest.mark.parametrize(("dtype", "high"), {"float32": 88, "float64": 709}.items())
def test_exp_in_two_factors(cpp, dtype, high):
    """exp(x) for an x up to twice the limit of the type, as a product of a number and a power of two. The power is 1 as
    long as the type can hold exp(x)."""
    x = np.linspace(-0.98 * high, 1.99 * high, 200001).astype(DTYPES[dtype])
    first, second = (getattr(getattr(cpp, dtype), name)(x) for name in ("exp_first", "exp_second"))
    assert np.isfinite(first).all() and (np.frexp(second)[0] == 0.5).all() and (second[x <= high] == 1).all()
    product, truth = first.astype(np.longdouble) * second, np.exp(x.astype(np.longdouble))
    assert (np.abs(product / truth - 1)).max() <= 2 * np.finfo(DTYPES[dtype]).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*EXACT, "expm1_minus_x"])
def test_function_of_nan(cpp, name, dtype):
    assert np.isnan(getattr(getattr(cpp, dtype), name)(np.full(3, np.nan, DTYPES[dtype]))).all()


RNGS = [(0, 0), (1, 2), (2**63, 2**32), (2**64 - 1, 2**64 - 1), (0x1234567890AB, 5 << 32 | 7)]


@pytest.mark.parametrize("seed, offset", RNGS)
def test_words_and_normals_bit_by_bit(cpp, seed, offset):
    rng = torch.tensor(np.array([seed, offset], dtype=np.uint64).view(np.int64))
    groups = 25000
    group = np.arange(groups, dtype=np.uint64)
    words = [cpp.word(np.uint64(seed), np.uint64(offset), group, lane) for lane in range(4)]
    for actual, expected in zip(words, noise.words(rng, groups), strict=True):
        np.testing.assert_array_equal(actual.astype(np.int64), expected.numpy())
    pairs = (f(words[i], words[i + 1]) for i in (0, 2) for f in (cpp.sine, cpp.cosine))
    expected = noise.normals(rng, (groups, 4)).numpy()
    np.testing.assert_array_equal(np.stack(list(pairs), axis=1).view(np.int32), expected.view(np.int32))


def test_a_group_beyond_32_bits(cpp):
    """The number of a group can need more than 32 bits. With torch the test would have to draw 2^34 elements, so it
    calls the Philox function itself, with a counter written by hand."""
    group, low, high = 2**32 + 3, torch.tensor([3]), torch.tensor([1])
    zero = torch.tensor([0])
    expected = noise.philox4x32((zero + 9, zero, low, high), (zero + 7, zero))
    assert [cpp.word(7, 9, group, lane) for lane in range(4)] == [w.item() for w in expected]


def test_normals_of_extreme_words_bit_by_bit(cpp):
    ends = sorted({(k * 2**29 + d) & 0xFFFFFFFF for k in range(8) for d in (-1, 0, 1)} | {2**k for k in range(32)})
    x, y = (w.reshape(-1) for w in np.meshgrid(*2 * [np.array([*ends, 2**32 - 128, 2**32 - 129], dtype=np.uint32)]))
    expected = noise._box_muller(torch.tensor(x.astype(np.int64)), torch.tensor(y.astype(np.int64)))
    for f, e in zip((cpp.sine, cpp.cosine), expected, strict=True):
        np.testing.assert_array_equal(f(x, y).view(np.int32), e.numpy().view(np.int32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_levels_are_divided_exactly(cpp, dtype):
    levels = np.arange(256, dtype=DTYPES[dtype])
    error = ulps(getattr(cpp, dtype).divided_by_255(levels), levels.astype(np.longdouble) / 255, DTYPES[dtype])
    assert error.max() <= (0.5001 if cpp.__name__.endswith("fma") else 1)  # without fma, the correction is rounded too
