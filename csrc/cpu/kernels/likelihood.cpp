// The likelihood loop: value and gradient of one likelihood in one pass over [rows, cols].
// Compiled once per likelihood (VK_LIKELIHOOD) and instruction set (VK_ISA); the maths is in formulas/<name>.h.
#include "per_formula.h"
#include VK_HEADER(VK_LIKELIHOOD)

#include <algorithm>

#include "block_loop.h"
#include "log_prob.h"
#include "narrow.h"

namespace vk::VK_ISA {
namespace {

// The gradients of a block whose elements are all missing.
template <class T>
static void nothing(T* const* g, T* scalar_sums, int n) {
  for (int k = 0; k < N; ++k) {
    scalar_sums[k] = 0;
    for (int i = 0; i < n; ++i) g[k][i] = 0;
  }
}

template <class T>
static void run(const LikelihoodJob& job, const Task& task) {
  if (job.grid.cols <= kNarrow) return run_narrow<T>(job, task);
  FlushDenormals guard;
  alignas(64) T x_buffer[kBlock], w_buffer[kBlock], p_buffer[N][kBlock], g_buffer[N][kBlock];
  const T* p[N];
  T* g[N];
  T scalar_sums[kMaxParameters];
  unsigned numbers = 0;
  bool by_sample = false;  // whether a parameter has one number for each row: the loop reads this number row by row
  for (int k = 0; k < N; ++k) {
    by_sample |= job.p[k].layout == Layout::per_sample;
    if (job.p[k].layout == Layout::number || job.p[k].layout == Layout::per_sample) numbers |= 1u << k;
  }
  // One weight for all elements of a row is a factor of the results of the row.
  const ElementWeights& weights = job.element_weights;
  const bool by_element = weights.data && weights.col_stride, by_row = weights.data && !weights.col_stride;
  const BlockLoop<T> loop(numbers, job.grad, by_element, weights.dtype == DType::boolean);
  if (loop.ones) fill(T(1), kBlockCols, w_buffer);
  const auto read_numbers = [&](int64_t row) {
    for (int k = 0; k < N; ++k) {
      if (!(numbers >> k & 1)) continue;
      load_into(job.p[k].in, row, 0, 1, p_buffer[k]);
      if (!(loop.numbers >> k & 1)) fill(p_buffer[k][0], int(std::min<int64_t>(task.cols, kBlockCols)), p_buffer[k]);
    }
  };
  const int64_t col_task = task.col / job.grid.task_cols, row_task = task.row / job.grid.task_rows;

  for (int64_t row = task.row; row < task.row + task.rows; ++row) {
    if (by_sample || row == task.row) read_numbers(row);
    T of_row = 1;
    if (by_row) load_into(rows_of(weights), row, 0, 1, &of_row);
    BlockWeights<T> block{job.grad ? of_row * T(job.weight[row]) : T(0), loop.ones ? w_buffer : nullptr};
    const int64_t partial = row * job.grid.col_tasks() + col_task;
    double nll = 0, sums[kMaxParameters] = {};
    for (int64_t col = task.col; col < task.col + task.cols; col += kBlockCols) {
      const int n = int(std::min<int64_t>(task.col + task.cols - col, kBlockCols));
      const T* x = load<T, is_counts<VK_LIKELIHOOD>>(job.x, row, col, n, x_buffer);
      for (int k = 0; k < N; ++k) {
        p[k] = numbers >> k & 1 ? p_buffer[k] : load(job.p[k].in, row, col, n, p_buffer[k]);
        g[k] = target(job.p[k].grad, row, col, g_buffer[k]);
      }
      if (job.shift) p[0] = shift_into(p[0], job.shift[row], n, p_buffer[0]);
      if (loop.mask)
        block.element = static_cast<const Mask*>(weights.data) + begin_of(rows_of(weights), row) + col;
      else if (by_element)
        block.element = load(rows_of(weights), row, col, n, w_buffer);
      if (of_row == 0)
        nothing(g, scalar_sums, n);
      else
        nll += of_row * loop(x, p, g, scalar_sums, block, n);
      for (int k = 0; k < N; ++k) {
        store(g[k], job.p[k].grad, row, col, n);
        if (job.p[k].sums) sums[k] += loop.numbers >> k & 1 ? scalar_sums[k] : sum_of(g[k], n);
        if (T* row_sums = static_cast<T*>(job.p[k].row_sums)) {
          row_sums += row_task * job.grid.cols + col;
          for (int i = 0; i < n; ++i) row_sums[i] += g[k][i];
        }
      }
    }
    if (job.losses)
      static_cast<T*>(job.losses)[row] = T(job.factor * nll);
    else
      job.nll[partial] = nll;
    for (int k = 0; k < N; ++k)
      if (job.p[k].sums) job.p[k].sums[partial] = sums[k];
  }
}

template <class F>
constexpr auto of_total() -> decltype(LikelihoodLoops::of_total) {
  if constexpr (is_sum_alike<F>)
    return [](double n, double log_total, double& by_total) {
      const double p[1] = {log_total};
      double by[1];
      const double value = F::nll(n, p, by);
      by_total = by[0];
      return value;
    };
  else
    return nullptr;
}

}  // namespace

extern const LikelihoodLoops VK_SYMBOL(likelihood_, VK_LIKELIHOOD)[2] = {
    {run<float>, run_log_prob<float>, of_total<VK_LIKELIHOOD>()},
    {run<double>, run_log_prob<double>, of_total<VK_LIKELIHOOD>()}};

}  // namespace vk::VK_ISA
