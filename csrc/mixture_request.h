// The requests of mixtures: their tensors are contiguous and of one dtype. backends/compiled/schemas.py says what each
// field is.
#pragma once
#include "layout.h"

namespace vk {

// ---------------------------------------------------------------- a mixture

// log p(z) under a mixture of diagonal Gaussians: z [N, D], loc and logvar [K, D], log_weight [K].
struct MixtureRequest {
  const Tensor* inputs[4];  // z, loc, logvar, log_weight
  int64_t samples, components, dims;
  bool float64;  // how the inputs are stored

  MixtureRequest(const Tensor& z, const Tensor& loc, const Tensor& logvar, const Tensor& log_weight)
      : inputs{&z, &loc, &logvar, &log_weight},
        samples(z.size(0)),
        components(loc.size(0)),
        dims(loc.size(1)),
        float64(is_float64(z)) {
    for (const Tensor* t : inputs)
      VK_CHECK(t->contiguous() && t->dtype() == z.dtype(),
               "the tensors of a mixture are not contiguous, or not of one dtype");
  }
  // log p [N]; and in float64 the two numbers [N] whose sum log p is: peak and log_sum
  Tensors empty_results() const {
    const Tensor& z = *inputs[0];
    Tensors out;
    out.push_back(empty({samples}, z.dtype(), z));
    for (int i = 0; i < 2; ++i) out.push_back(empty({samples}, torch_dtype(true), z));
    return out;
  }
};

// ---------------------------------------------------------------- the decomposition of a KL

// The parts of the KL of a batch: z, mu, logvar [B, L], and the log weights of the posteriors in the aggregate
// posterior.
struct DecompositionRequest {
  const Tensor* inputs[3];    // z, mu, logvar
  double log_own, log_other;  // of the sample's own posterior, and of every other posterior
  int64_t batch, dims;
  bool float64;  // how the inputs are stored

  DecompositionRequest(const Tensor& z, const Tensor& mu, const Tensor& logvar, double log_own, double log_other)
      : inputs{&z, &mu, &logvar},
        log_own(log_own),
        log_other(log_other),
        batch(z.size(0)),
        dims(z.size(1)),
        float64(is_float64(z)) {
    for (const Tensor* t : inputs)
      VK_CHECK(t->contiguous() && t->dtype() == z.dtype(), "z, mu and logvar are not contiguous, or not of one dtype");
  }
};

}  // namespace vk
