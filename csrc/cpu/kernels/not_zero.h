// Most counts are 0. The others are brought together, so that their longer formula runs on whole vectors.
#pragma once
#include "block.h"
#if defined(__AVX2__) && defined(VK_COUNTS)
#include <immintrin.h>
#endif

namespace vk::VK_ISA {
namespace {

// at[0], at[1], ...: where x is not 0 (NaN is not), and how often that is; up to 7 more are written
template <class T>
static int not_zero(const T* x, int n, int* at) {
  int number = 0;
  for (int i = 0; i < n; ++i) {
    at[number] = i;
    number += x[i] != 0;
  }
  return number;
}
#if defined(__AVX2__) && !defined(__AVX512F__) && defined(VK_COUNTS)  // eight at a time; GCC does not find it
struct Places {
  alignas(64) uint8_t of[256][8] = {};  // of[mask]: the bits that are set, in order
  constexpr Places() {
    for (int mask = 0; mask < 256; ++mask)
      for (int bit = 0, k = 0; bit < 8; ++bit)
        if (mask >> bit & 1) of[mask][k++] = uint8_t(bit);
  }
};
constexpr Places kPlaces;

static int not_zero(const float* x, int n, int* at) {
  int number = 0, i = 0;
  const auto eight = [&](const float* from, int of_them) {
    const __m256 v = _mm256_loadu_ps(from);
    const int mask = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ)) & ((1 << of_them) - 1);
    const __m256i places = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kPlaces.of[mask])));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at + number), _mm256_add_epi32(places, _mm256_set1_epi32(i)));
    number += __builtin_popcount(mask);
  };
  for (; i + 8 <= n; i += 8) eight(x + i, 8);
  float rest[8] = {};
  std::memcpy(rest, x + i, (n - i) * sizeof *x);
  eight(rest, n - i);
  return number;
}
#endif

// The elements of a block where x is not 0. gather() brings them together, of N arrays, and fills them up with zeros to
// whole vectors: a rest of a vector would take as long as ten vectors. scatter() spreads them out again.
template <class T>
class NotZero {
  int at[kSum + 8];

 public:
  const int number;

  NotZero(const T* x, int n) : number(not_zero(x, n, at)) {}
  template <int N>
  void gather(const T* const* from, T* const* to) const {
    for (int i = 0; i < number; ++i) VK_UNROLL for (int k = 0; k < N; ++k) to[k][i] = from[k][at[i]];
    for (int i = number; i < whole_vectors(number); ++i)
      for (int k = 0; k < N; ++k) to[k][i] = 0;
  }
  template <int N>
  void scatter(const T* const* from, T* const* to) const {
    for (int i = 0; i < number; ++i) VK_UNROLL for (int k = 0; k < N; ++k) to[k][at[i]] = from[k][i];
  }
};
#if defined(__AVX512F__) && defined(VK_COUNTS)  // one instruction for each of the loops above; GCC does not find them
template <>
class NotZero<float> {
  int n;
  __mmask16 mask[kSum / 16];

  __mmask16 inside(int i) const { return n - i < 16 ? __mmask16((1u << (n - i)) - 1) : __mmask16(0xffff); }

 public:
  int number = 0;

  NotZero(const float* x, int n) : n(n) {
    for (int i = 0; i < n; i += 16) {
      const __m512 v = _mm512_maskz_loadu_ps(inside(i), x + i);
      mask[i / 16] = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
      number += __builtin_popcount(mask[i / 16]);
    }
  }
  template <int N>
  void gather(const float* const* from, float* const* to) const {
    for (int k = 0; k < N; ++k) compress(from[k], to[k]);
  }
  template <int N>
  void scatter(const float* const* from, float* const* to) const {
    for (int k = 0; k < N; ++k) expand(from[k], to[k]);
  }

 private:
  void compress(const float* from, float* to) const {
    // whole vectors are written: no more than i are there before
    for (int i = 0; i < n; to += __builtin_popcount(mask[i / 16]), i += 16)
      _mm512_storeu_ps(to, _mm512_maskz_compress_ps(mask[i / 16], _mm512_maskz_loadu_ps(inside(i), from + i)));
    _mm512_mask_storeu_ps(to, __mmask16((1u << (whole_vectors(number) - number)) - 1), _mm512_setzero_ps());
  }
  void expand(const float* from, float* to) const {
    for (int i = 0; i < n; from += __builtin_popcount(mask[i / 16]), i += 16)
      _mm512_mask_storeu_ps(to + i, mask[i / 16], _mm512_maskz_expand_ps(mask[i / 16], _mm512_loadu_ps(from)));
  }
};
#endif

}  // namespace
}  // namespace vk::VK_ISA
