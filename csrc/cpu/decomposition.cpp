// The parts of the KL of a data set and their gradients, on the CPU.
#include "decomposition.h"

#include "gaussians.h"
#include "ops.h"

namespace vk {
namespace {

// A request in the type of the loops. kept: [2, batch, kinds] in float64, which the forward pass writes and the
// backward pass reads: peak and log_sum
struct Decomposition {
  bool float64;
  Tensor wide[3], packed;
  const DecompositionLoops* loops;
  DecompositionJob job{};

  Decomposition(const DecompositionRequest& r, const Tensor& kept)
      : float64(r.float64 || beyond_float(*r.inputs[0], *r.inputs[1], *r.inputs[2])),
        loops(&decomposition_loops(float64)) {
    const void** places[] = {&job.z, &job.mu, &job.logvar};
    for (int i = 0; i < 3; ++i) {
      if (float64 && !r.float64) wide[i] = convert<double, float>(*r.inputs[i], true);
      *places[i] = (wide[i] ? wide[i] : *r.inputs[i]).data<void>();
    }
    job.batch = r.batch;
    job.dims = r.dims;
    job.width = (r.batch + loops->lanes - 1) / loops->lanes * loops->lanes;
    job.log_own = r.log_own - r.log_other;
    job.peak = kept.mut<double>();
    job.log_sum = job.peak + job.batch * job.kinds();
    packed = empty({r.dims * 3 * job.width}, torch_dtype(float64), *r.inputs[0]);
    job.packed = packed.mut<void>();
    run(loops->pack, {1, r.dims, 1, 1});
  }
  void run(void (*loop)(const DecompositionJob&, const Task&), const Grid& grid) {
    job.grid = grid;
    const bool small = job.batch * job.batch * job.dims <= 4 * kTask;
    each_task(grid.tasks(), small, [&](int64_t i) { loop(job, grid[i]); });
  }
};

// How many of n samples or posteriors a task has: a function of the shapes alone. There are at most 16 tasks, because
// each task of the backward pass has gradients of z of its own.
int64_t task_of(int64_t n, int64_t least) {
  const int64_t even = (n + 15) / 16;
  return (even + least - 1) / least * least;
}

// A new tensor like `t`, with these values
Tensor filled_like(const Tensor& t, const std::vector<double>& values) {
  Tensor out = empty_like(t, t.dtype());
  copy_to(out.mut<void>(), is_float64(t), values);
  return out;
}

}  // namespace

Tensors decomposition(const DecompositionRequest& r) {
  const Tensor& z = *r.inputs[0];
  Tensor kept = empty({2, r.batch, 1 + r.dims}, torch_dtype(true), z);
  Decomposition d(r, kept);
  const int64_t kinds = d.job.kinds();
  std::vector<double> own(r.batch * kinds), information(r.batch), correlation(r.batch), each(r.batch * r.dims);
  d.job.own = own.data();
  d.run(d.loops->forward, {r.batch, 1, task_of(r.batch, 8), 1});
  for (int64_t i = 0; i < r.batch; ++i) {
    const double *peak = d.job.peak + i * kinds, *log_sum = d.job.log_sum + i * kinds;
    information[i] = own[i * kinds] - peak[0] - log_sum[0] - r.log_other;
    correlation[i] = peak[0] + log_sum[0] + r.log_other;
    for (int64_t k = 0; k < r.dims; ++k) {
      const double log_q = peak[1 + k] + log_sum[1 + k] + r.log_other;
      correlation[i] -= log_q;
      each[i * r.dims + k] = log_q;
    }
  }
  Tensors out;
  for (const auto* part : {&information, &correlation}) out.push_back(tensor(*part, 1, r.float64, z));
  out.push_back(filled_like(z, each));
  out.push_back(std::move(kept));
  return out;
}

Tensors decomposition_backward(const Tensor& information, const Tensor& correlation, const Tensor& each,
                               const DecompositionRequest& r, const Tensor& kept) {
  Decomposition d(r, kept);
  const std::vector<double> by_own = doubles(information), by_correlation = doubles(correlation);
  std::vector<double> by_joint(r.batch), by_each = doubles(each);
  for (int64_t i = 0; i < r.batch; ++i) {
    by_joint[i] = by_correlation[i] - by_own[i];
    for (int64_t k = 0; k < r.dims; ++k) by_each[i * r.dims + k] -= by_correlation[i];
  }
  const Grid grid{1, d.job.width, 1, task_of(d.job.width, 4 * d.loops->lanes)};
  const int64_t n = r.batch * r.dims;
  std::vector<double> of_z(grid.tasks() * n), of_posterior(r.dims * 2 * d.job.width), grads[3];
  d.job.by_own = by_own.data();
  d.job.by_joint = by_joint.data();
  d.job.by_each = by_each.data();
  d.job.grad_z = of_z.data();
  d.job.grad_posterior = of_posterior.data();
  d.run(d.loops->backward, grid);
  for (auto& grad : grads) grad.resize(n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t t = 0; t < grid.tasks(); ++t) grads[0][i] += of_z[t * n + i];
    const double* of_mu = of_posterior.data() + 2 * (i % r.dims) * d.job.width + i / r.dims;
    grads[1][i] = of_mu[0];
    grads[2][i] = 0.5 * of_mu[d.job.width];
  }
  Tensors out;
  for (int i = 0; i < 3; ++i) out.push_back(filled_like(*r.inputs[i], grads[i]));
  return out;
}

}  // namespace vk
