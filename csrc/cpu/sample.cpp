// z = mu + exp(logvar / 2) eps and the KL of q(z|x), forward and backward, on the CPU.
#include "ops.h"
#include "tensors.h"

namespace vk {
namespace {

NoiseOf noise_of(const Draw& draw) {
  const int64_t* words = draw.words();
  return {uint64_t(words[0]), uint64_t(words[1]), draw.draws, draw.shard ? words[2] : 0,
          draw.shard ? words[3] : draw.rows};
}

}  // namespace

Tensors sample(const Draw& draw, bool with_kl) {
  SampleJob job{};
  job.grid = latent_grid(draw.rows, draw.cols);
  job.noise = noise_of(draw);
  job.mu = draw.source_of(0);
  job.logvar = draw.source_of(1);
  Tensors out;
  out.push_back(empty_samples(draw.mu, draw.n_samples));
  job.z = sink(out[0], draw.cols);
  const LatentLoops& loops = kernels().latents[draw.float64];
  KlJob kl{};
  std::vector<double> partial;
  if (with_kl) {
    kl.grid = job.grid;
    for (size_t k = 0; k < draw.inputs(); ++k) kl.p[k] = draw.source_of(k);
    kl.element_weights = element_weights(draw.latent_weight, draw.mu);
    partial.resize(draw.rows * kl.grid.col_tasks());
    kl.kl = partial.data();
  }
  run(loops.sample, job, loops.kl, kl);
  if (with_kl)
    out.push_back(tensor(add_up(std::move(partial), draw.rows, kl.grid.col_tasks()), 1, draw.float64, draw.mu));
  return out;
}

Tensors sample_backward(const OptionalTensor& grad_z, const OptionalTensor& grad_kl, const Draw& draw, Need need,
                        bool packed) {
  SampleBackwardJob job{};
  job.grid = latent_grid(draw.rows, draw.cols);
  job.noise = noise_of(draw);
  if (grad_z) job.grad_z = {grad_z->data<void>(), draw.cols, dtype_of(*grad_z)};
  std::vector<double> weights;
  if (grad_kl) {
    weights = doubles(*grad_kl);
    job.weight = {weights.data(), 1, 1};
    job.element_weights = element_weights(draw.latent_weight, draw.mu);
  }
  for (size_t k = 0; k < draw.inputs(); ++k) job.p[k] = draw.source_of(k);
  Tensors grads = draw.gradients(need, packed, empty_pooled, job.grad);
  run(kernels().latents[draw.float64].sample_backward, job);
  return grads;
}

}  // namespace vk
