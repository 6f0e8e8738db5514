// A block of the likelihood loop: value and gradient of at most kSum elements. Compiled once per likelihood
// (VK_LIKELIHOOD) and instruction set (VK_ISA).
#pragma once
#include <type_traits>

#include "formula.h"
#include "tile.h"

namespace vk::VK_ISA {
namespace {  // each likelihood has a Block<float, 0, true> of its own: the linker must not take one for all

constexpr int N = VK_LIKELIHOOD::parameters;
static_assert(N <= 3 || is_counts<VK_LIKELIHOOD>, "a fourth parameter that is one number has a loop for counts only");
template <class F, class T>
constexpr bool kLog1p = requires(T x, T (&p)[N]) { F::nll(x, p, p).e; };  // the formula leaves a logarithm to the loop

// The sum of log(1 + e[i]), n <= kSum; e is overwritten. Quarters are joined, in whole vectors, until one is left.
template <class T>
static T sum_log1p(T* e, int n) {
  while (n > kVector) {
    const int quarter = whole_vectors((n + 3) / 4);
    for (int i = n; i < 4 * quarter; ++i) e[i] = 0;
#pragma omp simd
    for (int i = 0; i < quarter; ++i)
      e[i] = join_log1p(join_log1p(e[i], e[i + quarter]), join_log1p(e[i + 2 * quarter], e[i + 3 * quarter]));
    n = quarter;
  }
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < n; ++i) sum += log1p(e[i]);
  return sum;
}

// The weights of elements have the type W: T, Mask, or None. A loop that reads the bytes of a mask selects: the loop
// neither converts nor multiplies.
using Mask = uint8_t;
struct None {};
template <class W, class T>
constexpr bool kMultiplied = std::is_same_v<W, T>;

template <class T>
struct BlockWeights {
  T row;                // of all elements: the gradients are multiplied by it
  const void* element;  // of each element, of type W: values and gradients are multiplied by it
};

// The weight of an element. Where the weight is 0 the element is missing, and its results are 0, even if they were NaN.
template <class W, class T>
struct Own {
  W weight{};

  VK_INLINE Own(const W* w, int i) {
    if constexpr (!std::is_same_v<W, None>) weight = w[i];
  }
  VK_INLINE T times(T v) const {
    if constexpr (kMultiplied<W, T>) return weight * v;
    return v;
  }
  VK_INLINE T kept(T v) const {
    if constexpr (std::is_same_v<W, None>)
      return v;
    else
      return weight == 0 ? T(0) : v;
  }
};
// The sum of w[i] * log(1 + e[i]); e is overwritten. A weighted logarithm is taken by itself; the others are joined.
template <class W, class T>
static T sum_log1p(T* e, const W* w, int n) {
  if constexpr (kMultiplied<W, T>) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; ++i) sum += w[i] * log1p(e[i]);
    return sum;
  } else {
    return sum_log1p(e, n);
  }
}

// Bit k of SCALARS: parameter k is one number, and its gradient is summed.
template <class F, class T, unsigned SCALARS, bool GRAD, class W>
struct Block {
  const T *x, *p0, *p1, *p2, *p3;
  const W* w;
  T *g0, *g1, *g2, *g3, *e;
  T c1, c2, weight;

  // Element i: its value is returned, gradients and e are written, and gradients of numbers go to d1 and d2. The arrays
  // live in a function of their own: as variables of the vectorised loop they would be laid out in memory, lane by
  // lane.
  VK_INLINE T element(int i, T& d1, T& d2) const {
    T q[N], d[N];
    q[0] = p0[i];
    if constexpr (N > 1) q[1] = SCALARS & 2 ? c1 : p1[i];
    if constexpr (N > 2) q[2] = SCALARS & 4 ? c2 : p2[i];
    if constexpr (N > 3) q[3] = p3[i];
    const PlusLog1p<T> nll = parts(F::nll(x[i], q, d));
    const Own<W, T> own(w, i);
    const T both = own.times(weight);
    if constexpr (kLog1p<F, T>) e[i] = own.kept(nll.e);
    d1 = d2 = 0;
    if constexpr (GRAD) {
      g0[i] = own.kept(both * d[0]);
      if constexpr (N > 1) (SCALARS & 2 ? d1 : g1[i]) = own.kept(SCALARS & 2 ? own.times(d[1]) : both * d[1]);
      if constexpr (N > 2) (SCALARS & 4 ? d2 : g2[i]) = own.kept(SCALARS & 4 ? own.times(d[2]) : both * d[2]);
      if constexpr (N > 3) g3[i] = own.kept(both * d[3]);
    }
    return own.kept(own.times(nll.value));
  }

  static T run(const T* x, const T* const* p, T* const* g, T* scalar_sums, const BlockWeights<T>& weights, int given) {
    const int n = in_vectors(given);
    const T weight = weights.row;
    const T *p1 = N > 1 ? p[1] : nullptr, *p2 = N > 2 ? p[2] : nullptr, *p3 = N > 3 ? p[3] : nullptr;
    T *g1 = N > 1 ? g[1] : nullptr, *g2 = N > 2 ? g[2] : nullptr, *g3 = N > 3 ? g[3] : nullptr;
    alignas(64) T e[kLog1p<F, T> ? kSum : 1];
    const T c1 = SCALARS & 2 ? *p1 : T(0), c2 = SCALARS & 4 ? *p2 : T(0);
    const W* w = static_cast<const W*>(weights.element);
    const Block b{x, p[0], p1, p2, p3, w, g[0], g1, g2, g3, e, c1, c2, weight};
    T sum = 0, s1 = 0, s2 = 0;
#pragma omp simd reduction(+ : sum, s1, s2)
    for (int i = 0; i < n; ++i) {
      T d1, d2;
      sum += b.element(i, d1, d2);
      if constexpr (SCALARS & 2) s1 += d1;
      if constexpr (SCALARS & 4) s2 += d2;
    }
    scalar_sums[1] = weight * s1;
    scalar_sums[2] = weight * s2;
    if constexpr (kLog1p<F, T>) sum += sum_log1p(e, w, n);
    return sum;
  }
};

}  // namespace
}  // namespace vk::VK_ISA
