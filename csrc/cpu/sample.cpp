// z = mu + exp(logvar / 2) eps and the KL of q(z|x), forward and backward, on the CPU. backends/compiled/schemas.py has
// the schemas.
#include "ops.h"

#include "tensors.h"

namespace vk {
namespace {

NoiseOf noise_of(const Tensor& rng, int64_t n_samples, int64_t rows) {
  const int64_t* words = rng.data<int64_t>();
  const bool shard = rng.numel() == 4;
  return {uint64_t(words[0]), uint64_t(words[1]), n_samples ? n_samples : 1, shard ? words[2] : 0,
          shard ? words[3] : rows};
}

}  // namespace

Tensors sample(const Tensor& mu, const Tensor& logvar, const Tensors& prior, const Tensor& rng, int64_t n_samples,
               bool with_kl) {
  const int64_t rows = mu.size(0), cols = elements_after_batch(mu);
  const bool float64 = computed_in_float64(mu, logvar, prior);
  VK_CHECK(dense_after_batch(mu) && dense_after_batch(logvar), "mu and logvar are not dense");
  SampleJob job{};
  job.grid = latent_grid(rows, cols);
  job.noise = noise_of(rng, n_samples, rows);
  job.mu = source(mu);
  job.logvar = source(logvar);
  Tensors out;
  out.push_back(empty_samples(mu, n_samples));
  job.z = {out[0].mut<void>(), cols, dtype_of(mu)};
  run(kernels().latents[float64].sample, job);
  if (with_kl) {
    KlJob kl{};
    kl.grid = job.grid;
    for (size_t k = 0; k < 2 + prior.size(); ++k) kl.p[k] = source(k == 0 ? mu : k == 1 ? logvar : prior[k - 2]);
    std::vector<double> partial(rows * kl.grid.col_tasks());
    kl.kl = partial.data();
    run(kernels().latents[float64].kl, kl);
    out.push_back(tensor(add_up(partial, rows, kl.grid.col_tasks()), &rows, 1, float64, mu));
  }
  return out;
}

Tensors sample_backward(const OptionalTensor& grad_z, const OptionalTensor& grad_kl, const Tensor& mu,
                        const Tensor& logvar, const Tensors& prior, const Tensor& rng, int64_t n_samples, int64_t need,
                        bool packed) {
  const int64_t rows = mu.size(0), cols = elements_after_batch(mu);
  SampleBackwardJob job{};
  job.grid = latent_grid(rows, cols);
  job.noise = noise_of(rng, n_samples, rows);
  if (grad_z) job.grad_z = {grad_z->data<void>(), cols, dtype_of(*grad_z)};
  std::vector<double> weights;
  if (grad_kl) {
    weights = doubles(*grad_kl);
    job.weight = {weights.data(), 1, 1};
  }
  Tensors grads;
  if (packed) grads.push_back(empty_packed(mu, job.grad[0], job.grad[1]));
  for (size_t k = 0; k < 2 + prior.size(); ++k) {
    const Tensor& input = k == 0 ? mu : k == 1 ? logvar : prior[k - 2];
    VK_CHECK(dense_after_batch(input), "latent ", k, " is not dense");
    job.p[k] = source(input);
    if ((need >> k & 1) && !job.grad[k].data) grads.push_back(empty_in_order(input, cols, job.grad[k]));
  }
  run(kernels().latents[computed_in_float64(mu, logvar, prior)].sample_backward, job);
  return grads;
}

}  // namespace vk
