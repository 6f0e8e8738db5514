// log p(z) of a mixture of diagonal Gaussians and its gradients, on the GPU.
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
  const MixtureRequest& request;
  bool float64;
  int64_t tile;
  MixtureJob job{};

  explicit Mixture(const MixtureRequest& r) : request(r), float64(r.float64), tile(kSide * 16 / (float64 ? 8 : 4)) {
    job.samples = r.samples;
    job.components = r.components;
    job.dims = r.dims;
    job.wide_samples = divide_up(job.samples, tile) * tile;
    job.wide_components = divide_up(job.components, tile) * tile;
    const void** places[] = {&job.z, &job.loc, &job.logvar, &job.log_weight};
    for (int i = 0; i < 4; ++i) *places[i] = r.inputs[i]->data<void>();
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
Tensors gradients(Mixture& m, Need need) {
  MixtureJob& job = m.job;
  const Tensor* const(&inputs)[4] = m.request.inputs;
  const bool of_samples = need[0], of_components = need[1] || need[2] || need[3];
  const int64_t sample_tiles = m.sample_tiles(), component_tiles = m.component_tiles();
  if (of_samples) job.of_samples.splits = splits_of(sample_tiles, component_tiles);
  if (of_components) job.of_components.splits = splits_of(component_tiles, sample_tiles);
  Tensors grads;
  for (int i = 0; i < 4; ++i) {
    if (!need[i]) continue;
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
  const int64_t n = (of_samples ? job.samples : 0) + (of_components ? job.components : 0);
  if (n > 0) check(mixture_finish_kernel(job, m.float64, divide_up(n * job.dims, kBlockThreads), stream.get()));
  return grads;
}

}  // namespace

Tensors mixture(const MixtureRequest& r, Need need) {
  Mixture m(r);
  MixtureJob& job = m.job;
  const Tensor& z = *r.inputs[0];
  Tensors out = r.empty_results();
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
  if (need.bits)
    for (Tensor& g : gradients(m, need)) out.push_back(std::move(g));
  return out;
}

Tensors mixture_backward(const Tensor& grad, const MixtureRequest& r, const Tensor& peak, const Tensor& log_sum,
                         Need need) {
  Mixture m(r);
  m.job.incoming = weight(grad);
  m.job.peak = peak.mut<double>();
  m.job.log_sum = log_sum.mut<double>();
  return gradients(m, need);
}

}  // namespace vk::cuda
