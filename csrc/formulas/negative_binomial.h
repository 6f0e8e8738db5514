// -log NB(x; mean exp(log_mean), inverse dispersion s): vae_kernels/formulas/negative_binomial.py has the maths.
#pragma once
#include "counts.h"

namespace vk {

// Logarithms that are far out, in nats, of counts above 0. Where log_mean and log_inverse_dispersion are both below
// `low`, only their difference counts, beside -log_inverse_dispersion: both are raised to `low`. Where both are above
// `high`, value and gradients are proportional to their exponentials, beside which x is nothing: both are lowered to
// `high`, and the results are scaled. So one of the two is neither very large nor very small. Where the other one is
// beyond its bounds, the value is linear in log_mean, and of the inverse dispersion only its logarithm is left.
template <class T>
struct FarOut {
  static constexpr int k = sizeof(T) == 4 ? 1 : 4;
  T low = -40 * k, high = 42 * k, least_mean = -60 * k, least_s = -80 * k, largest = 62 * k, zero = 0, one = 1;
};
#ifdef __CUDACC__
template <class T>
VK_FN FarOut<T> far_out() {
  return {};
}
#else
template <class T>
struct OpaqueFarOut {
  [[gnu::weak]] static const FarOut<T> numbers;  // GCC may not know the numbers: VK_BOUNDS of scalar.h says why
};
template <>
constinit const FarOut<float> OpaqueFarOut<float>::numbers{};
template <>
constinit const FarOut<double> OpaqueFarOut<double>::numbers{};
template <class T>
VK_FN const FarOut<T>& far_out() {
  return OpaqueFarOut<T>::numbers;
}
#endif

struct negative_binomial {
  static constexpr int parameters = 2;  // log_mean, log_inverse_dispersion
  static constexpr bool counts = true, log_total = true;

  template <class T>
  VK_FN T nll(T x, const T (&p)[2], T (&grad)[2]) {
    return x == 0 ? at_zero(p, grad) : above_zero(x, p, grad);
  }

  template <class T>
  VK_FN T at_zero(const T (&p)[2], T (&grad)[2]) {  // x = 0
    return at_zero(p, powers(p), grad);
  }

  // in two steps: this is the first
  template <class T>
  struct Powers {
    T ratio, smaller;  // the smaller of mean and s over the larger, and itself
  };
  template <class T>
  VK_FN Powers<T> powers(const T (&p)[2]) {
    const T excess = p[0] - p[1], moved = excess - p[0];
    const T lost = (p[0] - (excess - moved)) - (p[1] + moved);  // what rounding took from it (Knuth)
    const bool over = excess > 0;
    const T e = exp_nonpositive(minus_absolute(excess));
    return {fma(e, over ? -lost : lost, e), exp(over ? p[1] : p[0])};
  }
  template <class T>
  VK_FN T at_zero(const T (&p)[2], const Powers<T>& q, T (&grad)[2]) {
    const T excess = p[0] - p[1], e = q.ratio, r = 1 / (1 + e);
    const bool over = excess > 0;
    const T tail = Real<T>::log1p_tail(e), per_e = fma(tail, e, T(1));  // log(1 + e) / e
    const T softplus = fma(e, per_e, excess);
    grad[0] = q.smaller * r;
    grad[1] = q.smaller * (over ? softplus - r : e * (tail + r));
    return q.smaller * (over ? softplus : per_e);
  }

  template <class T>
  VK_FN T above_zero(T x, const T (&p)[2], T (&grad)[2]) {  // x > 0
    const Deviance<T> d = deviance(x, p[0], p[1]);
    const AtMean<T> rest = at_mean(x, p[1], d.s);
    grad[0] = d.by_mean;
    grad[1] = d.by_t + rest.by_t;
    return d.value + rest.value;
  }

  // How -log p goes on from here: the smaller share of mean and s in their sum, -1 where the mean is the larger one and
  // else 1, and x + s.
  template <class T>
  struct Curve {
    T share, way, total;
  };
  template <class T>
  VK_FN Curve<T> curve_at_zero(const T (&p)[2], const Powers<T>& q) {
    const bool over = p[0] - p[1] > 0;
    const T total = over ? q.smaller : q.smaller / q.ratio;
    return {q.ratio / (1 + q.ratio), over ? T(-1) : T(1), at_most(total, Real<T>::kLargest)};
  }
  // What -log p gains where log_mean grows by `step`, |step| < 1: a sum of terms as small as the gain
  template <class T>
  VK_FN T gain(T step, T by_mean, const Curve<T>& c) {
    const Expm1<T> e = expm1_pair(c.way * step);
    const T z = c.share * e.value;
    return fma(step, by_mean, c.total * fma(c.share, e.minus_x, -log1p_rest(z, 1 + z)));
  }

  // the part of above_zero that knows the mean, and s within its bounds
  template <class T>
  struct Deviance {
    T value, by_mean, by_t, s;
    Curve<T> curve;
  };
  template <class T>
  VK_FN Deviance<T> deviance(T x, T log_mean, T t) {
    const auto& far = far_out<T>();
    const T lower = at_most(log_mean, t), higher = at_least(log_mean, t);
    const T lowered = at_least(lower - far.high, far.zero), shift = at_least(far.low - higher, far.zero) - lowered;
    const T scale = exp_reduced(reduce_ln2(at_most(lowered, Real<T>::kHigh))), a_shifted = log_mean + shift;
    const T a = at_most(at_least(a_shifted, far.least_mean), far.largest), rest = a_shifted - a;
    const T t_shifted = t + shift, b = at_most(at_least(t_shifted, far.least_s), far.largest);
    const T mean = exp_reduced(reduce_ln2(a)), s = exp_reduced(reduce_ln2(b));
    const T inverse_total = 1 / (s + mean), inverse_x = 1 / x;
    const T slope = (mean - x) * (s * inverse_total), ratio = (x + s) * inverse_total;
    const T of_s = s * log1p_rest((x - mean) * inverse_total, ratio);
    const T of_both = fma(x, log1p_rest(slope * inverse_x, ratio * (mean * inverse_x)), of_s);
    // beyond by far: the gradient is nothing beside the other one
    const T by_t = (t_shifted > b ? T(0) : scale) * fma(slope, at_least(rest, far.zero), of_s);
    const bool over = mean > s;
    const T total = at_most(scale * (x + s), Real<T>::kLargest);
    const Curve<T> curve{(over ? s : mean) * inverse_total, over ? T(-1) : T(1), total};
    return {scale * fma(slope, rest, of_both), scale * slope, by_t, s, curve};
  }

  // the part that does not: the value at a mean of x, and its derivative by t
  template <class T>
  struct AtMean {
    T value, by_t;
  };
  template <class T>
  VK_FN AtMean<T> at_mean(T x, T t, T s) {
    const auto& far = far_out<T>();
    const T inverse_x = 1 / x, n = x + s, inverse_n = 1 / n;
    // Stirling's formula for s, from 1 + s where s < 1
    const bool small = s < 1;
    const T inverse = 1 / (small ? s + 1 : s), step = log1p_unit(at_most(s, T(1))) - t;  // log((1 + s) / s)
    const Stirling<T> at_s = stirling(inverse), at_n = stirling(at_most(inverse_n, far.one));
    const T error = at_s.error + (small ? fma(s + T(0.5), step, T(-1)) : T(0));
    const T by_t = small ? fma(s, step, -(s + T(0.5) + at_s.slope * s) * inverse) : -at_s.slope;
    const T root = log(x * (small ? n : fma(x, inverse, T(1)))) - (small ? t : T(0));  // log(x n / s)
    const T errors = stirling(at_most(inverse_x, far.one)).error + error - at_n.error;
    return {errors + fma(T(0.5), root, T(0.9189385332046727)),  // 1/2 log 2 pi
            fma(fma(at_n.slope, s, T(-0.5) * x), inverse_n, by_t)};
  }
};

}  // namespace vk
