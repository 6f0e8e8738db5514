// The job of a row: an element formula whose first parameter has logits of shares.
#include "evaluation.h"

namespace vk {

// Given the sum n of the row where n tells enough: the formula is one of n and of the row given n, and the weight of
// the row is one number. The gradient of a logit is then n share - x. The difference of two numbers of the size of the
// total would lose its digits.
void Evaluation::make(const RowTerm& term, const LikelihoodLoops& loops) {
  RowJob& job = row_job;
  const ElementWeights& w = likelihood_job.element_weights;
  shifts.resize(o.rows);
  job.shift = shifts.data();
  job.sums = loops.sums;
  job.of_total = loops.of_total;
  job.given_n = !term.log_total.data || (loops.of_total && (!w.data || !w.col_stride || likelihood_job.grid.cols == 1));
  job.log_total = term.log_total;
  if (term.of_log_total) {
    of_log_total.resize(o.rows);
    job.of_log_total = of_log_total.data();
    likelihood_job.grad = true;
  }
  Parameter& logits = likelihood_job.p[0];
  job.grad = logits.grad;
  logits.grad = {};
  if (!job.given_n && likelihood_job.grad) {
    row_sums[0].resize(o.rows);
    logits.sums = row_sums[0].data();
  }
  likelihood_job.shift = shifts.data();
  job.each = likelihood_job;
  job.grid = likelihood_job.grid;
}

}  // namespace vk
