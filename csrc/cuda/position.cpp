// The position kind on the GPU, forward and backward.
#include "ops.h"
#include "plan.h"

namespace vk::cuda {
namespace {

PositionJob job_of(const PositionRequest& r, const Tensor& top_and_total) {
  PositionJob job{};
  job.rows = r.rows;
  job.cols = r.cols;
  job.levels = r.levels;
  job.inner = r.inner;
  // Neighbours in a warp read neighbours in memory: 32 positions, with 8 threads each; or as many threads as a
  // position's levels give 8 to each.
  const int64_t widest = job.inner ? 1 : 32;
  const int64_t across = power_of_two(job.cols, widest);
  job.along = int32_t(power_of_two(divide_up(job.levels, 8), kBlockThreads / across));
  job.across = int32_t(kBlockThreads / job.along);
  job.x = beside(r.levels_of_x(), r.rows);
  job.logits = source(r.logits);
  job.weights = r.weights;
  job.top = r.top(top_and_total);
  job.total = r.total(top_and_total);
  return job;
}

int64_t blocks_of(const PositionJob& job) { return divide_up(job.rows * job.cols, job.across); }

}  // namespace

Tensors position(const PositionRequest& r) {
  const int64_t rows = r.rows, cols = r.cols;
  Tensors out;
  out.push_back(empty({rows}, torch_dtype(r.float64), r.logits));
  out.push_back(r.empty_top_and_total());
  PositionJob job = job_of(r, out[1]);
  const Workspace workspace(r.logits, [&](Workspace& w) { job.values = w.take(rows * cols); });
  const Stream stream(r.logits);
  if (rows * cols > 0) check(position_launch(r.likelihood)(job, false, r.float64, blocks_of(job), stream.get()));
  for (int64_t first = 0; first < rows; first += kMostBlocks) {  // a block a row: there may be more than a grid has
    const int64_t n = rows - first < kMostBlocks ? rows - first : kMostBlocks;
    void* const sums = out[0].mut<char>() + first * (r.float64 ? 8 : 4);
    check(rows_sum_kernel({{job.values + first * cols, 1, true, 1}, cols, sums}, r.float64, n, stream.get()));
  }
  return out;
}

Tensor position_backward(const Tensor& grad, const PositionRequest& r, const Tensor& top_and_total) {
  PositionJob job = job_of(r, top_and_total);
  job.incoming = weight(grad);
  Tensor out = empty_in_order(r.logits, elements_after_batch(r.logits), allocate, job.grad);
  const Stream stream(r.logits);
  if (job.rows * job.cols > 0) check(position_launch(r.likelihood)(job, true, r.float64, blocks_of(job), stream.get()));
  return out;
}

}  // namespace vk::cuda
