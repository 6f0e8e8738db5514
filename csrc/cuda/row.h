// The row kind: what a soft-max over the elements of a row needs, before, in and behind the launch of the likelihood.
//
//   log_mean_j = (logit_j - top) + shift,    shift = log_total - log(total),    total = sum_j e^(logit_j - top)
//
// vae_kernels/backends/triton/row.py explains the two ways to the gradients.
#pragma once
#include "formula.h"
#include "log_sum_exp.h"
#include "row_jobs.h"
#include "tile.h"

namespace vk::cuda {

// What the loop of the likelihood reads of a row. ROW = false: nothing, and all of this is gone.
template <class T, bool ROW>
struct Row {
  T top = 0, shift = 0, number = 0, slope = 0;
  bool counted = false;

  VK_GPU Row(const Softmax& s, int64_t i) {
    if constexpr (ROW) {
      top = static_cast<const T*>(s.top)[i];
      shift = static_cast<const T*>(s.shift)[i];
      counted = s.number;
      if (s.number) number = static_cast<const T*>(s.number)[i];
      if (s.slope) slope = static_cast<const T*>(s.slope)[i];
    }
  }
  VK_GPU T log_mean(T logit) const {
    if constexpr (ROW) return (logit - top) + shift;
    return logit;
  }
  // Where both the mean and the count are 0, value and derivatives are 0: there those of the formula may be NaN. The
  // first element of a row has the number of the row. Gives what the element adds to the derivative by log_total.
  template <int N>
  VK_GPU T join(T x, T log_mean, bool first, PlusLog1p<T>& nll, T (&d)[N]) const {
    if constexpr (ROW) {
      const bool absent = x == 0 && log_mean == T(-INFINITY);
      nll.value = (absent ? T(0) : nll.value) + (first ? number : T(0));
      nll.e = absent ? T(0) : nll.e;
#pragma unroll
      for (int k = 0; k < N; ++k) d[k] = absent ? T(0) : d[k];
    }
    return !counted ? d[0] : first ? slope : T(0);
  }
};

// F: the formula of a count that is a sum; or void, where no row is counted.
template <class F, class T>
struct RowStatistics {
  using Job = RowJob;
  static constexpr int V = sizeof(T) == 4 ? 8 : 4, blocks_per_sm = sizeof(T) == 4 ? 4 : 2;
  // 0: the elements; then the threads of a row join by halves, from 256 to 1; at last the numbers of the row
  static constexpr int joins = 8, phases = joins + 2;
  struct Local {};
  struct Shared {
    T top[kThreads], total[kThreads];
    double count[kThreads];
  };

  template <int P>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared& shared) {
    const int64_t row = at.block * job.across + at.thread / job.along;
    const int lane = at.thread % job.along;
    if constexpr (P == 0) {
      LogSumExp<T> s = lse_none<T>();
      double count = 0;
      if (row < job.rows) walk(job, row, lane, s, count);
      put(shared, at.thread, s);
      shared.count[at.thread] = count;
    } else if constexpr (P <= joins) {
      constexpr int half = kThreads >> P;
      if (half >= job.along || lane >= half) return;
      put(shared, at.thread, lse_join(get(shared, at.thread), get(shared, at.thread + half)));
      shared.count[at.thread] += shared.count[at.thread + half];
    } else if (lane == 0 && row < job.rows) {
      write(job, row, get(shared, at.thread), shared.count[at.thread]);
    }
  }

 private:
  VK_GPU static LogSumExp<T> get(const Shared& shared, int i) { return {shared.top[i], shared.total[i]}; }
  VK_GPU static void put(Shared& shared, int i, LogSumExp<T> s) {
    shared.top[i] = s.top;
    shared.total[i] = s.total;
  }

  VK_GPU static void walk(const Job& job, int64_t row, int lane, LogSumExp<T>& s, double& count) {
    const int64_t apart = job.along;
#pragma unroll 1
    for (int64_t col = lane; col < job.cols; col += apart * V) {
      const int64_t n = job.cols - col;
      T logits[V];
      gather(job.logits.data, row * job.logits.stride + col, job.logits.dtype, apart, n, logits);
#pragma unroll
      for (int j = 0; j < V; ++j) logits[j] = j * apart < n ? logits[j] : T(-INFINITY);
      s = lse_add(s, logits);
    }
    if (!job.counted) return;
    const int64_t begin = row_of<RowNumber>(row, job.x.rows) * job.x.stride;
#pragma unroll 1
    for (int64_t col = lane; col < job.cols; col += apart * V) {  // apart from the logits: fewer registers
      T x[V];
      gather<T, Ints::counts>(job.x.data, begin + col, job.x.dtype, apart, job.cols - col, x);
      T sum = 0;
#pragma unroll
      for (int j = 0; j < V; ++j) sum += x[j];
      count += sum;
    }
  }

  VK_GPU static void write(const Job& job, int64_t row, LogSumExp<T> s, double n) {
    const auto put = [&](void* to, T value) {
      if (to) static_cast<T*>(to)[row] = value;
    };
    const T total = s.total > 0 ? s.total : T(NAN);  // 0: all logits are -inf
    double of_row = 0;
    if (job.log_total.data) {
      const char* p = static_cast<const char*>(job.log_total.data);
      of_row = load_one<double>(p + row * job.log_total.stride * size_of(job.log_total.dtype), job.log_total.dtype);
    }
    if (job.counted) {
      const double log_n = n > 0 ? vk::log(n) : n == 0 ? -INFINITY : NAN;
      T number = n == 0 ? T(0) : -nll(T(n), T(log_n)).value;
      if (job.log_total.data) {
        const Count of_total = nll(T(n), T(of_row));
        const bool absent = n == 0 && of_row == -INFINITY;
        number += absent ? T(0) : of_total.value;
        put(job.slope, absent ? T(0) : of_total.slope);
      }
      put(job.number, number);
      of_row = log_n;
    }
    // The shift is rounded once: beside a large total an error of its last place is one of a large derivative.
    put(job.top, s.top);
    put(job.shift, T(of_row - (s.total > 0 ? vk::log(double(total)) : NAN)));
    put(job.scale, 1 / total);
  }

  struct Count {
    T value, slope;
  };
  VK_GPU static Count nll(T n, T log_mean) {
    if constexpr (std::is_void_v<F>) {
      return {0, 0};
    } else {
      const T p[1] = {log_mean};
      T d[1];
      const T value = F::nll(n, p, d);
      return {value, d[0]};
    }
  }
};
template <class F>
Launched launch_row_statistics(const RowJob& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<RowStatistics<F, double>>(job, blocks, stream)
                 : launch<RowStatistics<F, float>>(job, blocks, stream);
}

}  // namespace vk::cuda
