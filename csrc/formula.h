// What the loops and kernels know of a formula besides its function.
//
// There are kinds of formula. Each kind has one loop on the CPU and one kernel on the GPU, and a list in
// formulas/all.h.
//
// Element: one term for each element, nll(x, p, grad). The loop is cpu/kernels/likelihood.cpp, the kernel
// cuda/likelihood.h.
//
// Row: a sample is one term, the sum of the values of an element formula. The first parameter is a logit. One shift,
// the same for all elements of the row, makes a log-mean of each logit. An element formula with log_total has the same
// loop: cpu/kernels/row.cpp, around the loop of the element formula.
//
// Position: the K logits of a position become one term, nll(log-sum-exp of the logits, the logit that x names). The
// gradient of a logit is made of weight(logit, largest logit). The loop is cpu/kernels/position.cpp, the kernel
// cuda/position.h.
//
// Pixel: the C channels of a pixel are one term, of a mixture. A component has a logit and `parameters<C>` numbers, and
// nll(x, p, options, grad) is -log p of all channels under the component. The loop is cpu/kernels/pixel.cpp.
#pragma once
#include <type_traits>

#include "special.h"

namespace vk {

// value + log(1 + e), 0 <= e <= 1, with the logarithm still to be taken: in a sum of such values one logarithm does for
// many, as log(1 + a) + log(1 + b) = log(1 + (a + b + a b)), to full relative accuracy however small a and b are.
template <class T>
struct PlusLog1p {
  T value, e;
};
// up to 64 of them keep within 2^64
template <class T>
VK_FN T join_log1p(T a, T b) {
  return fma(a, b, a + b);
}
// log(1 + x), 0 <= x < 2^100, with its last logarithm still to be taken
template <class T>
VK_FN PlusLog1p<T> plus_log1p(T x) {
  const OnePlus<T> a = one_plus(x);
  return {a.k * T(0.6931471805599453), a.e};
}
// The two parts of a formula's result; one that has no logarithm to take has e = 0.
template <class T>
VK_FN PlusLog1p<T> parts(T value) {
  return {value, 0};
}
template <class T>
VK_FN PlusLog1p<T> parts(PlusLog1p<T> v) {
  return v;
}

// A formula that says `counts = true` takes x as a count, from integers as they are.
template <class F, class = void>
constexpr bool is_counts = false;
template <class F>
constexpr bool is_counts<F, std::void_t<decltype(F::counts)>> = F::counts;

// A formula of three parameters names sets of them, `numbers`, the best first: bit k of a set is parameter k. Each set
// is a loop on the CPU, to which these parameters come as one number, and which computes what depends on them alone
// once.

// A formula says `log_total = true` if its first parameter may be the logits of shares of a total.
template <class F, class = void>
constexpr bool takes_log_total = false;
template <class F>
constexpr bool takes_log_total<F, std::void_t<decltype(F::log_total)>> = F::log_total;

// A formula says `sum_alike = true` if the sum n of a row of elements has this formula too, and the row given n is
// multinomial.
template <class F, class = void>
constexpr bool is_sum_alike = false;
template <class F>
constexpr bool is_sum_alike<F, std::void_t<decltype(F::sum_alike)>> = F::sum_alike;

}  // namespace vk
