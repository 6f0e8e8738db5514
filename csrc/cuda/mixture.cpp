// log p(z) of a mixture of diagonal Gaussians and its gradients, on the GPU. backends/compiled/schemas.py has the
// schemas.
#include "ops.h"
#include "plan.h"

namespace vk::cuda {
namespace {

// Blocks that share the others of one tile of owners: as many as give all of a GPU work. A function of the shapes
// alone.
int64_t splits_of(int64_t owners, int64_t others) {
  const int64_t most = others < 512 ? others : 512, wanted = 512 / at_least_one(owners);
  return wanted < 1 ? (most < 1 ? most : 1) : wanted < most ? wanted : most;
}

struct Mixture {
  bool float64;
  int64_t tile;
  MixtureJob job{};

  Mixture(const Tensor& z, const Tensor& loc, const Tensor& logvar, const Tensor& log_weight)
      : float64(dtype_of(z) == DType::float64), tile(kSide * 16 / bytes_of(dtype_of(z))) {
    check_mixture({&z, &loc, &logvar, &log_weight});
    job.samples = z.size(0);
    job.components = loc.size(0);
    job.dims = loc.size(1);
    job.wide_samples = divide_up(job.samples, tile) * tile;
    job.wide_components = divide_up(job.components, tile) * tile;
    job.z = z.data<void>();
    job.loc = loc.data<void>();
    job.logvar = logvar.data<void>();
    job.log_weight = log_weight.data<void>();
    job.along = int32_t(power_of_two(divide_up(job.dims, 8), kBlockThreads));
    job.constant_blocks = divide_up(job.wide_components, kBlockThreads / job.along);
  }
  int64_t sample_tiles() const { return job.wide_samples / tile; }
  int64_t component_tiles() const { return job.wide_components / tile; }

  // n elements of the compute type, at a multiple of 16 bytes
  void* take(Workspace& w, int64_t n) const { return w.take(float64 ? divide_up(n, 2) * 2 : divide_up(n, 4) * 2); }
  void take_packed(Workspace& w) {
    job.points = take(w, (job.dims + 1) * job.wide_samples);
    job.pairs = take(w, 2 * (job.dims + 1) * job.wide_components);
    job.constants = take(w, job.wide_components);
  }
  void pack(const Stream& stream) const {
    const int64_t n = (job.dims + 1) * (job.wide_samples + job.wide_components);
    check(mixture_pack_kernel(job, float64, job.constant_blocks + divide_up(n, kBlockThreads), stream.get()));
  }
};

// The gradients that are needed; the log-sum-exps are known.
Tensors gradients(Mixture& m, const Tensor* const (&inputs)[4], int64_t need) {
  MixtureJob& job = m.job;
  const int64_t sample_tiles = m.sample_tiles(), component_tiles = m.component_tiles();
  if (need & 1) job.of_samples.splits = splits_of(sample_tiles, component_tiles);
  if (need & ~1) job.of_components.splits = splits_of(component_tiles, sample_tiles);
  Tensors grads;
  for (int i = 0; i < 4; ++i) {
    if (!(need >> i & 1)) continue;
    grads.push_back(empty_like(*inputs[i]));
    job.grads[i] = grads.back().mut<void>();
  }
  const Workspace workspace(*inputs[0], [&](Workspace& w) {
    m.take_packed(w);
    job.of_samples.first = m.take(w, job.of_samples.splits * job.dims * job.wide_samples);
    const int64_t n = job.of_components.splits * (job.dims + 1) * job.wide_components;
    job.of_components.first = m.take(w, n);
    job.of_components.second = m.take(w, n);
  });
  const Stream stream(*inputs[0]);
  m.pack(stream);
  const int64_t blocks = sample_tiles * job.of_samples.splits + component_tiles * job.of_components.splits;
  if (blocks > 0) check(mixture_backward_kernel(job, m.float64, blocks, stream.get()));
  const int64_t n = (need & 1 ? job.samples : 0) + (need & ~1 ? job.components : 0);
  if (n > 0) check(mixture_finish_kernel(job, m.float64, divide_up(n * job.dims, kBlockThreads), stream.get()));
  return grads;
}

}  // namespace

Tensors mixture(const Tensor& z, const Tensor& loc, const Tensor& logvar, const Tensor& log_weight, int64_t need) {
  Mixture m(z, loc, logvar, log_weight);
  MixtureJob& job = m.job;
  Tensors out;
  out.push_back(empty({job.samples}, z.dtype(), z));
  for (int i = 0; i < 2; ++i) out.push_back(empty({job.samples}, torch_dtype(true), z));
  job.log_p = out[0].mut<void>();
  job.peak = out[1].mut<double>();
  job.log_sum = out[2].mut<double>();
  job.splits = splits_of(m.sample_tiles(), m.component_tiles());
  const Workspace workspace(z, [&](Workspace& w) {
    m.take_packed(w);
    job.top = m.take(w, job.splits > 1 ? job.splits * job.samples : 0);
    job.total = m.take(w, job.splits > 1 ? job.splits * job.samples : 0);
  });
  if (job.samples > 0) {
    const Stream stream(z);
    m.pack(stream);
    check(mixture_forward_kernel(job, m.float64, m.sample_tiles() * job.splits, stream.get()));
    if (job.splits > 1) check(mixture_join_kernel(job, m.float64, divide_up(job.samples, kBlockThreads), stream.get()));
  }
  job.incoming = kOne;
  if (need)
    for (Tensor& g : gradients(m, {&z, &loc, &logvar, &log_weight}, need)) out.push_back(std::move(g));
  return out;
}

Tensors mixture_backward(const Tensor& grad, const Tensor& z, const Tensor& loc, const Tensor& logvar,
                         const Tensor& log_weight, const Tensor& peak, const Tensor& log_sum, int64_t need) {
  Mixture m(z, loc, logvar, log_weight);
  m.job.incoming = weight(grad);
  m.job.peak = peak.mut<double>();
  m.job.log_sum = log_sum.mut<double>();
  return gradients(m, {&z, &loc, &logvar, &log_weight}, need);
}

}  // namespace vk::cuda
