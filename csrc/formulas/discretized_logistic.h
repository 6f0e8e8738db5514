// -log of the discretized logistic's mass: vae_kernels/formulas/discretized_logistic.py has the maths.
#pragma once
#include "logistic_bin.h"

namespace vk {

struct discretized_logistic {
  static constexpr int parameters = 3;  // loc, logscale, and the number of levels: less than 2 stands for 256
  static constexpr unsigned numbers[] = {0b110, 0b100, 0};  // formula.h: most often all have one number of levels

  template <class T>
  VK_FN T nll(T x, const T (&p)[3], T (&grad)[3]) {
    const T steps = p[2] >= 2 ? p[2] - 1 : T(255), half = T(0.5) / steps;
    const bool open = absolute(x - T(0.5)) > T(0.5) - half;
    const T side = x < T(0.5) ? T(1) : T(-1);
    const LogisticBin<T> bin = logistic_bin(x - p[0], p[1], {half, log(steps)}, open, side);
    grad[0] = bin.by_loc;
    grad[1] = bin.by_logscale;
    grad[2] = 0;
    return bin.linear + log1p(bin.logs);
  }
};

}  // namespace vk
