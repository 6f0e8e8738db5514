// The row kind: what a soft-max over the elements of a row needs, before, in and behind the launch of the likelihood.
//
//   log_mean_j = (logit_j - top) + shift,    shift = log_total - log(total),    total = sum_j e^(logit_j - top)
//
// vae_kernels/backends/triton/row.py explains the two ways to the gradients.
#pragma once
#include "formula.h"
#include "log_sum_exp.h"
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
      write(job, row, get(shared, at.thread), T(shared.count[at.thread]));
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
      T logits[V], x[V];
      gather(job.logits.data, row * job.logits.stride + col, job.logits.dtype, apart, n, logits);
#pragma unroll
      for (int j = 0; j < V; ++j) logits[j] = j * apart < n ? logits[j] : T(-INFINITY);
      s = lse_add(s, logits);
      if (!job.counted) continue;
      gather<T, Ints::counts>(job.x.data, row * job.x.stride + col, job.x.dtype, apart, n, x);
      T sum = 0;
#pragma unroll
      for (int j = 0; j < V; ++j) sum += x[j];
      count += sum;
    }
  }

  VK_GPU static void write(const Job& job, int64_t row, LogSumExp<T> s, T count) {
    const auto put = [&](void* to, T value) {
      if (to) static_cast<T*>(to)[row] = value;
    };
    const T total = s.total > 0 ? s.total : T(NAN);  // 0: all logits are -inf
    T of_row = 0;
    if (job.log_total.data) {
      const char* p = static_cast<const char*>(job.log_total.data);
      of_row = load_one<T>(p + row * job.log_total.stride * size_of(job.log_total.dtype), job.log_total.dtype);
    }
    if (job.counted) {
      const T log_count = count > 0 ? vk::log(count) : count == 0 ? T(-INFINITY) : T(NAN);
      T number = count == 0 ? T(0) : -nll(count, log_count).value;
      if (job.log_total.data) {
        const auto of_count = nll(count, of_row);
        const bool absent = count == 0 && of_row == T(-INFINITY);
        number += absent ? T(0) : of_count.value;
        put(job.slope, absent ? T(0) : of_count.slope);
      }
      put(job.number, number);
      of_row = log_count;
    }
    put(job.top, s.top);
    put(job.shift, of_row - log1p(total - 1));
    put(job.scale, 1 / total);
  }

  struct Count {
    T value, slope;
  };
  VK_GPU static Count nll(T count, T log_rate) {
    if constexpr (std::is_void_v<F>) {
      return {0, 0};
    } else {
      const T p[1] = {log_rate};
      T d[1];
      const T value = F::nll(count, p, d);
      return {value, d[0]};
    }
  }
};
template <class F>
Launched launch_row_statistics(const RowJob& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<RowStatistics<F, double>>(job, blocks, stream)
                 : launch<RowStatistics<F, float>>(job, blocks, stream);
}

template <class T>
struct RowGradients {
  using Job = RowGradientsJob;
  static constexpr int V = kVector<T>, phases = 3, blocks_per_sm = 4;
  struct Local {};
  struct Shared {
    double sums[kThreads];
  };

  // 0, 1: the sum of each row; 2: the gradients
  template <int P>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared& shared) {
    const Tiling& t = job.tiling;
    const Tile tile = tile_of(t, at.block, at.thread);
    const int64_t i = tile.row_block * t.block_rows + tile.group;
    if constexpr (P == 0) {
      double sum = 0;
      if (i < t.rows)
        for (int64_t j = tile.lane; j < job.pieces; j += t.lanes) sum += job.sums[i * job.pieces + j];
      shared.sums[at.thread] = sum;
    }
    if constexpr (P == 1) fold(shared.sums, t.block_rows, t.lanes, at.thread);
    if constexpr (P == 2) {
      if (i >= t.rows) return;
      const T sum = T(folded(shared.sums, tile.group, t.lanes));
      if (job.total && tile.piece == 0 && tile.lane == 0) static_cast<T*>(job.total)[i] = sum;
      if (job.grad.data) subtract(job, tile, i, sum);
    }
  }

 private:
  VK_GPU static void subtract(const Job& job, const Tile& tile, int64_t i, T sum) {
    const T top = static_cast<const T*>(job.top)[i], factor = static_cast<const T*>(job.scale)[i] * sum;
    const int lanes = job.tiling.lanes;
#pragma unroll 1
    for (int first = tile.lane; first < tile.cols; first += lanes * V) {
      const int64_t col = tile.first_col + first;
      const int n = tile.cols - first;
      T logits[V], g[V];
      gather(job.logits.data, i * job.logits.stride + col, job.logits.dtype, lanes, n, logits);
      gather(job.derivatives, i * job.tiling.cols + col, dtype_of<T>, lanes, n, g);
#pragma unroll
      for (int j = 0; j < V; ++j) g[j] -= exp_or_zero(logits[j] - top) * factor;
      scatter(job.grad.data, i * job.grad.stride + col, job.grad.dtype, lanes, n, g);
    }
  }
};

}  // namespace vk::cuda
