// The likelihood over levels on the CPU, forward and backward. backends/compiled/schemas.py has the schemas.
#include "ops.h"

#include "tensors.h"

namespace vk {
namespace {

LevelsJob job_of(const Tensor& x, const Tensor& logits, const Tensor& top_and_total) {
  check_levels(x, logits);
  LevelsJob job{};
  const int64_t rows = x.size(0), cols = elements_after_batch(x), levels = logits.size(1);
  // a task has many positions where they are small, and many rows where those are
  const int64_t some = 512 * (1 + kTask / (512 * levels)), task_cols = cols < some ? cols : some;
  job.grid = {rows, cols, 1 + kTask / (levels * cols + 1), task_cols ? task_cols : 1};
  job.levels = levels;
  job.inner = levels_innermost(logits);
  job.x = source(x);
  job.logits = source(logits);
  const DType type = dtype_of(top_and_total);
  char* const top = top_and_total.mut<char>();
  job.top = {top, cols, type};
  job.total = {top + rows * cols * bytes_of(type), cols, type};
  return job;
}

void run(void (*loop)(const LevelsJob&, const Task&), const LevelsJob& job) {
  const auto some = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) loop(job, job.grid[i]);
  };
  const int64_t tasks = job.grid.tasks();
  job.grid.elements() * job.levels <= 2 * kTask ? some(0, tasks) : parallel_for(0, tasks, 1, some);
}

}  // namespace

Tensors levels(const Tensor& x, const Tensor& logits) {
  const int64_t rows = x.size(0);
  const bool float64 = dtype_of(logits) == DType::float64;
  Tensors out(2);
  out[1] = empty({2, rows, elements_after_batch(x)}, torch_dtype(float64), logits);
  LevelsJob job = job_of(x, logits, out[1]);
  std::vector<double> partial(rows * job.grid.col_tasks());
  job.nll = partial.data();
  run(kernels().levels[float64].forward, job);
  out[0] = tensor(add_up(partial, rows, job.grid.col_tasks()), &rows, 1, float64, logits);
  return out;
}

Tensor levels_backward(const Tensor& grad, const Tensor& x, const Tensor& logits, const Tensor& top_and_total) {
  LevelsJob job = job_of(x, logits, top_and_total);
  const std::vector<double> incoming = doubles(grad);
  job.weight = {incoming.data(), 1, 1};
  Tensor out = empty_in_order(logits, elements_after_batch(logits), job.grad);
  run(kernels().levels[dtype_of(logits) == DType::float64].backward, job);
  return out;
}

}  // namespace vk
