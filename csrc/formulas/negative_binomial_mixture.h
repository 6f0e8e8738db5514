// -log of a mixture of two negative binomials: vae_kernels/formulas/negative_binomial_mixture.py has the maths.
#pragma once
#include "formulas/zinb.h"

namespace vk {

struct negative_binomial_mixture {
  // background_log_mean, foreground_log_mean, log_inverse_dispersion, mixture_logits
  static constexpr int parameters = 4;
  static constexpr bool counts = true;

  template <class T>
  VK_FN PlusLog1p<T> nll(T x, const T (&p)[4], T (&grad)[4]) {
    return x == 0 ? at_zero(p, grad) : above_zero(x, p, grad);
  }

  template <class T>
  VK_FN PlusLog1p<T> at_zero(const T (&p)[4], T (&grad)[4]) {  // x = 0
    T by_a[2], by_b[2];
    const T a[2] = {p[0], p[2]}, b[2] = {p[1], p[2]};
    const auto powers = negative_binomial::powers(a);
    const T n = negative_binomial::at_zero(a, powers, by_a), m = negative_binomial::at_zero(b, by_b);
    const T gain = negative_binomial::gain(p[1] - p[0], by_a[0], negative_binomial::curve_at_zero(a, powers));
    return joined({n, by_a[0], by_a[1]}, {m, by_b[0], by_b[1]}, gain, p, grad);
  }

  template <class T>
  VK_FN PlusLog1p<T> above_zero(T x, const T (&p)[4], T (&grad)[4]) {  // x > 0
    const auto a = negative_binomial::deviance(x, p[0], p[2]), b = negative_binomial::deviance(x, p[1], p[2]);
    const T gain = negative_binomial::gain(p[1] - p[0], a.by_mean, a.curve);
    PlusLog1p<T> value = joined({a.value, a.by_mean, a.by_t}, {b.value, b.by_mean, b.by_t}, gain, p, grad);
    const auto common = negative_binomial::at_mean(x, p[2], a.s);
    grad[2] += common.by_t;
    value.value += common.value;
    return value;
  }

  // One of the two: -log p, or a part of it, and the derivatives.
  template <class T>
  struct Component {
    T value, by_mean, by_t;
  };
  // gain: b.value - a.value, where the means are close
  template <class T>
  VK_FN PlusLog1p<T> joined(const Component<T>& a, const Component<T>& b, T gain, const T (&p)[4], T (&grad)[4]) {
    const T apart = absolute(p[1] - p[0]) < 1 ? gain : b.value - a.value;
    const bool other = apart < 0;  // the foreground is more likely
    const auto mixed = zinb::mixed(absolute(apart), other ? -p[3] : p[3]);
    const T of_a = other ? mixed.second : mixed.first, of_b = other ? mixed.first : mixed.second;
    grad[0] = share_of(of_a, a.by_mean);
    grad[1] = share_of(of_b, b.by_mean);
    grad[2] = share_of(of_a, a.by_t) + share_of(of_b, b.by_t);
    grad[3] = other ? -mixed.by_d : mixed.by_d;
    return {(other ? b.value : a.value) + mixed.value.value, mixed.value.e};
  }
  // A component without a share has no gradient, even where its own is infinite.
  template <class T>
  VK_FN T share_of(T share, T x) {
    return share == 0 ? T(0) : share * x;
  }
};

}  // namespace vk
