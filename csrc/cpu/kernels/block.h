// Blocks of at most kBlock elements in the compute type T: storage types are converted at the block's edge, in the
// first-level cache, so that no loop below knows them. Compiled once per instruction set, in namespace vk::VK_ISA.
#pragma once
#include "cpu/kernels.h"
#include "scalar.h"
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace vk::VK_ISA {

// Elements whose values are summed in the compute type before their sum goes on in float64: 64 in each float lane.
#if defined(__AVX512F__)
constexpr int kSum = 64 * 16;
#elif defined(__AVX2__)
constexpr int kSum = 64 * 8;
#else
constexpr int kSum = 64 * 4;
#endif
static_assert(kSum <= kBlock);
constexpr int kVector = kSum / 64;
static inline int whole_vectors(int n) { return (n + kVector - 1) / kVector * kVector; }

// Arithmetic on denormals costs 7 to 33 times as much: they are read and written as zero inside a task.
class FlushDenormals {
#if defined(__SSE2__)
  unsigned saved_ = _mm_getcsr();

 public:
  FlushDenormals() { _mm_setcsr(saved_ | 0x8040); }  // FTZ and DAZ
  ~FlushDenormals() { _mm_setcsr(saved_); }
#else
 public:
  FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
};

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

VK_FN float widen(float v) { return v; }
VK_FN double widen(double v) { return v; }
VK_FN uint8_t widen(uint8_t v) { return v; }
VK_FN int16_t widen(int16_t v) { return v; }
VK_FN int32_t widen(int32_t v) { return v; }
VK_FN int64_t widen(int64_t v) { return v; }
VK_FN float widen(bfloat16 v) { return bits_to_float(uint32_t(v.bits) << 16); }
// In integers, as GCC 12 has no vector conversion. A half's exponent is 112 less than a float's; its denormals are the
// difference of two normal floats, so that they survive the flushing of float's own.
VK_FN float widen(float16 v) {
  const uint32_t magnitude = v.bits & 0x7fffu, shifted = magnitude << 13;
  const float tiny = bits_to_float(shifted + (113u << 23)) - bits_to_float(113u << 23);
  const float other = bits_to_float(shifted + (magnitude < 0x7c00u ? 112u << 23 : 224u << 23));  // else: inf and NaN
  const float value = magnitude < 0x400u ? tiny : other;
  return bits_to_float(float_to_bits(value) | uint32_t(v.bits & 0x8000u) << 16);
}

VK_FN void narrow(float v, float& out) { out = v; }
VK_FN void narrow(double v, double& out) { out = v; }
VK_FN void narrow(double v, float& out) { out = float(v); }
VK_FN void narrow(float v, double& out) { out = v; }
template <class T>
VK_FN void narrow(T v, float16& out) {  // round to nearest, ties to even; from 65520 on infinite; NaN stays NaN
  const uint32_t u = float_to_bits(float(v)), magnitude = u & 0x7fffffffu;
  const uint32_t tiny = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;  // the sum is rounded to 2^-24
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  const uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t bits = magnitude < 113u << 23 ? tiny : magnitude < 143u << 23 ? normal : large;
  out.bits = uint16_t(bits | (u >> 16 & 0x8000u));
}
template <class T>
VK_FN void narrow(T v, bfloat16& out) {  // round to nearest, ties to even; NaN stays NaN
  uint32_t u = float_to_bits(float(v));
  uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  out.bits = uint16_t((u & 0x7fffffff) > 0x7f800000 ? (u >> 16) | 0x40 : rounded);
}

template <class S, class T>
static void convert_in(const void* from, int64_t at, int n, T* to) {
  const S* p = static_cast<const S*>(from) + at;
#pragma omp simd
  for (int i = 0; i < n; ++i) to[i] = T(widen(p[i]));
}
template <class T>
static void convert_bytes(const void* from, int64_t at, int n, T* to) {  // of an image: x / 255
  const uint8_t* p = static_cast<const uint8_t*>(from) + at;
#pragma omp simd
  for (int i = 0; i < n; ++i) to[i] = divided_by_255(T(p[i]));
}
template <class S, class T>
static void convert_out(const T* from, int n, void* to, int64_t at) {
  S* p = static_cast<S*>(to) + at;
#pragma omp simd
  for (int i = 0; i < n; ++i) narrow(from[i], p[i]);
}

template <class T>
constexpr DType dtype_of = sizeof(T) == 4 ? DType::float32 : DType::float64;

// Where a row begins
static inline int64_t begin_of(const Source& s, int64_t row) { return row_of(row, s.rows) * s.stride; }
// Whether n rows from `row` on lie one after the other, so that no row is repeated
static inline bool in_order(const Source& s, int64_t row, int64_t n) {
  return s.rows == kAllRows || row % s.rows + n <= s.rows;
}

// n elements of `row` from column `col` on, converted into `buffer`; a byte is one of COUNTS, or of an image
template <class T, bool COUNTS = false>
static void load_into(const Source& s, int64_t row, int64_t col, int n, T* buffer) {
  int64_t at = begin_of(s, row) + col;
  switch (s.dtype) {
    case DType::float32:
      return convert_in<float>(s.data, at, n, buffer);
    case DType::float64:
      return convert_in<double>(s.data, at, n, buffer);
    case DType::bfloat16:
      return convert_in<bfloat16>(s.data, at, n, buffer);
    case DType::float16:
      return convert_in<float16>(s.data, at, n, buffer);
    case DType::uint8:
      return COUNTS ? convert_in<uint8_t>(s.data, at, n, buffer) : convert_bytes(s.data, at, n, buffer);
    case DType::boolean:
      return convert_in<uint8_t>(s.data, at, n, buffer);
    case DType::int16:
      return convert_in<int16_t>(s.data, at, n, buffer);
    case DType::int32:
      return convert_in<int32_t>(s.data, at, n, buffer);
    case DType::int64:
      return convert_in<int64_t>(s.data, at, n, buffer);
  }
}
// the same, read where they lie if they are stored in the compute type
template <class T, bool COUNTS = false>
static const T* load(const Source& s, int64_t row, int64_t col, int n, T* buffer) {
  if (s.dtype == dtype_of<T>) return static_cast<const T*>(s.data) + begin_of(s, row) + col;
  load_into<T, COUNTS>(s, row, col, n, buffer);
  return buffer;
}

// the weights as a matrix, whose one column stands for all columns where the stride of the columns is 0
static inline Source rows_of(const ElementWeights& w) { return {w.data, w.row_stride, w.dtype, w.rows}; }
// the weights of n elements
template <class T>
static void load_into(const ElementWeights& w, int64_t row, int64_t col, int n, T* buffer) {
  if (w.col_stride) return load_into(rows_of(w), row, col, n, buffer);
  load_into(rows_of(w), row, 0, 1, buffer);
  for (int i = 1; i < n; ++i) buffer[i] = buffer[0];
}
// v times the weight w of its element. Where w is 0 the element is missing: what is computed of the element counts for
// nothing, even if it is NaN.
template <class T>
VK_FN T weighted(T w, T v) {
  return w == 0 ? T(0) : w * v;
}

// The first parameter of n elements, shifted. `to` may be `from`. A log-mean of -inf becomes the least number: formulas
// take differences of log-means.
template <class T>
static const T* shift_into(const T* from, const Shift& shift, int n, T* to) {
  const T peak = T(shift.peak), rest = T(shift.rest);
#pragma omp simd
  for (int i = 0; i < n; ++i) to[i] = at_least((from[i] - peak) + rest, -Real<T>::kLargest);
  return to;
}

// where to write n elements: in place, or into `buffer`, which store() then converts
template <class T>
static T* target(const Sink& s, int64_t row, int64_t col, T* buffer) {
  return s.data && s.dtype == dtype_of<T> ? static_cast<T*>(s.data) + row * s.stride + col : buffer;
}
template <class T>
static void store(const T* from, const Sink& s, int64_t row, int64_t col, int n) {
  int64_t at = row * s.stride + col;
  if (!s.data || from == static_cast<T*>(s.data) + at) return;
  switch (s.dtype) {
    case DType::float32:
      return convert_out<float>(from, n, s.data, at);
    case DType::float64:
      return convert_out<double>(from, n, s.data, at);
    case DType::bfloat16:
      return convert_out<bfloat16>(from, n, s.data, at);
    case DType::float16:
      return convert_out<float16>(from, n, s.data, at);
    default:
      return;  // no gradient is an integer
  }
}

}  // namespace vk::VK_ISA
