// log p of each element on the GPU.
#include "one_run.h"
#include "ops.h"
#include "plan.h"

namespace vk::cuda {

Tensor log_prob(const Objective& o) {
  Tensors no_gradients;
  const LikelihoodTerm term(o, no_gradients, allocate);
  const bool one_run = is_one_run(term);
  const int columns_each = o.float64 ? kColumns64 : kColumns;
  LogProbJob job{};
  job.tiling =
      one_run ? run_tiling(o.rows * term.cols, columns_each, 1) : column_tiling(o.rows, term.cols, columns_each, 1);
  VK_CHECK(term.x.rows == kAllRows, "x has fewer samples than the parameters");  // which this kernel does not read
  job.x = term.x;
  for (size_t k = 0; k < kMaxParameters; ++k) {
    job.p[k].in = term.params[k].in;
    job.p[k].layout = term.params[k].layout;
    if (one_run && job.p[k].layout == Layout::full) job.p[k].in.stride = job.tiling.cols;
  }
  if (one_run) job.x.stride = job.tiling.cols;
  const DType type = o.float64 ? DType::float64 : DType::float32;
  Tensor out = empty_in_order(o.like, term.cols, type, o.dtype, allocate, job.out);
  const Stream stream(o.like);
  if (o.rows * term.cols > 0) check(log_prob_launch(o.likelihood)(job, o.float64, job.tiling.blocks(), stream.get()));
  return out;
}

}  // namespace vk::cuda
