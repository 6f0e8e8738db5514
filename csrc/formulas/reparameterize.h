// z = mu + exp(logvar / 2) eps: vae_kernels/formulas/reparameterize.py has the maths.
#pragma once
#include "special.h"

namespace vk {

struct reparameterize {
  // grad holds d z / d logvar; d z / d mu is 1
  template <class T>
  VK_FN T value(T mu, T logvar, T eps, T& grad) {
    T noise = exp(T(0.5) * logvar) * eps;
    grad = T(0.5) * noise;
    return mu + noise;
  }
};

}  // namespace vk
