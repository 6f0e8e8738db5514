// The kernels of one likelihood. Compiled once per likelihood (VK_LIKELIHOOD); the maths is in formulas/<name>.h.
#include "per_formula.h"
#include VK_HEADER(VK_LIKELIHOOD)

#include "elbo.h"
#include "likelihood_columns.h"
#include "log_prob.h"

namespace vk::cuda {

// A template: elsewhere a branch that is not taken would be compiled too.
template <class F>
static Launched launch_row(const ElboJob<LikelihoodJob>& job, bool float64, int64_t blocks, void* stream) {
  if constexpr (takes_log_total<F>)
    return float64 ? launch<Elbo<LikelihoodColumns<F, double, true>, double>>(job, blocks, stream)
                   : launch<Elbo<LikelihoodColumns<F, float, true>, float>>(job, blocks, stream);
  else
    return "this likelihood takes no log_total";
}

Launched VK_SYMBOL(elbo_kernel_, VK_LIKELIHOOD)(const ElboJob<LikelihoodJob>& job, Variant variant, bool float64,
                                                int64_t blocks, void* stream) {
  using F = VK_LIKELIHOOD;
  if (job.main.softmax.top) return launch_row<F>(job, float64, blocks, stream);
  if (float64) return launch<Elbo<LikelihoodColumns<F, double>, double>>(job, blocks, stream);
  if (variant == Variant::columns) return launch<Elbo<LikelihoodColumns<F, float>, float>>(job, blocks, stream);
  if constexpr (is_counts<F>)  // so long a formula that how its arguments are stored is nothing beside it
    // and four parameters of four elements do not fit into the registers beside it
    return launch<Elbo<Likelihood<F, float, (F::parameters > 3 ? 2 : 4), false>, float>>(job, blocks, stream);
  else {
    constexpr int wide = F::parameters > 2 ? 4 : 8;  // three parameters of eight elements do not fit into the registers
    return variant == Variant::float32 ? launch<Elbo<Likelihood<F, float, 4, true>, float>>(job, blocks, stream)
                                       : launch<Elbo<Likelihood<F, float, wide, false>, float>>(job, blocks, stream);
  }
}

template <class F>
static RowFormula row_formula() {
  if constexpr (is_sum_alike<F>)
    return {launch_row_statistics<F>, true};
  else
    return {takes_log_total<F> ? row_statistics_kernel : nullptr, false};
}
RowFormula VK_SYMBOL(row_formula_, VK_LIKELIHOOD)() { return row_formula<VK_LIKELIHOOD>(); }

Launched VK_SYMBOL(log_prob_kernel_, VK_LIKELIHOOD)(const LogProbJob& job, bool float64, int64_t blocks, void* stream) {
  using F = VK_LIKELIHOOD;
  return float64 ? launch<LogProb<F, double>>(job, blocks, stream) : launch<LogProb<F, float>>(job, blocks, stream);
}

}  // namespace vk::cuda
