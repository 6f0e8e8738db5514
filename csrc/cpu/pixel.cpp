// The pixel kind on the CPU.
#include "ops.h"
#include "tensors.h"

namespace vk {
namespace {

PixelJob job_of(const PixelRequest& r) {
  PixelJob job{};
  const int64_t most = 1024;  // pixels of a task
  job.grid = {r.rows, r.cols, 1 + 256 / (r.cols + 1), r.cols < most ? (r.cols ? r.cols : 1) : most};
  job.channels = r.channels;
  job.numbers = r.numbers;
  job.options = r.options.data();
  job.inner = r.inner;
  job.x = r.channels_of_x();
  job.packed = source(r.packed);
  job.element_weights = r.weights;
  return job;
}

void run(const PixelRequest& r, const PixelJob& job) {
  const bool small = job.grid.elements() * r.numbers <= kTask;
  const PixelLoop loop = kernels().pixel(r.likelihood)[r.float64];
  each_task(job.grid.tasks(), small, [&](int64_t i) { loop(job, job.grid[i]); });
}

}  // namespace

Tensors pixel(const PixelRequest& r, bool ahead, double expected) {
  Tensors out(1);
  PixelJob job = job_of(r);
  std::vector<double> partial(r.rows * job.grid.col_tasks());
  const double incoming = r.float64 ? expected : double(float(expected));  // it has the type of the loss
  job.nll = partial.data();
  job.weight = {&incoming, 0, 1};
  if (ahead) out.push_back(empty_in_order(r.packed, r.numbers * r.cols, empty_pooled, job.grad));
  run(r, job);
  out[0] = tensor(add_up(std::move(partial), r.rows, job.grid.col_tasks()), 1, r.float64, r.packed);
  return out;
}

Tensor pixel_backward(const Tensor& grad, const PixelRequest& r) {
  PixelJob job = job_of(r);
  const std::vector<double> incoming = doubles(grad);
  job.weight = {incoming.data(), grad.dim() > 0, 1};
  Tensor out = empty_in_order(r.packed, r.numbers * r.cols, empty_pooled, job.grad);
  run(r, job);
  return out;
}

Tensor pixel_log_prob(const PixelRequest& r) {
  PixelJob job = job_of(r);
  Tensor out = r.empty_terms();
  job.terms = sink(out, r.cols);
  run(r, job);
  return out;
}

}  // namespace vk
