// Blocks of at most kBlock elements in the compute type T: storage types are converted at the block's edge, in the
// first-level cache, so that no loop below knows them. Compiled once per instruction set, in namespace vk::VK_ISA.
#pragma once
#include <cstring>

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

// Long formulas run on whole vectors alone, and what is left of a run is copied and filled up. GCC would compile the
// formula a second time for the rest, and compute the rest number by number.
// A loop says in_vectors(n), which is n, where n is whole vectors: so GCC knows.
VK_FN int in_vectors(int n) { return n & -kVector; }
template <class T>
static void copy(const T* from, int n, T* to) {
  std::memcpy(to, from, n * sizeof(T));
}
// n numbers, fewer than a vector, and as many times the first one as the vector has room for
template <class T>
static const T* fill_up(const T* from, int n, T* to) {
  copy(from, n, to);
  for (int i = n; i < kVector; ++i) to[i] = from[0];
  return to;
}

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

// convert.cpp: n elements from the place `at` on. A byte is a count, or a level of an image. What is no T is converted.
void read(const Source& s, int64_t at, int n, bool counts, float* to);
void read(const Source& s, int64_t at, int n, bool counts, double* to);
void write(const float* from, int n, const Sink& s, int64_t at);
void write(const double* from, int n, const Sink& s, int64_t at);

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
  read(s, begin_of(s, row) + col, n, COUNTS, buffer);
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
  const int64_t at = row * s.stride + col;
  if (s.data && from != static_cast<T*>(s.data) + at) write(from, n, s, at);
}

}  // namespace vk::VK_ISA
