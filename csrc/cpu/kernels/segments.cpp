// The loop of the segments kind: a block of rows of a table, column by column. Each column is one loop over the rows of
// the block, which lie side by side in a buffer, so that the vectors are full however narrow a column is. Only a
// column with many categories is read row by row. Compiled once per instruction set; the maths is in
// formulas/mixed.h.
#include "cpu/segments.h"

#include <vector>

#include "formulas/mixed.h"
#include "table_rows.h"

namespace vk::VK_ISA {
namespace {  // as in likelihood.cpp: nothing here is for the linker to share

using Category = VK_CATEGORIES;

constexpr int kNarrow = 128;  // categories whose logits lie side by side: sixteen kilobytes

// What the columns of a block of rows share.
template <class T>
struct Block {
  alignas(64) T x[kRows], number[kRows], logscale[kRows], weight[kRows], own[kRows];  // own: weight times incoming
  alignas(64) T value[kRows], by_number[kRows], by_logscale[kRows], incoming[kRows];
  alignas(64) T top[kRows], total[kRows], logit[kRows];
  alignas(64) T logits[kNarrow * kRows];
  int32_t code[kRows];
};

// ---------------------------------------------------------------- a column with one number

template <class C, class T>
static void number_column(Block<T>& b) {
#pragma omp simd
  for (int r = 0; r < kRows; ++r) {
    T by[2];
    const PlusLog1p<T> v = C::nll(b.x[r], b.number[r], b.logscale[r], by);
    b.value[r] = weighted(b.weight[r], v.value + log1p_unit(v.e));
    b.by_number[r] = weighted(b.own[r], by[0]);
    b.by_logscale[r] = weighted(b.own[r], by[1]);
  }
}

template <class T>
using NumberColumn = void (*)(Block<T>&);
#define VK_COLUMN_LOOP(formula, scale, tanh) number_column<Column<formula, scale, tanh>, T>,
template <class T>
constexpr NumberColumn<T> kNumberColumns[] = {VK_COLUMNS(VK_COLUMN_LOOP)};
constexpr int64_t kCategorical = sizeof kNumberColumns<float> / sizeof *kNumberColumns<float>;

// ---------------------------------------------------------------- a column of categories

// The code of a category, or -1 where x is none.
template <class T>
static int32_t code_of_number(T x, int64_t width) {
  const bool possible = x >= 0 && x < T(width);
  const int32_t code = possible ? int32_t(x) : -1;
  return T(code) == x ? code : -1;
}
template <class T>
static int32_t code_of_one_hot(const T* x, int64_t width) {
  uint32_t code = 0, others = 0, ones = 0;  // code: the sum of the codes of all that is hot, modulo 2^32
#pragma omp simd reduction(+ : code, others, ones)
  for (uint32_t k = 0; k < uint32_t(width); ++k) {
    code += x[k] == 1 ? k : 0u;
    ones += x[k] == 1;
    others += x[k] != 0;
  }
  return ones == 1 && others == 1 ? int32_t(code) : -1;
}
// The same of all rows of a block: width is small
template <class T>
static void codes_of_one_hot(const RowsIn<T>& x, int64_t at, int width, Block<T>& b) {
  int32_t others[kRows] = {}, ones[kRows] = {};
  for (int r = 0; r < kRows; ++r) b.code[r] = 0;
  for (int k = 0; k < width; ++k) {
    T hot[kRows];
    x.gather(at + k, hot);
#pragma omp simd
    for (int r = 0; r < kRows; ++r) {
      b.code[r] += hot[r] == 1 ? k : 0;
      ones[r] += hot[r] == 1;
      others[r] += hot[r] != 0;
    }
  }
  for (int r = 0; r < kRows; ++r) b.code[r] = ones[r] == 1 && others[r] == 1 ? b.code[r] : -1;
}

// The values of the column, from what top, total and logit say
template <class T>
static void category_values(Block<T>& b) {
#pragma omp simd
  for (int r = 0; r < kRows; ++r) {
    b.total[r] = b.code[r] < 0 ? T(NAN) : b.total[r];
    b.value[r] = weighted(b.weight[r], Category::nll(LogSumExp<T>{b.top[r], b.total[r]}, b.logit[r]));
  }
}

template <class T>
static void narrow_column(const RowsIn<T>& packed, int64_t at, int width, bool wanted, Block<T>& b) {
  for (int r = 0; r < kRows; ++r)
    for (int k = 0; k < width; ++k) b.logits[k * kRows + r] = packed[r][at + k];
  for (int r = 0; r < kRows; ++r) {
    b.logit[r] = b.logits[(b.code[r] < 0 ? 0 : b.code[r]) * kRows + r];
    b.top[r] = lse_none<T>().top;
    b.total[r] = 0;
  }
  for (int k = 0; k < width; ++k) {
    const T* const logits = b.logits + k * kRows;
#pragma omp simd
    for (int r = 0; r < kRows; ++r) b.top[r] = logits[r] > b.top[r] ? logits[r] : b.top[r];
  }
  for (int k = 0; k < width; ++k) {
    T* const logits = b.logits + k * kRows;
#pragma omp simd
    for (int r = 0; r < kRows; ++r) {
      logits[r] = Category::weight(logits[r], b.top[r]);
      b.total[r] += logits[r];
    }
  }
  category_values(b);
  if (!wanted) return;
  alignas(64) T scaled[kRows];
  for (int r = 0; r < kRows; ++r) scaled[r] = b.own[r] / b.total[r];
  for (int k = 0; k < width; ++k) {
    T* const logits = b.logits + k * kRows;
#pragma omp simd
    for (int r = 0; r < kRows; ++r) logits[r] = b.own[r] == 0 ? T(0) : logits[r] * scaled[r];
  }
  for (int r = 0; r < kRows; ++r) b.logits[(b.code[r] < 0 ? 0 : b.code[r]) * kRows + r] -= b.own[r];
}

// One row of many logits: their soft-max times its total, into `to`.
template <class T>
static LogSumExp<T> wide_row(const T* logits, int64_t width, T* to) {
  T top = lse_none<T>().top;
#pragma omp simd reduction(max : top)
  for (int64_t k = 0; k < width; ++k) top = logits[k] > top ? logits[k] : top;
  double total = 0;
  for (int64_t from = 0; from < width; from += kSum) {
    const int64_t end = width - from < kSum ? width : from + kSum;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = from; k < end; ++k) sum += to[k] = Category::weight(logits[k], top);
    total += sum;
  }
  return {top, T(total)};
}

template <class T>
static void wide_gradient(T own, T total, int32_t code, int64_t width, T* grad) {
  const T scaled = own / total;
#pragma omp simd
  for (int64_t k = 0; k < width; ++k) grad[k] = own == 0 ? T(0) : grad[k] * scaled;
  if (code >= 0) grad[code] -= own;
}

// ---------------------------------------------------------------- a block of rows

template <class T>
class Table {
  const SegmentsJob& job_;
  const Task& task_;
  const int64_t first_, last_;  // the numbers of packed that the columns of this task have
  const int64_t first_x_, last_x_;
  RowsIn<T> x_, packed_, logscale_, weight_;
  RowsOut<T> grad_, of_logscale_, terms_;
  std::vector<T> wide_;
  std::vector<double> sums_;
  Block<T> b_;

  const TableRow& column(int64_t c) const { return job_.table[c]; }

 public:
  Table(const SegmentsJob& job, const Task& task)
      : job_(job),
        task_(task),
        first_(column(task.col).at),
        last_(column(task.col + task.cols - 1).at + column(task.col + task.cols - 1).width),
        first_x_(job.codes ? task.col : first_),
        last_x_(job.codes ? task.col + task.cols : last_),
        grad_(job.grad, first_, last_ - first_),
        of_logscale_(job.of_logscale, task.col, task.cols),
        terms_(job.terms, task.col, task.cols),
        sums_(job.logscale_sums ? task.cols : 0) {}

  void rows(int64_t row, int n) {
    read(row, n);
    double nll[kRows] = {};
    for (int64_t i = 0; i < task_.cols; ++i) {
      one_column(i, n);
      for (int r = 0; r < kRows; ++r) nll[r] += b_.value[r];
      if (terms_) terms_.scatter(b_.value, i, n);
      if (of_logscale_) of_logscale_.scatter(b_.by_logscale, i, n);
      if (job_.logscale_sums)
        for (int r = 0; r < n; ++r) sums_[i] += b_.by_logscale[r];
    }
    const int64_t partials = job_.grid.col_tasks(), partial = task_.col / job_.grid.task_cols;
    if (job_.nll)
      for (int r = 0; r < n; ++r) job_.nll[(row + r) * partials + partial] = nll[r];
    for (const RowsOut<T>* out : {&grad_, &of_logscale_}) out->finish(row, n);
  }

  void finish() {
    const int64_t row_task = task_.row / job_.grid.task_rows;
    for (size_t c = 0; c < sums_.size(); ++c) job_.logscale_sums[row_task * job_.grid.cols + task_.col + c] = sums_[c];
  }

 private:
  void read(int64_t row, int n) {
    x_.read(job_.x, row, n, first_x_, last_x_ - first_x_);
    packed_.read(job_.packed, row, n, first_, last_ - first_);
    logscale_.read(job_.logscale, row, n, task_.col, task_.cols);
    const ElementWeights& w = job_.element_weights;
    if (w.data) weight_.read(rows_of(w), row, n, w.col_stride ? task_.col : 0, w.col_stride ? task_.cols : 1);
    for (int r = 0; r < kRows; ++r) {
      b_.weight[r] = 1;
      b_.incoming[r] = b_.own[r] = T(job_.weight[row + (r < n ? r : n - 1)]);
    }
    for (RowsOut<T>* out : {&grad_, &of_logscale_, &terms_}) out->begin(row);
  }

  // column i of this task
  void one_column(int64_t i, int n) {
    const auto [kind, width, start] = column(task_.col + i);
    const int64_t at = start - first_, at_x = job_.codes ? i : at;
    if (job_.element_weights.data) {
      weight_.gather(job_.element_weights.col_stride ? i : 0, b_.weight);
      for (int r = 0; r < kRows; ++r) b_.own[r] = weighted(b_.weight[r], b_.incoming[r]);
    }
    if (kind < kCategorical) {
      x_.gather(at_x, b_.x);
      packed_.gather(at, b_.number);
      logscale_.gather(i, b_.logscale);
      kNumberColumns<T>[kind](b_);
      if (grad_) grad_.scatter(b_.by_number, at, n);
      return;
    }
    for (int r = 0; r < kRows; ++r) b_.by_logscale[r] = 0;
    if (job_.codes)
      for (int r = 0; r < kRows; ++r) b_.code[r] = code_of_number(x_[r][at_x], width);
    else if (width > kNarrow)
      for (int r = 0; r < kRows; ++r) b_.code[r] = code_of_one_hot(x_[r] + at_x, width);
    else
      codes_of_one_hot(x_, at_x, int(width), b_);
    if (width > kNarrow) return wide_column(at, width, n);
    narrow_column(packed_, at, int(width), bool(grad_), b_);
    if (!grad_) return;
    for (int r = 0; r < n; ++r)
      for (int k = 0; k < width; ++k) grad_[r][at + k] = b_.logits[k * kRows + r];
  }

  void wide_column(int64_t at, int64_t width, int n) {
    if (!grad_) wide_.resize(width);
    for (int r = n; r < kRows; ++r) b_.top[r] = b_.total[r] = b_.logit[r] = 1;  // rows that the block lacks
    for (int r = 0; r < n; ++r) {
      const LogSumExp<T> s = wide_row(packed_[r] + at, width, grad_ ? grad_[r] + at : wide_.data());
      b_.top[r] = s.top;
      b_.total[r] = s.total;
      b_.logit[r] = packed_[r][at + (b_.code[r] < 0 ? 0 : b_.code[r])];
    }
    category_values(b_);
    if (!grad_) return;
    for (int r = 0; r < n; ++r) wide_gradient(b_.own[r], b_.total[r], b_.code[r], width, grad_[r] + at);
  }
};

template <class T>
static void run(const SegmentsJob& job, const Task& task) {
  FlushDenormals guard;
  Table<T> table(job, task);
  for (int64_t row = task.row; row < task.row + task.rows; row += kRows)
    table.rows(row, int(task.row + task.rows - row < kRows ? task.row + task.rows - row : kRows));
  table.finish();
}

}  // namespace

extern const SegmentsLoops segments_loops[2] = {{kCategorical + 1, run<float>}, {kCategorical + 1, run<double>}};

}  // namespace vk::VK_ISA
