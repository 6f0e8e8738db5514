// The loops over the blocks of a row: which there are, and which one a job takes. Compiled as element_block.h is.
#pragma once
#include <array>
#include <utility>

#include "count_block.h"

namespace vk::VK_ISA {
namespace {

template <class T>
using BlockFunction = T (*)(const T*, const T* const*, T* const*, T*, const BlockWeights<T>&, int);

// Reading the bytes of a mask is worth a loop of its own beside little arithmetic: not beside that of counts, of three
// parameters, or of float64.
template <class T>
constexpr bool kReadsMask = std::is_same_v<T, float> && !is_counts<VK_LIKELIHOOD> && N < 3;

// Whether there is a loop for values alone. Otherwise the gradients stay in a buffer. float64 is there to be right.
template <class T>
constexpr bool kValuesAlone = std::is_same_v<T, float>;

// Whether there is a loop without weights. Otherwise all weights are 1, which costs little beside the arithmetic of
// float64, but where logarithms are joined.
template <class T>
constexpr bool kWeightless = std::is_same_v<T, float> || (kLog1p<VK_LIKELIHOOD, T> && !is_counts<VK_LIKELIHOOD>);

// The sets of parameters that a loop has as numbers, the best first: bit k of a set is parameter k. The first parameter
// has the shape of x, so bit 0 is never set. A number that is in no set is repeated, as are all numbers of counts.
template <class F>
constexpr auto number_sets() {
  if constexpr (requires { F::numbers; })
    return std::to_array(F::numbers);
  else if constexpr (N == 2 && !is_counts<F>)
    return std::array{2u, 0u};
  else
    return std::array{0u};
}
constexpr auto kNumberSets = number_sets<VK_LIKELIHOOD>();
static_assert(kNumberSets.back() == 0);

static unsigned best_set(unsigned numbers) {
  for (unsigned set : kNumberSets)
    if ((numbers & set) == set) return set;
  return 0;
}

template <class T, unsigned NUMBERS, class W, class F = VK_LIKELIHOOD>
static BlockFunction<T> choose(bool grad) {
  using Loop =
      std::conditional_t<is_counts<F>, Counts<F, T, true, W>, Block<F, T, is_counts<F> ? 0 : NUMBERS, true, W>>;
  if constexpr (kValuesAlone<T>) {
    using Values =
        std::conditional_t<is_counts<F>, Counts<F, T, false, W>, Block<F, T, is_counts<F> ? 0 : NUMBERS, false, W>>;
    if (!grad) return Values::run;
  }
  return Loop::run;
}
template <class T, class W, size_t... I>
static BlockFunction<T> choose(unsigned numbers, bool grad, std::index_sequence<I...>) {
  BlockFunction<T> found = nullptr;
  ((numbers == kNumberSets[I] ? void(found = choose<T, kNumberSets[I], W>(grad)) : void()), ...);
  return found;
}
template <class T, class W>
static BlockFunction<T> choose(unsigned numbers, bool grad) {
  return choose<T, W>(numbers, grad, std::make_index_sequence<kNumberSets.size()>());
}

// The loop of a job.
template <class T>
struct BlockLoop {
  unsigned numbers;          // the parameters that it has as numbers
  bool mask;                 // whether the weights are the bytes of a mask
  bool ones;                 // whether the weights, all 1, are to be given
  BlockFunction<T> vectors;  // of whole vectors
  BlockFunction<T> rest;     // of what is left, with weights

  BlockLoop(unsigned numbers_of_job, bool grad, bool by_element, bool of_mask)
      : numbers(best_set(numbers_of_job)),
        mask(by_element && of_mask && kReadsMask<T>),
        ones(!by_element && !kWeightless<T>) {
    vectors = rest = choose<T, T>(numbers, grad);
    if constexpr (kWeightless<T>)
      if (!by_element) vectors = choose<T, None>(numbers, grad);
    if constexpr (kReadsMask<T>)
      if (mask) vectors = choose<T, Mask>(numbers, grad);
  }

  T operator()(const T* x, const T* const* p, T* const* g, T* scalar_sums, const BlockWeights<T>& weights,
               int n) const {
    const int whole = in_vectors(n);
    if (whole == n) return vectors(x, p, g, scalar_sums, weights, n);
    const T value = whole ? vectors(x, p, g, scalar_sums, weights, whole) : T(0);
    T sums_of_rest[kMaxParameters];
    const T of_rest = run_rest(x, p, g, sums_of_rest, weights, whole, n - whole);
    for (int k = 1; k < N; ++k)
      if (numbers >> k & 1) scalar_sums[k] = (whole ? scalar_sums[k] : T(0)) + sums_of_rest[k];
    return value + of_rest;
  }

 private:
  // The n elements from `at` on. Those that fill them up to a vector have the weight 0.
  T run_rest(const T* x, const T* const* p, T* const* g, T* scalar_sums, const BlockWeights<T>& weights, int at,
             int n) const {
    alignas(64) T x_rest[kVector], w_rest[kVector] = {}, p_rest[N][kVector], g_rest[N][kVector] = {};
    const T* q[N];
    T* d[N];
    for (int k = 0; k < N; ++k) {
      q[k] = numbers >> k & 1 ? p[k] : fill_up(p[k] + at, n, p_rest[k]);
      d[k] = g_rest[k];
    }
    for (int i = 0; i < n; ++i)
      w_rest[i] = !weights.element ? T(1)
                  : mask           ? T(static_cast<const Mask*>(weights.element)[at + i])
                                   : static_cast<const T*>(weights.element)[at + i];
    const T value = rest(fill_up(x + at, n, x_rest), q, d, scalar_sums, {weights.row, w_rest}, kVector);
    for (int k = 0; k < N; ++k) copy(d[k], n, g[k] + at);
    return value;
  }
};

}  // namespace
}  // namespace vk::VK_ISA
