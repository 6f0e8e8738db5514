// The kernel of a table of columns: the value of each cell, and its gradients. A thread has one cell. A block has rows
// of one column, so its threads go the same way. The maths is in formulas/mixed.h.
#pragma once
#include "formulas/mixed.h"
#include "gather.h"
#include "segments_jobs.h"

namespace vk::cuda {

template <class T>
struct Segments {
  using Job = SegmentsJob;
  // 0: the cells; then the derivatives by logscale are added up by halves, from 128 to 1; at last the sum is written
  static constexpr int joins = 8, phases = joins + 2, blocks_per_sm = 2;
  static_assert(kThreads == kRowsOfTable && kThreads >> joins == 1);
  struct Local {};
  struct Shared {
    double by_logscale[kThreads];
  };

  template <int P>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared& shared) {
    if constexpr (P == 0) {
      shared.by_logscale[at.thread] = double(cell(job, at));
    } else if constexpr (P <= joins) {
      constexpr int half = kThreads >> P;
      if (at.thread < half) shared.by_logscale[at.thread] += shared.by_logscale[at.thread + half];
    } else {
      if (at.thread == 0 && job.parts) static_cast<T*>(job.parts)[at.block] = T(shared.by_logscale[0]);
    }
  }

 private:
  using Category = VK_CATEGORIES;
  static constexpr int V = 4;  // categories at once

  template <Ints INTS = Ints::none>
  VK_GPU static T read(const Source& s, int64_t row, int64_t i) {
    const char* p = static_cast<const char*>(s.data) + (row * s.stride + i) * size_of(s.dtype);
    return load_one<T, INTS>(p, s.dtype);
  }
  VK_GPU static void write(const Sink& s, int64_t row, int64_t i, T v) {
    if (s.data) store_one(static_cast<char*>(s.data) + (row * s.stride + i) * size_of(s.dtype), s.dtype, v);
  }

  // Computes the cell, and gives its derivative by logscale.
  VK_GPU static T cell(const Job& job, Place at) {
    const int64_t column = at.block % job.columns, row = at.block / job.columns * kThreads + at.thread;
    if (row >= job.rows) return 0;
    const TableRow c = job.table[column];
    const T weight = weight_at<T>(job.weights, row, column);
    const T own = weight != 0 ? weight * T(job.incoming(row)) : T(0);
    const int64_t at_x = job.codes ? column : c.at, x_row = row_of<RowNumber>(row, job.x.rows);
    T by[2] = {0, 0}, value = 0;
    bool is_number = true;
    int64_t kind = 0;
    const auto number = [&](auto formula) {
      const T x = read<Ints::counts>(job.x, x_row, at_x), logscale = read(job.logscale, row, column);
      const PlusLog1p<T> v = decltype(formula)::nll(x, read(job.packed, row, c.at), logscale, by);
      value = v.value + log1p_unit(v.e);
    };
#define VK_CASE(formula, scale, tanh)       \
  if (c.kind == kind++)                     \
    number(Column<formula, scale, tanh>{}); \
  else
    VK_COLUMNS(VK_CASE) is_number = false;
#undef VK_CASE
    if (is_number)
      write(job.grad, row, c.at, own != 0 ? own * by[0] : T(0));
    else
      value = category(job, c, row, code(job, c, x_row, at_x), own);
    const T by_logscale = own != 0 ? own * by[1] : T(0);
    if (job.terms) static_cast<T*>(job.terms)[row * job.columns + column] = weight != 0 ? weight * value : T(0);
    write(job.of_logscale, row, column, by_logscale);
    return by_logscale;
  }

  // The category that row `row` of x is, or -1.
  VK_GPU static int64_t code(const Job& job, const TableRow& c, int64_t row, int64_t at_x) {
    if (job.codes) {
      const T x = read<Ints::counts>(job.x, row, at_x);
      const int64_t code = x >= 0 && x < T(c.width) ? int64_t(x) : -1;
      return T(code) == x ? code : -1;
    }
    int64_t code = 0, ones = 0, others = 0;
    for (int64_t k = 0; k < c.width; ++k) {
      const T x = read<Ints::counts>(job.x, row, at_x + k);
      code = x == 1 ? k : code;
      ones += x == 1;
      others += x != 0;
    }
    return ones == 1 && others == 1 ? code : -1;
  }

  // The value of a column of categories, of which x is `chosen`; its gradient is written.
  VK_GPU static T category(const Job& job, const TableRow& c, int64_t row, int64_t chosen, T own) {
    LogSumExp<T> s = lse_none<T>();
    for (int64_t k = 0; k < c.width; k += V) {
      T logits[V];
#pragma unroll
      for (int j = 0; j < V; ++j) logits[j] = k + j < c.width ? read(job.packed, row, c.at + k + j) : T(-INFINITY);
      s = lse_add(s, logits);
    }
    if (chosen < 0) s.total = T(NAN);
    if (job.grad.data) {
      const T scaled = own / s.total;
      for (int64_t k = 0; k < c.width; ++k) {
        const T by = Category::weight(read(job.packed, row, c.at + k), s.top) * scaled - (k == chosen ? own : T(0));
        write(job.grad, row, c.at + k, own != 0 ? by : T(0));
      }
    }
    return Category::nll(s, read(job.packed, row, c.at + (chosen < 0 ? 0 : chosen)));
  }
};

}  // namespace vk::cuda
