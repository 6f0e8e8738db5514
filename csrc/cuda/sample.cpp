// z = mu + exp(logvar / 2) eps and the KL of q(z|x), forward and backward, on the GPU; and the gradient times the
// incoming one. backends/compiled/schemas.py has the schemas.
#include "ops.h"
#include "plan.h"

namespace vk::cuda {
namespace {

constexpr int64_t kElements = 4;  // of a thread, as many as a group of the noise has

template <class Job>
void set_noise(Job& job, const Tensor& mu, const Tensor& rng, int64_t n_samples) {
  job.rows = mu.size(0);
  job.cols = elements_after_batch(mu);
  job.draws = at_least_one(n_samples);
  job.rng = rng.data<int64_t>();
  job.shard = rng.numel() == 4;
  VK_CHECK(rng.contiguous(), "rng is not contiguous");
}

}  // namespace

Tensors sample(const Tensor& mu, const Tensor& logvar, const Tensors& prior, const Tensor& rng, int64_t n_samples,
               bool with_kl) {
  const bool float64 = computed_in_float64(mu, logvar, prior);
  VK_CHECK(dense_after_batch(mu) && dense_after_batch(logvar), "mu and logvar are not dense");
  SampleJob job{};
  set_noise(job, mu, rng, n_samples);
  const int64_t rows = job.rows, cols = job.cols;
  job.mu = source(mu);
  job.logvar = source(logvar);
  Tensors out;
  out.push_back(empty_samples(mu, n_samples));
  job.z = {out[0].mut<void>(), cols, dtype_of(mu)};
  job.blocks = divide_up(divide_up(rows * cols, kElements) * job.draws, kBlockThreads);

  KlJob kl{};
  FinishJob finish{};
  if (with_kl) {
    out.push_back(empty({rows}, torch_dtype(float64), mu));
    kl.tiling = column_tiling(rows, cols, 1, 1);
    kl.incoming = kl.weight = kl.beta = kOne;
    for (size_t k = 0; k < 2 + prior.size(); ++k) kl.p[k] = source(k == 0 ? mu : k == 1 ? logvar : prior[k - 2]);
    finish.kl_out = out[1].mut<void>();
    finish.rows = rows;
    finish.rec_weight = finish.beta = kOne;
  }
  const Workspace workspace(mu, [&](Workspace& w) {
    if (with_kl) finish.kl = row_sums(kl.kl = w.take(rows * kl.tiling.pieces), kl.tiling);
  });
  const int64_t blocks = kl.tiling.blocks() + job.blocks;
  launch_and_finish(finish, with_kl, float64, blocks, mu,
                    [&](void* stream) { return latent_kernel({kl, job, finish}, float64, blocks, stream); });
  return out;
}

Tensors sample_backward(const OptionalTensor& grad_z, const OptionalTensor& grad_kl, const Tensor& mu,
                        const Tensor& logvar, const Tensors& prior, const Tensor& rng, int64_t n_samples, int64_t need,
                        bool packed) {
  SampleBackwardJob job{};
  set_noise(job, mu, rng, n_samples);
  if (grad_z) job.grad_z = {grad_z->data<void>(), job.cols, dtype_of(*grad_z)};
  job.with_kl = bool(grad_kl);
  job.weight = grad_kl ? weight(*grad_kl) : kOne;
  Tensors grads;
  if (packed) grads.push_back(empty_packed(mu, job.grad[0], job.grad[1]));
  for (size_t k = 0; k < 2 + prior.size(); ++k) {
    const Tensor& input = k == 0 ? mu : k == 1 ? logvar : prior[k - 2];
    VK_CHECK(dense_after_batch(input), "latent ", k, " is not dense");
    job.p[k] = source(input);
    if ((need >> k & 1) && !job.grad[k].data) grads.push_back(empty_in_order(input, job.cols, job.grad[k]));
  }
  const int64_t blocks = divide_up(divide_up(job.rows * job.cols, kElements), kBlockThreads);
  const Stream stream(mu);
  if (blocks > 0) check(sample_backward_kernel(job, computed_in_float64(mu, logvar, prior), blocks, stream.get()));
  return grads;
}

void rescale_(const Tensors& tensors, const Tensor& factor) {
  for (const Tensor& t : tensors) {
    const int64_t n = t.numel(), blocks = divide_up(n, 16 * kBlockThreads);
    if (n == 0) continue;
    const Stream stream(t);
    check(rescale_kernel({t.mut<void>(), dtype_of(t), n, weight(factor)}, blocks < 2048 ? blocks : 2048, stream.get()));
  }
}

}  // namespace vk::cuda
