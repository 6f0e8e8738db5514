// The position kind on the CPU, forward and backward.
#include "ops.h"
#include "tensors.h"

namespace vk {
namespace {

PositionJob job_of(const PositionRequest& r, const Tensor& top_and_total) {
  PositionJob job{};
  // a task has many positions where they are small, and many rows where the rows are small
  const int64_t most = 512 * (1 + kTask / (512 * r.levels)), task_cols = r.cols < most ? r.cols : most;
  job.grid = {r.rows, r.cols, 1 + kTask / (r.levels * r.cols + 1), task_cols ? task_cols : 1};
  job.levels = r.levels;
  job.inner = r.inner;
  job.x = r.levels_of_x();
  job.logits = source(r.logits);
  job.element_weights = r.weights;
  const DType type = r.float64 ? DType::float64 : DType::float32;
  job.top = {r.top(top_and_total), r.cols, type};
  job.total = {r.total(top_and_total), r.cols, type};
  return job;
}

void run(void (*loop)(const PositionJob&, const Task&), const PositionJob& job) {
  const bool small = job.grid.elements() * job.levels <= 2 * kTask;
  each_task(job.grid.tasks(), small, [&](int64_t i) { loop(job, job.grid[i]); });
}

}  // namespace

Tensors position(const PositionRequest& r) {
  Tensors out(2);
  out[1] = r.empty_top_and_total();
  PositionJob job = job_of(r, out[1]);
  std::vector<double> partial(r.rows * job.grid.col_tasks());
  job.nll = partial.data();
  run(kernels().position(r.likelihood)[r.float64].forward, job);
  out[0] = tensor(add_up(std::move(partial), r.rows, job.grid.col_tasks()), 1, r.float64, r.logits);
  return out;
}

Tensor position_backward(const Tensor& grad, const PositionRequest& r, const Tensor& top_and_total) {
  PositionJob job = job_of(r, top_and_total);
  const std::vector<double> incoming = doubles(grad);
  job.weight = {incoming.data(), 1, 1};
  Tensor out = empty_in_order(r.logits, elements_after_batch(r.logits), empty_pooled, job.grad);
  run(kernels().position(r.likelihood)[r.float64].backward, job);
  return out;
}

}  // namespace vk
