// What the host hands to the kernels of the row kind, beside the Softmax of jobs.h.
#pragma once
#include "jobs.h"

namespace vk::cuda {

// The soft-max of each row. A block has `across` rows, with `along` threads each.
struct RowJob {
  int64_t rows, cols;
  int32_t across, along;
  Source x, logits, log_total;  // log_total: [rows, 1]; null: the sum of x in its place
  bool counted;                 // whether the sum of x is the total
  void *top, *shift, *scale;    // [rows] of the compute type
  void *number, *slope;         // likewise, where counted; slope null without log_total
};
// What is left of the gradients: gradient = derivative - share * sum, and the sum is that of log_total.
struct RowGradientsJob {
  Tiling tiling;
  Source logits;
  const void *top, *scale;
  const void* derivatives;  // [rows, cols] of the compute type, may be where the gradients go; null: they are done
  const double* sums;       // [rows, pieces]
  int64_t pieces;
  Sink grad;
  void* total;  // [rows] of the compute type; null: not wanted
};

using RowLaunch = Launched(const RowJob&, bool float64, int64_t blocks, void* stream);
struct RowFormula {
  RowLaunch* launch;  // null: the formula of an element takes no log_total
  bool sum_alike;
};

RowLaunch row_statistics_kernel;
Launched row_gradients_kernel(const RowGradientsJob&, bool float64, int64_t blocks, void* stream);

}  // namespace vk::cuda
