// The likelihood over levels on the GPU, forward and backward. backends/compiled/schemas.py has the schemas.
#include "ops.h"
#include "plan.h"

namespace vk::cuda {
namespace {

LevelsJob job_of(const Tensor& x, const Tensor& logits, const Tensor& top_and_total) {
  check_levels(x, logits);
  LevelsJob job{};
  job.rows = x.size(0);
  job.cols = elements_after_batch(x);
  job.levels = logits.size(1);
  job.inner = levels_innermost(logits);
  // Neighbours in a warp read neighbours in memory: 32 positions, with 8 threads each; or as many threads as a
  // position's levels give 8 to each.
  const int64_t widest = job.inner ? 1 : 32;
  const int64_t across = power_of_two(job.cols, widest);
  job.along = int32_t(power_of_two(divide_up(job.levels, 8), kBlockThreads / across));
  job.across = int32_t(kBlockThreads / job.along);
  job.x = source(x);
  job.logits = source(logits);
  const int64_t n = job.rows * job.cols * bytes_of(dtype_of(top_and_total));
  job.top = top_and_total.mut<void>();
  job.total = top_and_total.mut<char>() + n;
  return job;
}

int64_t blocks_of(const LevelsJob& job) { return divide_up(job.rows * job.cols, job.across); }

}  // namespace

Tensors levels(const Tensor& x, const Tensor& logits) {
  const bool float64 = dtype_of(logits) == DType::float64;
  const int64_t rows = x.size(0), cols = elements_after_batch(x);
  Tensors out;
  out.push_back(empty({rows}, torch_dtype(float64), logits));
  out.push_back(empty({2, rows, cols}, torch_dtype(float64), logits));
  LevelsJob job = job_of(x, logits, out[1]);
  const Workspace workspace(logits, [&](Workspace& w) { job.values = w.take(rows * cols); });
  const Stream stream(logits);
  if (rows * cols > 0) check(levels_kernel(job, float64, blocks_of(job), stream.get()));
  for (int64_t first = 0; first < rows; first += kMostBlocks) {  // a block a row: there may be more than a grid has
    const int64_t n = rows - first < kMostBlocks ? rows - first : kMostBlocks;
    void* const sums = out[0].mut<char>() + first * (float64 ? 8 : 4);
    check(rows_sum_kernel({job.values + first * cols, cols, sums}, float64, n, stream.get()));
  }
  return out;
}

Tensor levels_backward(const Tensor& grad, const Tensor& x, const Tensor& logits, const Tensor& top_and_total) {
  LevelsJob job = job_of(x, logits, top_and_total);
  job.incoming = weight(grad);
  Tensor out = empty_in_order(logits, elements_after_batch(logits), job.grad);
  const Stream stream(logits);
  if (job.rows * job.cols > 0)
    check(levels_backward_kernel(job, dtype_of(logits) == DType::float64, blocks_of(job), stream.get()));
  return out;
}

}  // namespace vk::cuda
