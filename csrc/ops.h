// The ops as backends/compiled/schemas.py defines them. A schema has flat arguments: here they become a request. F is
// the same op of a device, which takes the request (cpu/ops.h, cuda/ops.h).
#pragma once
#include "pixel_request.h"
#include "request.h"
#include "segments_request.h"
#include "torch_library.h"

namespace vk {

template <auto F>
Tensors elbo_op(const OptionalTensor& x, const Tensors& params, const std::string& likelihood, const Tensors& latent,
                const OptionalTensor& rec_weight, const OptionalTensor& beta, const OptionalTensor& weight,
                const OptionalTensor& latent_weight, const OptionalTensor& nats, const OptionalTensor& log_total,
                double rec_weight_factor, double beta_factor, double nats_factor, int64_t floor, int64_t reduction,
                int64_t need, bool terms, double expected) {
  return F({x, params, likelihood, latent, rec_weight, beta, weight, latent_weight, nats, log_total, rec_weight_factor,
            beta_factor, nats_factor, KlFloor(floor), Reduction(reduction), Need{need}},
           terms, expected);
}

template <auto F>
Tensors elbo_backward_op(const Tensor& grad, const OptionalTensor& x, const Tensors& params,
                         const std::string& likelihood, const Tensors& latent, const OptionalTensor& rec_weight,
                         const OptionalTensor& beta, const OptionalTensor& weight, const OptionalTensor& latent_weight,
                         const OptionalTensor& nats, const OptionalTensor& log_total, double rec_weight_factor,
                         double beta_factor, double nats_factor, int64_t floor, int64_t reduction, int64_t need) {
  return F(grad, {x, params, likelihood, latent, rec_weight, beta, weight, latent_weight, nats, log_total,
                  rec_weight_factor, beta_factor, nats_factor, KlFloor(floor), Reduction(reduction), Need{need}});
}

template <auto F>
Tensor log_prob_op(const std::string& likelihood, Tensor x, const Tensors& params) {
  const OptionalTensor target = std::move(x), none;
  const Tensors no_latent;
  return F({target, params, likelihood, no_latent, none, none, none, none, none, none, 1, 1, 1, KlFloor::none,
            Reduction::sum, Need{}});
}

template <auto F>
void correct_op(Tensors grads, const Tensor& grad, double expected, const OptionalTensor& x, const Tensors& params,
                const std::string& likelihood, const Tensors& latent, const OptionalTensor& rec_weight,
                const OptionalTensor& beta, const OptionalTensor& weight, const OptionalTensor& latent_weight,
                const OptionalTensor& nats, const OptionalTensor& log_total, double rec_weight_factor,
                double beta_factor, double nats_factor, int64_t floor, int64_t reduction, int64_t need) {
  F(std::move(grads), grad, expected,
    {x, params, likelihood, latent, rec_weight, beta, weight, latent_weight, nats, log_total, rec_weight_factor,
     beta_factor, nats_factor, KlFloor(floor), Reduction(reduction), Need{need}});
}

template <auto F>
Tensors sample_op(const Tensor& mu, const Tensor& logvar, const Tensors& prior, const OptionalTensor& latent_weight,
                  const Tensor& rng, int64_t n_samples, bool with_kl) {
  return F({mu, logvar, prior, latent_weight, rng, n_samples}, with_kl);
}

template <auto F>
Tensors sample_backward_op(const OptionalTensor& grad_z, const OptionalTensor& grad_kl, const Tensor& mu,
                           const Tensor& logvar, const Tensors& prior, const OptionalTensor& latent_weight,
                           const Tensor& rng, int64_t n_samples, int64_t need, bool packed) {
  return F(grad_z, grad_kl, {mu, logvar, prior, latent_weight, rng, n_samples}, Need{need}, packed);
}

template <auto F>
Tensors position_op(const std::string& likelihood, const Tensor& x, const Tensor& logits,
                    const OptionalTensor& weight) {
  return F({likelihood.c_str(), x, logits, weight});
}

template <auto F>
Tensor position_backward_op(const Tensor& grad, const std::string& likelihood, const Tensor& x, const Tensor& logits,
                            const OptionalTensor& weight, const Tensor& top_and_total) {
  return F(grad, {likelihood.c_str(), x, logits, weight}, top_and_total);
}

template <auto F>
Tensors pixel_op(const std::string& likelihood, const Tensor& x, const Tensor& packed, const OptionalTensor& weight,
                 const std::vector<double>& options, bool ahead, double expected) {
  return F({likelihood.c_str(), x, packed, weight, options}, ahead, expected);
}

template <auto F>
Tensor pixel_backward_op(const Tensor& grad, const std::string& likelihood, const Tensor& x, const Tensor& packed,
                         const OptionalTensor& weight, const std::vector<double>& options) {
  return F(grad, {likelihood.c_str(), x, packed, weight, options});
}

template <auto F>
void pixel_correct_op(Tensor out, const Tensor& grad, double expected, const std::string& likelihood, const Tensor& x,
                      const Tensor& packed, const OptionalTensor& weight, const std::vector<double>& options) {
  F(out, grad, expected, {likelihood.c_str(), x, packed, weight, options});
}

template <auto F>
Tensor pixel_log_prob_op(const std::string& likelihood, const Tensor& x, const Tensor& packed,
                         const std::vector<double>& options) {
  const OptionalTensor none;
  return F({likelihood.c_str(), x, packed, none, options});
}

template <auto F>
Tensors segments_op(const Tensor& x, const Tensor& packed, const Tensor& logscale, const OptionalTensor& weight,
                    const Tensor& table, int64_t need, double expected) {
  return F({x, packed, logscale, table, weight}, Need{need}, expected);
}

template <auto F>
Tensors segments_backward_op(const Tensor& grad, const Tensor& x, const Tensor& packed, const Tensor& logscale,
                             const OptionalTensor& weight, const Tensor& table, int64_t need) {
  return F(grad, {x, packed, logscale, table, weight}, Need{need});
}

template <auto F>
Tensors mixture_op(const Tensor& z, const Tensor& loc, const Tensor& logvar, const Tensor& log_weight, int64_t need) {
  return F({z, loc, logvar, log_weight}, Need{need});
}

template <auto F>
Tensors mixture_backward_op(const Tensor& grad, const Tensor& z, const Tensor& loc, const Tensor& logvar,
                            const Tensor& log_weight, const Tensor& peak, const Tensor& log_sum, int64_t need) {
  return F(grad, {z, loc, logvar, log_weight}, peak, log_sum, Need{need});
}

template <auto F>
Tensors decomposition_op(const Tensor& z, const Tensor& mu, const Tensor& logvar, double log_own, double log_other) {
  return F({z, mu, logvar, log_own, log_other});
}

template <auto F>
Tensors decomposition_backward_op(const Tensor& information, const Tensor& correlation, const Tensor& each,
                                  const Tensor& z, const Tensor& mu, const Tensor& logvar, double log_own,
                                  double log_other, const Tensor& kept) {
  return F(information, correlation, each, {z, mu, logvar, log_own, log_other}, kept);
}

}  // namespace vk
