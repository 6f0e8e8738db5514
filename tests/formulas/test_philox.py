"""The noise of vae_kernels/core/noise.py against published test vectors, golden values, an exact fma, and
statistics."""

import math
import zlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from exact import to_float32
from scipy import stats

from vae_kernels.core import noise

MASK = 0xFFFFFFFF


def rng_of(seed, offset):
    """The int64 tensor that has the bits of the two uint64 numbers."""
    return torch.tensor(np.array([seed, offset], dtype=np.uint64).view(np.int64))


# --- the words

# The kat_vectors of Random123 (Salmon et al. 2011): counter, key, result of philox4x32-10
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize("counter, key, result", VECTORS)
def test_random123_vectors(counter, key, result):
    counter, key, result = ([int(word, 16) for word in text.split()] for text in (counter, key, result))
    as_tensors = [[torch.tensor([w]) for w in words] for words in (counter, key)]
    assert [w.item() for w in noise.philox4x32(*as_tensors)] == result


def philox_of_integers(seed, offset, group):
    """Philox 4x32-10 in Python's unbounded integers."""
    key = [seed & MASK, seed >> 32]
    c = [offset & MASK, offset >> 32, group & MASK, group >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ key[0], q & MASK, p >> 32 ^ c[3] ^ key[1], p & MASK]
        key = [(key[0] + 0x9E3779B9) & MASK, (key[1] + 0xBB67AE85) & MASK]
    return c


@pytest.mark.parametrize(
    "seed, offset", [(0, 0), (1, 0), (0, 1), (2**63, 2**32), (2**64 - 1, 2**64 - 1), (0x1234567890AB, 5 << 32 | 7)]
)
def test_words_are_philox_of_seed_offset_and_group(seed, offset):
    words = torch.stack(noise.words(rng_of(seed, offset), 50), dim=1)
    assert words.tolist() == [philox_of_integers(seed, offset, group) for group in range(50)]


# --- the normals

# A C++ program printed these numbers with %a. The program computes the noise as the design says, with std::fma and
# std::sqrt (g++ -O2 -ffp-contract=off), and shares no code with this package. Each row: seed, offset, group, its four
# normals.
GOLDEN = [
    (0, 0, 0, "-0x1.d96d6p-1 0x1.fb7666p-1 -0x1.eda364p-2 -0x1.3c374p-1"),
    (0, 0, 1, "-0x1.b38d6ap-2 0x1.114d96p+0 -0x1.da1b0ep-3 -0x1.2f19bep+1"),
    (0x1234567890AB, 5 << 32 | 7, 0, "-0x1.21ba02p+0 -0x1.05a2cap+0 -0x1.76f1cep-1 0x1.2df368p+0"),
    (0x1234567890AB, 5 << 32 | 7, 1, "0x1.702312p-2 0x1.82ad0ap+0 0x1.2751p-3 -0x1.f291ecp+0"),
    (0xFEDCBA9876543210, 2**64 - 1, 0, "-0x1.26ba22p-4 0x1.9e4cf6p-3 0x1.a99eacp+0 0x1.ab3c54p-2"),
    (0xFEDCBA9876543210, 2**64 - 1, 1, "-0x1.65b6aep+0 -0x1.9a3fcap-1 0x1.530d88p-2 0x1.81fd2ap-2"),
    (42, 4, 12345, "-0x1.4b2244p-2 0x1.890344p-3 -0x1.01b684p+1 -0x1.8fbe54p-1"),
    (42, 4, 12346, "-0x1.7f2294p-1 0x1.0e941p-1 0x1.5fb5f2p-5 0x1.87ee8ap+0"),
]


@pytest.mark.parametrize("seed, offset, group, expected", GOLDEN)
def test_golden_normals(seed, offset, group, expected):
    z = noise.normals(rng_of(seed, offset), (4 * (group + 1),))[4 * group :]
    assert z.tolist() == [float.fromhex(text) for text in expected.split()]


def test_golden_checksum():
    """The checksum of 65 536 normals of the same program. A wrong rounding changes only a few normals, so few golden
    values would miss it."""
    z = noise.normals(rng_of(0x9E3779B97F4A7C15, 0x8000000000000003), (1 << 16,))
    assert zlib.crc32(z.numpy().astype("<f4").tobytes()) == 0x1A29A930


def box_muller_float64(x, y):
    """The definition of Box-Muller in float64. It starts from the same float32 u, because near u = 1 the rounding of u
    alone changes r by more than 1e-6."""
    u = (x.astype(np.float32).astype(np.float64) * 2.0**-32 + 2.0**-33).astype(np.float32).astype(np.float64)
    r, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * (y + 0.5) * 2.0**-32
    return r * np.sin(angle), r * np.cos(angle)


def test_normals_are_box_muller_of_the_words():
    rng, n = rng_of(7, 11), 1 << 18
    w = [word.numpy().astype(np.float64) for word in noise.words(rng, n // 4)]
    expected = np.stack((*box_muller_float64(w[0], w[1]), *box_muller_float64(w[2], w[3])), axis=1).reshape(-1)
    # the error is r <= 6.77 times the error of sin and cos in float32, which is about 1.5 ulp = 9e-8
    np.testing.assert_allclose(noise.normals(rng, (n,)).numpy(), expected, rtol=0, atol=1e-6)


def test_extreme_words():
    """Words at both ends of each eighth of a turn, at each new exponent of u, and where u begins to round to 1: there a
    branch or a rounding changes."""
    ends = sorted(
        {(k * 2**29 + d) & MASK for k in range(8) for d in (-1, 0, 1)}
        | {2**k for k in range(32)}
        | {MASK - 127, MASK - 128}
    )
    x, y = (w.reshape(-1) for w in np.meshgrid(np.array(ends), np.array(ends)))
    sin, cos = noise._box_muller(torch.tensor(x), torch.tensor(y))
    for z, expected in zip((sin, cos), box_muller_float64(x.astype(np.float64), y.astype(np.float64)), strict=True):
        np.testing.assert_allclose(z.numpy(), expected, rtol=0, atol=1e-6)
        assert z.abs().max() <= math.sqrt(66 * math.log(2)) + 1e-6
        # where u rounds to 1, -2 log u is -0, but r must be 0: the sign of the result is that of the sine or cosine
        assert (z[x == MASK] == 0).all() and torch.equal(z[x == MASK].signbit(), z[x == 0].signbit())


def test_statistics():
    """The moments and correlations of the normals are right within four standard errors, and the Kolmogorov-Smirnov
    test accepts the normals. The seed is fixed, so this test passes always or never."""
    n = 1 << 20
    z = noise.normals(rng_of(2024, 0), (n,)).double().numpy()
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # E z^2p - (E z^p)^2
        assert abs((z**power).mean() - expected) < 4 * math.sqrt(variance / n)
    assert stats.kstest(z, "norm").pvalue > 0.01
    lanes = z.reshape(-1, 4)
    assert np.abs(np.corrcoef(lanes.T) - np.eye(4)).max() < 4 / math.sqrt(len(lanes))
    assert abs(np.mean(z[:-1] * z[1:])) < 4 / math.sqrt(n)


def test_an_element_does_not_depend_on_the_shape():
    rng = rng_of(3, 5)
    long = noise.normals(rng, (1000,))
    for shape in ((1000,), (10, 100), (2, 5, 100), (7,), (1,), (3, 3), (0,), (4, 0), ()):
        z = noise.normals(rng, shape)
        assert z.shape == shape and z.dtype == torch.float32
        assert torch.equal(z.reshape(-1), long[: z.numel()])


@pytest.mark.parametrize("bit", [0, 31, 32, 63])
def test_every_bit_of_seed_and_offset_counts(bit):
    base = noise.normals(rng_of(9, 9), (4000,))
    for other in (rng_of(9 ^ 1 << bit, 9), rng_of(9, 9 ^ 1 << bit)):
        assert (noise.normals(other, (4000,)) == base).float().mean() < 0.01


def test_new_rng_obeys_torch_manual_seed_and_generators():
    torch.manual_seed(1)
    first, second = noise.new_rng(), noise.new_rng()
    torch.manual_seed(1)
    assert torch.equal(first, noise.new_rng()) and not torch.equal(first, second)
    assert first.dtype == torch.int64 and first.shape == (2,)
    state = torch.get_rng_state()
    one, two = (noise.new_rng(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two) and torch.equal(torch.get_rng_state(), state)
    many = torch.stack([noise.new_rng() for _ in range(200)])
    assert (many < 0).any() and (many >> 62 == -2).any() and (many >> 62 == 1).any()  # all 64 bits are drawn


@pytest.mark.full
def test_traces_without_reading_the_rng():
    compiled = torch.compile(lambda rng: noise.normals(rng, (5, 7)), fullgraph=True, backend="aot_eager")
    for rng in (rng_of(1, 2), rng_of(3, 4)):
        assert torch.equal(compiled(rng), noise.normals(rng, (5, 7)))


# --- fma


def check_fma(a, b, c):
    a, b, c = (np.asarray(v, dtype=np.float32) for v in (a, b, c))
    fused = noise._fma(*(torch.tensor(v) for v in (a, b, c)))
    assert fused.dtype == torch.float32
    exact = [Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c, strict=True)]
    assert fused.tolist() == [to_float32(e) for e in exact]
    return exact


def test_fma_is_exact_on_random_bits():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, size=(3, 6000), dtype=np.uint64).astype(np.uint32)
    a, b, c = bits.view(np.float32)
    fits = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    check_fma(a[fits], b[fits], c[fits])


@pytest.mark.parametrize("gap", [0, 1, 12, 23, 24, 25, 30, 53, 60, 100])
def test_fma_is_exact_where_product_and_addend_are_of_like_size(gap):
    rng = np.random.default_rng(gap)
    a, b, c = rng.uniform(1, 2, size=(3, 500)) * rng.choice([-1, 1], size=(3, 500))
    check_fma(a, b, c * 2.0**-gap)
    check_fma(a, b, c * 2.0**gap)


@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_fma_is_exact_where_rounding_twice_is_not(beside):
    """An fma in float64 that is then rounded to float32 rounds twice. This is wrong where a b + c is so near a midpoint
    of two float32 numbers that float64 rounds it to the midpoint. The cases are such sums, and sums one float64 ulp
    beside a midpoint, where rounding twice is still right."""
    rng = np.random.default_rng(1)
    # The float32 ulp of c is 2^8, and its float64 ulp is 2^-21. a b is 2^7 (half of the float32 ulp), plus beside *
    # 2^-21, plus a rest of less than 2^-22. The integers below are in units of 2^-40.
    target = 2**47 + beside * 2**19
    a = rng.integers(2**23, 2**24, size=20000)
    b = (target + a // 2) // a
    rest = a * b - target
    keep = (b < 2**24) & (rest != 0) & (np.abs(rest) < 2**18)
    a, b = a[keep] * 2.0**-20 * rng.choice([-1, 1], size=keep.sum()), b[keep] * 2.0**-20
    c = np.copysign(rng.integers(2**23, 2**24, size=len(a)) * 2.0**8, a)
    check_fma(a, b, c)
    twice = (a * b + c).astype(np.float32)  # a b is exact
    wrong = twice != noise._fma(*(torch.tensor(v.astype(np.float32)) for v in (a, b, c))).numpy()
    assert len(a) > 500 and wrong.any() == (beside == 0)  # the sample has cases in which rounding twice is wrong


def test_fma_is_exact_among_subnormals():
    rng = np.random.default_rng(2)
    a, b = rng.uniform(-1, 1, size=(2, 500)) * 2.0**-70
    c = rng.uniform(-1, 1, size=500) * 2.0 ** rng.integers(-149, -125, size=500)
    assert any(0 < abs(e) < Fraction(2) ** -126 for e in check_fma(a, b, c))


def test_constants_are_float32_numbers():
    for value in (*noise._LOG, noise._LOG2, *noise._SIN, *noise._COS):
        assert float(np.float32(value)) == value
