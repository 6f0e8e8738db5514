// The work of the row kind around the loop of an element formula: the soft-max over a row before, and the part of the
// gradient that comes through the soft-max behind. Each row stays in the cache. Compiled once per instruction set.
#include <vector>

#include "block.h"
#include "join.h"

namespace vk::VK_ISA {
namespace {

// The log-sum-exp of the logits of a row: peak + log(sum)
struct SoftMax {
  double peak = kMinusInfinity, sum = 0;
};

template <class T>
static SoftMax soft_max(const Source& logits, int64_t row, int64_t cols, T* buffer) {
  SoftMax s;
  for (int64_t col = 0; col < cols; col += kBlock) {
    const int n = int(cols - col < kBlock ? cols - col : kBlock);
    join(load(logits, row, col, n, buffer), n, s.peak, s.sum);
  }
  return s;
}

// The sum of a row of counts
template <class T>
static double total(const Source& x, int64_t row, int64_t cols, T* buffer) {
  double total = 0;
  for (int64_t col = 0; col < cols; col += kBlock) {
    const int n = int(cols - col < kBlock ? cols - col : kBlock);
    const T* counts = load<T, true>(x, row, col, n, buffer);
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; ++i) sum += counts[i];
    total += sum;
  }
  return total;
}

// The gradient of the logits, from the gradient of the shifted logits, whose sum is `sum`
template <class T>
static void through_soft_max(const RowJob& job, const Sink& from, int64_t row, const SoftMax& s, double sum) {
  alignas(64) T logits_buffer[kBlock], grad_buffer[kBlock];
  const T peak = T(s.peak), scaled = T(sum / s.sum);
  const Source given{from.data, from.stride, from.dtype};
  for (int64_t col = 0; col < job.each.grid.cols; col += kBlock) {
    const int n = int(job.each.grid.cols - col < kBlock ? job.each.grid.cols - col : kBlock);
    const T* logits = load(job.each.p[0].in, row, col, n, logits_buffer);
    const T* grad = load(given, row, col, n, grad_buffer);
    T* to = target(job.grad, row, col, grad_buffer);
#pragma omp simd
    for (int i = 0; i < n; ++i) to[i] = grad[i] - exp_or_zero(logits[i] - peak) * scaled;
    store(to, job.grad, row, col, n);
  }
}

template <class T>
static T number(const Source& s, int64_t row) {
  T value;
  load_into(s, row, 0, 1, &value);
  return value;
}

// The rows of one call of the element loop: so many that short rows fill the vectors.
template <class T>
static void run_some(const RowJob& job, LikelihoodJob& each, const Task& task) {
  alignas(64) T buffer[kBlock];
  constexpr int most = kBlock;
  SoftMax soft[most];
  double n[most];
  const int64_t cols = job.each.grid.cols;
  for (int64_t r = 0; r < task.rows; ++r) {
    const int64_t row = task.row + r;
    soft[r] = soft_max(each.p[0].in, row, cols, buffer);
    n[r] = job.given_n ? total(each.x, row, cols, buffer) : 0;
    const double log_total = job.given_n ? std::log(n[r]) : number<double>(job.log_total, row);
    job.shift[row] = {soft[r].peak, log_total - std::log(soft[r].sum)};
  }
  job.sums(each, task);
  for (int64_t r = 0; r < task.rows; ++r) {
    const int64_t row = task.row + r;
    if (!job.given_n) {
      const double sum = each.p[0].sums ? each.p[0].sums[row] : 0;
      if (job.of_log_total) job.of_log_total[row] = sum;
      if (job.grad.data) through_soft_max<T>(job, each.p[0].grad, row, soft[r], sum);
      continue;
    }
    const ElementWeights& w = each.element_weights;
    const double own = w.data ? number<double>(rows_of(w), row) : 1;
    double value = 0, by_total = 0;
    if (own != 0) {
      double by_n;
      if (job.log_total.data) value = job.of_total(n[r], number<double>(job.log_total, row), by_total);
      value -= job.of_total(n[r], std::log(n[r]), by_n);  // 0 for n = 0
    }
    each.nll[row] += own * value;
    if (job.of_log_total) job.of_log_total[row] = own * each.weight[row] * by_total;
  }
}

template <class T>
static void run(const RowJob& job, const Task& task) {
  FlushDenormals guard;
  const int64_t cols = job.each.grid.cols;
  LikelihoodJob each = job.each;
  // A gradient that is still to be changed is not rounded to 16 bits: it waits in a buffer of one row.
  std::vector<T> buffer;
  const bool waits = !job.given_n && job.grad.data && job.grad.dtype != dtype_of<T>;
  each.p[0].grad = job.grad;
  if (waits) {
    buffer.resize(cols);
    each.p[0].grad = {buffer.data(), 0, dtype_of<T>};
  }
  const int64_t rows = waits || cols >= kBlock ? 1 : kBlock / cols;
  for (int64_t row = task.row; row < task.row + task.rows; row += rows) {
    const int64_t left = task.row + task.rows - row;
    run_some<T>(job, each, {row, left < rows ? left : rows, 0, cols});
  }
}

}  // namespace

extern const RowLoop row_loops[2] = {run<float>, run<double>};

}  // namespace vk::VK_ISA
