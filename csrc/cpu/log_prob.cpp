// log p of each element on the CPU.
#include "one_run.h"
#include "ops.h"
#include "tensors.h"

namespace vk {

Tensor log_prob(const Objective& o) {
  Tensors no_gradients;
  const LikelihoodTerm term(o, no_gradients, empty_pooled);
  const bool one_run = is_one_run(term);
  LogProbJob job{};
  job.grid = one_run ? latent_grid(1, o.rows * term.cols) : latent_grid(o.rows, term.cols);
  job.x = term.x;
  static const double zero = 0;
  for (size_t k = 0; k < kMaxParameters; ++k) {
    const ParameterOfRequest& p = term.params[k];
    job.layout[k] = p.layout;
    job.p[k] = p.in.data ? p.in : Source{&zero, 0, DType::float64};
  }
  const DType type = o.float64 ? DType::float64 : DType::float32;
  Tensor out = empty_in_order(o.like, term.cols, type, o.dtype, empty_pooled, job.out);
  run<LogProbJob>(kernels().likelihood(o.likelihood.c_str())[o.float64].each, job);
  return out;
}

}  // namespace vk
