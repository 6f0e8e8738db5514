// From a request of the row kind to the launches before and behind that of the likelihood.
#pragma once
#include "plan.h"

namespace vk::cuda {

class RowPlan {
 public:
  // For the gradient of log_total, a new tensor is added to `grads`.
  RowPlan(const Objective& o, const LikelihoodJob& likelihood, Tensors& grads)
      : rows_(o.rows), cols_(likelihood.tiling.cols), float64_(o.float64), like_(o.like) {
    const int64_t each = o.float64 ? 4 : 8;
    statistics_.rows = rows_;
    statistics_.cols = cols_;
    statistics_.along = int32_t(power_of_two(divide_up(cols_, each), kBlockThreads));
    statistics_.across = kBlockThreads / statistics_.along;
    statistics_.x = likelihood.x;
    statistics_.logits = likelihood.p[0].in;
    const RowTerm term(o, grads);
    statistics_.log_total = term.log_total;
    const RowFormula formula = row_formula(o.likelihood);
    launch_ = formula.launch;
    statistics_.counted = !o.log_total || (formula.sum_alike && !likelihood.weights.col_stride);

    const bool of_logits = likelihood.p[0].wanted && !statistics_.counted;
    gradients_.logits = statistics_.logits;
    gradients_.pieces = likelihood.tiling.pieces;
    if (of_logits) gradients_.grad = likelihood.p[0].grad;
    gradients_.tiling = walking_tiling(rows_, of_logits ? cols_ : 1);
    gradients_.total = term.of_log_total;
  }

  bool any_wanted() const { return gradients_.total || gradients_.grad.data; }

  // Memory for the numbers of the rows, and for derivatives that are not rounded to 16 bits.
  void take(Workspace& w, LikelihoodJob& likelihood) {
    RowJob& s = statistics_;
    Softmax& to = likelihood.softmax;
    to.top = s.top = w.take(rows_);
    to.shift = s.shift = w.take(rows_);
    if (s.counted) to.number = s.number = w.take(rows_);
    if (s.counted && s.log_total.data) to.slope = s.slope = w.take(rows_);
    if (!any_wanted()) return;
    gradients_.sums = to.sums = w.take(rows_ * gradients_.pieces);
    if (!gradients_.grad.data) return;
    gradients_.top = s.top;
    gradients_.scale = s.scale = w.take(rows_);
    Sink& derivatives = likelihood.p[0].grad;
    if (gradients_.grad.dtype > DType::float64) derivatives = {w.take(rows_ * cols_), cols_, DType::float32};
    gradients_.derivatives = derivatives.data;
  }

  void before() const {
    const Stream stream(like_);
    if (rows_ > 0) check(launch_(statistics_, float64_, divide_up(rows_, statistics_.across), stream.get()));
  }
  void after() const {
    const Stream stream(like_);
    if (rows_ > 0 && any_wanted())
      check(row_gradients_kernel(gradients_, float64_, gradients_.tiling.blocks(), stream.get()));
  }

 private:
  int64_t rows_, cols_;
  bool float64_;
  const Tensor& like_;
  RowLaunch* launch_;
  RowJob statistics_{};
  RowGradientsJob gradients_{};
};

}  // namespace vk::cuda
