// Counts are mostly zeros: the others are brought together, so that their longer formula runs on whole vectors.
#pragma once
#include "block.h"
#if defined(__AVX512F__) && defined(VK_COUNTS)
#include <immintrin.h>
#endif

namespace vk::VK_ISA {
namespace {

// Where x is not 0 (NaN is not): arrays of a block are brought together there, filled up with zeros to whole vectors,
// as what is left of one takes as long as ten of them; and spread out again.
template <class T>
class NotZero {
  int at[kSum];

 public:
  int number = 0;

  NotZero(const T* x, int n) {
    for (int i = 0; i < n; ++i) {
      at[number] = i;
      number += x[i] != 0;
    }
  }
  void gather(const T* from, T* to) const {
    for (int i = 0; i < number; ++i) to[i] = from[at[i]];
    for (int i = number; i < whole_vectors(number); ++i) to[i] = 0;
  }
  void scatter(const T* from, T* to) const {
    for (int i = 0; i < number; ++i) to[at[i]] = from[i];
  }
};
#if defined(__AVX512F__) && defined(VK_COUNTS)  // one instruction for each of the loops above; GCC does not find them
template <>
class NotZero<float> {
  int n;
  __mmask16 some[kSum / 16];

  __mmask16 inside(int i) const { return n - i < 16 ? __mmask16((1u << (n - i)) - 1) : __mmask16(0xffff); }

 public:
  int number = 0;

  NotZero(const float* x, int n) : n(n) {
    for (int i = 0; i < n; i += 16) {
      const __m512 v = _mm512_maskz_loadu_ps(inside(i), x + i);
      some[i / 16] = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
      number += __builtin_popcount(some[i / 16]);
    }
  }
  void gather(const float* from, float* to) const {
    // whole vectors are written: no more than i are there before
    for (int i = 0; i < n; to += __builtin_popcount(some[i / 16]), i += 16)
      _mm512_storeu_ps(to, _mm512_maskz_compress_ps(some[i / 16], _mm512_maskz_loadu_ps(inside(i), from + i)));
    _mm512_mask_storeu_ps(to, __mmask16((1u << (whole_vectors(number) - number)) - 1), _mm512_setzero_ps());
  }
  void scatter(const float* from, float* to) const {
    for (int i = 0; i < n; from += __builtin_popcount(some[i / 16]), i += 16)
      _mm512_mask_storeu_ps(to + i, some[i / 16], _mm512_maskz_expand_ps(some[i / 16], _mm512_loadu_ps(from)));
  }
};
#endif

}  // namespace
}  // namespace vk::VK_ISA
