// Vectors of the instruction set's width, as one value: for loops that keep many of them in registers, which a plain
// loop over an array does not. Compiled once per instruction set, in namespace vk::VK_ISA.
#pragma once
#include "scalar.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace vk::VK_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <class T>
VK_FN Vector<T> load_lanes(const T* from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class V, class T>
VK_FN void store_lanes(const V& v, T* to) {
  std::memcpy(to, &v, sizeof v);
}

// a * b + c, fused where the hardware does it: the compiler is told to fuse nothing by itself
VK_FN Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
#if defined(__AVX512F__)
  return Vector<float>(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c)));
#elif defined(__FMA__)
  return Vector<float>(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c)));
#else
  return a * b + c;
#endif
}
VK_FN Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
#if defined(__AVX512F__)
  return Vector<double>(_mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c)));
#elif defined(__FMA__)
  return Vector<double>(_mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c)));
#else
  return a * b + c;
#endif
}

// the sum of all lanes, by halves
template <class T>
VK_FN T sum_lanes(Vector<T> v) {
  T sum = 0;
  T lane[kLanes<T>];
  store_lanes(v, lane);
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < kLanes<T>; ++i) sum += lane[i];
  return sum;
}

}  // namespace vk::VK_ISA
