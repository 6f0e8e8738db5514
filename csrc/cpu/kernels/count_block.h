// A block of the likelihood loop for a likelihood of counts. Compiled as element_block.h is.
#pragma once
#include "element_block.h"
#include "not_zero.h"

namespace vk::VK_ISA {
namespace {

// A count likelihood has two formulas: one for x = 0 (most elements) and one for x > 0. The loop for x > 0 is short,
// because the elements with x > 0 are brought together before it.
template <class F>
struct AtZero {
  template <class T>
  VK_FN auto nll(T x, const T (&p)[N], T (&grad)[N]) {  // 0 where x > 0; the gradient there is overwritten later
    auto value = F::at_zero(p, grad);
    return x == 0 ? value : decltype(value){};
  }
};
template <class F>
struct AboveZero {
  template <class T>
  VK_FN auto nll(T x, const T (&p)[N], T (&grad)[N]) {  // 0 for x = 0: the last vector is filled up with zeros
    auto value = F::above_zero(x, p, grad);
    return x == 0 ? decltype(value){} : value;
  }
};

// Columns of a block. Blocks of counts have fewer: what one of their loops leaves for the next must stay in the
// first-level cache.
constexpr int kBlockCols = is_counts<VK_LIKELIHOOD> && kSum > 512 ? 512 : kSum;

// The elements of a block with x = 0, in their places.
template <class F, class T, bool GRAD, class W>
struct Zeros : Block<AtZero<F>, T, 0, GRAD, W> {};

// A formula that takes the value of another formula is four loops. A processor has a limited number of instructions
// under way. Of a short loop these instructions belong to more elements, and more chains of dependent operations
// overlap.
template <class F, class T, bool GRAD, class W>
  requires requires { typename F::not_dropped; }
struct Zeros<F, T, GRAD, W> {
  static T run(const T* x, const T* const* p, T* const* g, T* scalar_sums, const BlockWeights<T>& weights, int given) {
    const int n = in_vectors(given);
    using Kept = typename F::not_dropped;
    alignas(64) T between[7][kBlockCols];
    auto& [ratio, smaller, by0, by1, value, minus_1, e] = between;
    T *power_of_n = ratio, *power_of_d = smaller;  // take the memory of what has been read
    const T *p0 = p[0], *p1 = p[1], *p2 = p[2];
    T *g0 = g[0], *g1 = g[1], *g2 = g[2];
#pragma omp simd
    for (int i = 0; i < n; ++i) {
      const auto powers = Kept::powers({p0[i], p1[i]});
      ratio[i] = powers.ratio;
      smaller[i] = powers.smaller;
    }
#pragma omp simd
    for (int i = 0; i < n; ++i) {
      T by[2];
      value[i] = Kept::at_zero({p0[i], p1[i]}, {ratio[i], smaller[i]}, by);
      if constexpr (GRAD) by0[i] = by[0], by1[i] = by[1];
    }
#pragma omp simd
    for (int i = 0; i < n; ++i) {
      const auto powers = F::powers(-value[i], minus_absolute(p2[i]));
      power_of_n[i] = powers.n;
      power_of_d[i] = powers.d;
      minus_1[i] = powers.n_minus_1;
    }
    const T weight = weights.row;
    const W* w = static_cast<const W*>(weights.element);
    T sum = 0, least = 1;
#pragma omp simd reduction(+ : sum) reduction(min : least)
    for (int i = 0; i < n; ++i) {
      const T by[2] = {GRAD ? by0[i] : T(0), GRAD ? by1[i] : T(0)};
      T d[3];
      const PlusLog1p<T> nll = F::at_zero({power_of_n[i], minus_1[i], power_of_d[i]}, by, p2[i], d);
      const Own<W, T> own(w, i);
      const bool here = x[i] == 0;
      const T both = own.times(weight);
      least = at_most(least, power_of_n[i] + power_of_d[i]);
      sum += own.kept(here ? own.times(nll.value) : T(0));
      e[i] = own.kept(here ? nll.e : T(0));
      if constexpr (GRAD) {
        g0[i] = own.kept(both * d[0]);
        g1[i] = own.kept(both * d[1]);
        g2[i] = own.kept(both * d[2]);
      }
    }
    if (least < T(F::kNear)) return Block<AtZero<F>, T, 0, true, W>::run(x, p, g, scalar_sums, weights, n);
    return sum + sum_log1p(e, w, n);
  }
};

// A block of counts: the elements with x = 0 where they lie, then the others as a block of their own. A parameter that
// is one number is repeated in p. To read it costs little beside this arithmetic, and a loop for such parameters would
// take long to compile.
template <class F, class T, bool GRAD, class W>
struct Counts {
  static T run(const T* x, const T* const* p, T* const* g, T* scalar_sums, const BlockWeights<T>& weights, int n) {
    const T sum = Zeros<F, T, GRAD, W>::run(x, p, g, scalar_sums, weights, n);
    const NotZero<T> positive(x, n);
    if (!positive.number) return sum;
    constexpr int inputs = N + 1 + kMultiplied<W, T>;
    alignas(64) T in[inputs][kBlockCols], out[N][kBlockCols];
    const T* from[inputs] = {x};
    T *to[inputs] = {in[N]}, *d[N];
    if constexpr (kMultiplied<W, T>) from[N + 1] = static_cast<const T*>(weights.element), to[N + 1] = in[N + 1];
    for (int k = 0; k < N; ++k) {
      from[k + 1] = p[k];
      to[k + 1] = in[k];
      d[k] = out[k];
    }
    positive.template gather<inputs>(from, to);
    const BlockWeights<T> gathered{weights.row, to[inputs - 1]};
    const int number = whole_vectors(positive.number);
    const T of_positive = Block<AboveZero<F>, T, 0, GRAD, W>::run(in[N], to + 1, d, scalar_sums, gathered, number);
    if (GRAD) positive.template scatter<N>(d, g);
    return sum + of_positive;
  }
};

}  // namespace
}  // namespace vk::VK_ISA
