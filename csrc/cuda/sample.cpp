// z = mu + exp(logvar / 2) eps and the KL of q(z|x), forward and backward, on the GPU; and the gradient times the
// incoming one.
#include "ops.h"
#include "plan.h"

namespace vk::cuda {
namespace {

constexpr int64_t kElements = 4;  // of a thread, as many as a group of the noise has

template <class Job>
void set_noise(Job& job, const Draw& draw) {
  job.rows = draw.rows;
  job.cols = draw.cols;
  job.draws = draw.draws;
  job.rng = draw.words();
  job.shard = draw.shard;
}

}  // namespace

Tensors sample(const Draw& draw, bool with_kl) {
  SampleJob job{};
  set_noise(job, draw);
  const int64_t rows = job.rows, cols = job.cols;
  job.mu = draw.source_of(0);
  job.logvar = draw.source_of(1);
  Tensors out;
  out.push_back(empty_samples(draw.mu, draw.n_samples));
  job.z = sink(out[0], cols);
  job.blocks = divide_up(divide_up(rows * cols, kElements) * job.draws, kBlockThreads);

  KlJob kl{};
  FinishJob finish{};
  if (with_kl) {
    out.push_back(empty({rows}, torch_dtype(draw.float64), draw.mu));
    kl.tiling = column_tiling(rows, cols, 1, 1);
    kl.weights = element_weights(draw.latent_weight, draw.mu);
    kl.incoming = {kOne, false, 0};
    kl.weight = kl.beta = kOne;
    for (size_t k = 0; k < draw.inputs(); ++k) kl.p[k] = draw.source_of(k);
    finish.rows = rows;
    finish.rec_weight = finish.beta = kOne;
  }
  const Workspace workspace(draw.mu, [&](Workspace& w) {
    if (with_kl) finish.kl = row_sums(kl.kl = w.take(rows * kl.tiling.pieces), kl.tiling, out[1].mut<void>());
  });
  const int64_t blocks = kl.tiling.blocks() + job.blocks;
  launch_and_finish(finish, with_kl, draw.float64, blocks, draw.mu,
                    [&](void* stream) { return latent_kernel({kl, job, finish}, draw.float64, blocks, stream); });
  return out;
}

Tensors sample_backward(const OptionalTensor& grad_z, const OptionalTensor& grad_kl, const Draw& draw, Need need,
                        bool packed) {
  SampleBackwardJob job{};
  set_noise(job, draw);
  if (grad_z) job.grad_z = {grad_z->data<void>(), job.cols, dtype_of(*grad_z)};
  job.with_kl = bool(grad_kl);
  job.weights = element_weights(draw.latent_weight, draw.mu);
  job.weight = grad_kl ? weight(*grad_kl) : kOne;
  for (size_t k = 0; k < draw.inputs(); ++k) job.p[k] = draw.source_of(k);
  Tensors grads = draw.gradients(need, packed, allocate, job.grad);
  const int64_t blocks = divide_up(divide_up(job.rows * job.cols, kElements), kBlockThreads);
  const Stream stream(draw.mu);
  if (blocks > 0) check(sample_backward_kernel(job, draw.float64, blocks, stream.get()));
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
