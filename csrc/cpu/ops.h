// The ops on the CPU, as ops.cpp registers them; backends/compiled/schemas.py has their schemas.
#pragma once
#include "arguments.h"

namespace vk {

Tensors elbo(const OptionalTensor& x, const Tensors& params, const std::string& likelihood, const Tensors& latent,
             const OptionalTensor& rec_weight, const OptionalTensor& beta, double rec_weight_factor, double beta_factor,
             int64_t reduction, int64_t need, bool terms);
Tensors elbo_backward(const Tensor& grad, const OptionalTensor& x, const Tensors& params, const std::string& likelihood,
                      const Tensors& latent, const OptionalTensor& rec_weight, const OptionalTensor& beta,
                      double rec_weight_factor, double beta_factor, int64_t reduction, int64_t need);
Tensors sample(const Tensor& mu, const Tensor& logvar, const Tensors& prior, const Tensor& rng, int64_t n_samples,
               bool with_kl);
Tensors sample_backward(const OptionalTensor& grad_z, const OptionalTensor& grad_kl, const Tensor& mu,
                        const Tensor& logvar, const Tensors& prior, const Tensor& rng, int64_t n_samples, int64_t need,
                        bool packed);
Tensors mixture(const Tensor& z, const Tensor& loc, const Tensor& logvar, const Tensor& log_weight, int64_t need);
Tensors mixture_backward(const Tensor& grad, const Tensor& z, const Tensor& loc, const Tensor& logvar,
                         const Tensor& log_weight, const Tensor& peak, const Tensor& log_sum, int64_t need);
Tensors levels(const Tensor& x, const Tensor& logits);
Tensor levels_backward(const Tensor& grad, const Tensor& x, const Tensor& logits, const Tensor& top_and_total);

}  // namespace vk
