// The loop of the segments kind: a block of rows of a table, column by column. A few columns at a time are turned
// (table_rows.h), so each column is one loop over the rows of the block. Only a column with many categories is read row
// by row. Compiled once per instruction set; the maths is in formulas/mixed.h.
#include "cpu/segments.h"

#include <algorithm>
#include <vector>

#include "formulas/mixed.h"
#include "lanes.h"
#include "table_rows.h"

namespace vk::VK_ISA {
namespace {  // as in likelihood.cpp: nothing here is for the linker to share

using Category = VK_CATEGORIES;

constexpr int kStrip = 64;  // numbers of the columns that are turned together, unless one column has more

// Some columns of a block of rows, turned. The formulas write the gradients over packed and logscale.
template <class T>
struct Block {
  alignas(64) T packed[kNumbers * kRows], x[kNumbers * kRows];
  alignas(64) T logscale[kStrip * kRows], weight[kStrip * kRows], value[kStrip * kRows];
  alignas(64) T incoming[kRows], own[kRows];  // own: weight times incoming. Both are 0 in the rows that a block lacks
  alignas(64) T top[kRows], total[kRows], logit[kRows];
  int32_t code[kRows];
};

// ---------------------------------------------------------------- a column with one number

// x, number, logscale, weight, own and value of each row; gradients are written over number and logscale
template <class T>
using NumberColumn = void (*)(const T*, T*, T*, const T*, const T*, T*);

template <class C, class T>
static void number_column(const T* x, T* number, T* logscale, const T* weight, const T* own, T* value) {
#pragma omp simd
  for (int r = 0; r < kRows; ++r) {
    T by[2];
    const PlusLog1p<T> v = C::nll(x[r], number[r], logscale[r], by);
    value[r] = weighted(weight[r], v.value + log1p_unit(v.e));
    number[r] = weighted(own[r], by[0]);
    logscale[r] = weighted(own[r], by[1]);
  }
}

#define VK_COLUMN_LOOP(formula, scale, tanh) number_column<Column<formula, scale, tanh>, T>,
template <class T>
constexpr NumberColumn<T> kNumberColumns[] = {VK_COLUMNS(VK_COLUMN_LOOP)};
constexpr int64_t kCategorical = sizeof kNumberColumns<float> / sizeof *kNumberColumns<float>;

// ---------------------------------------------------------------- a column of categories

// The values of the column, and the gradients of its logits, which are written over the logits
template <class T>
static void narrow_column(T* packed, int width, bool wanted, const T* weight, Block<T>& b, T* value) {
  for (int r = 0; r < kRows; ++r) {
    b.logit[r] = packed[(b.code[r] < 0 ? 0 : b.code[r]) * kRows + r];
  }
  for (int r = 0; r < kRows; r += kLanes<T>) {
    Vector<T> top = lse_none<T>().top - Vector<T>{};
    for (int k = 0; k < width; ++k) {
      const Vector<T> logits = load_lanes(packed + k * kRows + r);
      top = logits > top ? logits : top;
    }
    store_lanes(top, b.top + r);
  }
  for (int k = 0; k < width; ++k) {
    T* const logits = packed + k * kRows;
#pragma omp simd
    for (int r = 0; r < kRows; ++r) logits[r] = Category::weight(logits[r], b.top[r]);
  }
  for (int r = 0; r < kRows; r += kLanes<T>) {
    Vector<T> total = {};
    for (int k = 0; k < width; ++k) total += load_lanes(packed + k * kRows + r);
    store_lanes(total, b.total + r);
  }
#pragma omp simd
  for (int r = 0; r < kRows; ++r) {
    b.total[r] = b.code[r] < 0 ? T(NAN) : b.total[r];
    value[r] = weighted(weight[r], Category::nll(LogSumExp<T>{b.top[r], b.total[r]}, b.logit[r]));
  }
  if (!wanted) return;
  alignas(64) T scaled[kRows];
#pragma omp simd
  for (int r = 0; r < kRows; ++r) scaled[r] = b.own[r] / b.total[r];
  for (int k = 0; k < width; ++k) {
    T* const logits = packed + k * kRows;
#pragma omp simd
    for (int r = 0; r < kRows; ++r) logits[r] = b.own[r] == 0 ? T(0) : logits[r] * scaled[r];
  }
  for (int r = 0; r < kRows; ++r) packed[(b.code[r] < 0 ? 0 : b.code[r]) * kRows + r] -= b.own[r];
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

// Columns that are turned together, and the place of their first number
struct Strip {
  int64_t column, at;
  int columns;
  int64_t numbers;
};

template <class T>
class Table {
  const SegmentsJob& job_;
  const Task& task_;
  std::vector<T> wide_;
  std::vector<double> sums_;
  Block<T> b_;

 public:
  Table(const SegmentsJob& job, const Task& task) : job_(job), task_(task), sums_(job.logscale_sums ? task.cols : 0) {}

  void rows(int64_t row, int n) {
    for (int r = 0; r < kRows; ++r) {
      b_.incoming[r] = b_.own[r] = r < n ? T(job_.weight[row + r]) : T(0);
      b_.weight[r] = 1;
    }
    const ElementWeights& w = job_.element_weights;
    if (w.data && !w.col_stride) one_weight(read_weights(row, n, 0, 1));
    double nll[kRows] = {};
    for (int64_t c = task_.col; c < task_.col + task_.cols;) {
      const Strip s = strip(c);
      if (w.col_stride) read_weights(row, n, c, s.columns);
      if (s.numbers > kNumbers)
        wide_column(s, row, n);
      else
        narrow_strip(s, row, n);
      for (int i = 0; i < s.columns; ++i)
        for (int r = 0; r < kRows; ++r) nll[r] += b_.value[i * kRows + r];
      if (job_.terms.data) write_turned(b_.value, job_.terms, row, n, c, s.columns);
      of_logscale(s, row, n);
      c += s.columns;
    }
    const int64_t partials = job_.grid.col_tasks(), partial = task_.col / job_.grid.task_cols;
    if (job_.nll)
      for (int r = 0; r < n; ++r) job_.nll[(row + r) * partials + partial] = nll[r];
  }

  void finish() {
    const int64_t row_task = task_.row / job_.grid.task_rows;
    for (size_t c = 0; c < sums_.size(); ++c) job_.logscale_sums[row_task * job_.grid.cols + task_.col + c] = sums_[c];
  }

 private:
  Strip strip(int64_t c) const {
    Strip s{c, job_.table[c].at, 0, 0};
    for (; c < task_.col + task_.cols; ++c, ++s.columns) {
      if (s.columns && s.numbers + job_.table[c].width > kStrip) break;
      s.numbers += job_.table[c].width;
    }
    return s;
  }

  const T* read_weights(int64_t row, int n, int64_t c, int columns) {
    read_turned(rows_of(job_.element_weights), row, n, c, columns, b_.weight);
    return b_.weight;
  }
  void one_weight(const T* weight) {
    for (int r = 0; r < kRows; ++r) b_.own[r] = weighted(weight[r], b_.incoming[r]);
  }
  // The weights of column i of a strip
  const T* weights(int i) {
    if (!job_.element_weights.col_stride) return b_.weight;
    one_weight(b_.weight + i * kRows);
    return b_.weight + i * kRows;
  }

  void narrow_strip(const Strip& s, int64_t row, int n) {
    const int64_t at_x = job_.codes ? s.column : s.at;
    read_turned(job_.x, row, n, at_x, job_.codes ? s.columns : int(s.numbers), b_.x);
    read_turned(job_.packed, row, n, s.at, int(s.numbers), b_.packed);
    read_turned(job_.logscale, row, n, s.column, s.columns, b_.logscale);
    for (int i = 0; i < s.columns; ++i) {
      const auto [kind, width, start] = job_.table[s.column + i];
      T *const packed = b_.packed + (start - s.at) * kRows, *const logscale = b_.logscale + i * kRows;
      const T* const x = b_.x + (job_.codes ? i : start - s.at) * kRows;
      const T* const weight = weights(i);
      T* const value = b_.value + i * kRows;
      if (kind < kCategorical) {
        kNumberColumns<T>[kind](x, packed, logscale, weight, b_.own, value);
        continue;
      }
      if (job_.codes)
        for (int r = 0; r < kRows; ++r) b_.code[r] = code_of_number(x[r], width);
      else
        codes_of_one_hot(x, int(width), b_.code);
      narrow_column(packed, int(width), job_.grad.data, weight, b_, value);
      std::fill(logscale, logscale + kRows, T(0));
    }
    if (job_.grad.data) write_turned(b_.packed, job_.grad, row, n, s.at, int(s.numbers));
  }

  void wide_column(const Strip& s, int64_t row, int n) {
    const int64_t width = s.numbers;
    const T* const weight = weights(0);
    wide_.resize(3 * width);
    std::fill(b_.value, b_.value + kRows, T(0));
    std::fill(b_.logscale, b_.logscale + kRows, T(0));
    for (int r = 0; r < n; ++r) {
      const int64_t at_x = job_.codes ? s.column : s.at, numbers_x = job_.codes ? 1 : width;
      const T* const x = load<T, true>(job_.x, row + r, at_x, int(numbers_x), wide_.data());
      const int32_t code = job_.codes ? code_of_number(*x, width) : code_of_one_hot(x, width);
      const T* const logits = load(job_.packed, row + r, s.at, int(width), wide_.data() + width);
      T* const to = target(job_.grad, row + r, s.at, wide_.data() + 2 * width);
      LogSumExp<T> sum = wide_row(logits, width, to);
      if (code < 0) sum.total = T(NAN);
      b_.value[r] = weighted(weight[r], Category::nll(sum, logits[code < 0 ? 0 : code]));
      if (!job_.grad.data) continue;
      wide_gradient(b_.own[r], sum.total, code, width, to);
      store(to, job_.grad, row + r, s.at, int(width));
    }
  }

  // The gradients of logscale, which are in its place
  void of_logscale(const Strip& s, int64_t row, int n) {
    if (job_.of_logscale.data) write_turned(b_.logscale, job_.of_logscale, row, n, s.column, s.columns);
    if (!job_.logscale_sums) return;
    for (int i = 0; i < s.columns; ++i) {
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int r = 0; r < kRows; ++r) sum += b_.logscale[i * kRows + r];
      sums_[s.column - task_.col + i] += sum;
    }
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
