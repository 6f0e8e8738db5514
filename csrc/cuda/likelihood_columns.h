// Value and gradient of one likelihood, where a thread goes down its columns: the second way of likelihood.h.
#pragma once
#include "likelihood.h"
#include "row.h"

namespace vk::cuda {

// Down the columns, for gradients that are sums over rows, for weights of the elements, and for float64: a thread keeps
// to its columns.
// ROW: the first parameter has logits, with a soft-max over the row.
template <class F, class T, bool ROW = false>
struct LikelihoodColumns : LikelihoodSums<F, T, kRowsEach, ROW> {
  using Base = LikelihoodSums<F, T, kRowsEach, ROW>;
  using Job = LikelihoodJob;
  static constexpr int N = F::parameters, V = sizeof(T) == 8 ? kColumns64 : kColumns;
  static constexpr int blocks_per_sm = is_counts<F> ? kBlocksOfCounts<T> : sizeof(T) == 8 || N > 2 ? 2 : 3;
  struct Local {
    T columns[N][V];
  };

  // Multiplies the value and the derivatives of an element by the weight. Gives false at a weight of 0: the element is
  // then missing, whatever x and the parameters hold.
  VK_GPU static bool weigh(T weight, PlusLog1p<T>& nll, T (&d)[N]) {
    nll = {weight * (nll.value + log1p_unit(nll.e)), 0};  // elements of different weights have no logarithm in common
#pragma unroll
    for (int k = 0; k < N; ++k) d[k] *= weight;
    return weight != 0;
  }

  VK_GPU static void walk(const Job& job, int64_t block, int thread, Local& local, Sums<kRowsEach>& shared) {
    const Tiling& t = job.tiling;
    const ElementWeights& w = job.weights;
    const Tile tile = tile_of(t, block, thread);
    const int64_t col = tile.first_col + tile.lane;
    const int most = tile.cols - tile.lane;
    const bool first_lane = col == 0;
    T p[N][V];
#pragma unroll
    for (int k = 0; k < N; ++k) {
#pragma unroll
      for (int j = 0; j < V; ++j) local.columns[k][j] = 0;
      if (job.p[k].layout == Layout::per_feature) gather(job.p[k].in.data, col, job.p[k].in.dtype, t.lanes, most, p[k]);
    }
#pragma unroll 1
    for (int r = 0; r < kRowsEach; ++r) {
      const int64_t i = tile.row_block * t.block_rows + tile.slot(r);
      const int n = most - t.missing_in(i);
      PlusLog1p<T> nll = {0, 0};
      T d_sums[N] = {}, total_sum = 0, weight = 0;
      if (i < t.rows && n > 0 && !job.incoming.as_expected(i)) {
        if (job.grad) weight = T(job.incoming(i) * job.weight(0));
        T x[V], g[N][V], weights[V];
        gather<T, kTarget<F>>(job.x.data, i * job.x.stride + col, job.x.dtype, t.lanes, n, x);
        if (w.data) {
          const int apart = w.col_stride ? t.lanes : 0;
          gather<T, Ints::mask>(w.data, i * w.row_stride + col * w.col_stride, w.dtype, apart, n, weights);
        }
#pragma unroll
        for (int k = 0; k < N; ++k) {
          if (job.p[k].layout == Layout::full)
            gather(job.p[k].in.data, i * job.p[k].in.stride + col, job.p[k].in.dtype, t.lanes, n, p[k]);
          if (job.p[k].by_column()) continue;
          const T number = Base::read_number(job.p[k], i);
#pragma unroll
          for (int j = 0; j < V; ++j) p[k][j] = number;
        }
        const Row<T, ROW> row(job.softmax, i);
#pragma unroll
        for (int j = 0; j < V; ++j) p[0][j] = row.log_mean(p[0][j]);
#pragma unroll(kUnrolled<F, V>)
        for (int j = 0; j < V; ++j) {
          T q[N], d[N];
#pragma unroll
          for (int k = 0; k < N; ++k) q[k] = p[k][0];
          PlusLog1p<T> one = parts(F::nll(x[0], q, d));
          T by_total = row.join(x[0], q[0], first_lane && j == 0, one, d);
          bool here = j * t.lanes < n;
          if (w.data) {
            by_total *= weights[0];
            here &= weigh(weights[0], one, d);
          }
          total_sum += here ? by_total : T(0);
          nll.value += here ? one.value : T(0);
          nll.e = join_log1p(nll.e, here ? one.e : T(0));
#pragma unroll
          for (int k = 0; k < N; ++k) {
            d_sums[k] += here ? d[k] : T(0);
            g[k][0] = here ? weight * d[k] : T(0);
            local.columns[k][0] += g[k][0];
            turn(p[k]);
            turn(g[k]);
            turn(local.columns[k]);
          }
          turn(x);
          turn(weights);
        }
#pragma unroll
        for (int k = 0; k < N; ++k)
          if (job.p[k].grad.data) scatter(job.p[k].grad.data, i * t.cols + col, job.p[k].grad.dtype, t.lanes, n, g[k]);
      }
      shared.of[0][tile.slot(r) * t.lanes + tile.lane] = nll.value + log1p(nll.e);
#pragma unroll
      for (int k = 1; k < N; ++k) shared.of[k][tile.slot(r) * t.lanes + tile.lane] = weight * d_sums[k];
      if (ROW) shared.of[N][tile.slot(r) * t.lanes + tile.lane] = weight * total_sum;
    }
  }

  // the sums over rows of parameter K
  template <int K>
  VK_GPU static void share(const Job& job, int64_t block, int thread, const Local& local, Sums<kRowsEach>& shared) {
    if constexpr (K < N)
      share_columns(job.tiling, tile_of(job.tiling, block, thread), local.columns[K],
                    reinterpret_cast<T*>(shared.columns));
  }
  template <int K>
  VK_GPU static void write(const Job& job, int64_t block, int thread, Sums<kRowsEach>& shared) {
    if constexpr (K < N)
      if (job.p[K].columns)
        write_columns<V>(job.tiling, tile_of(job.tiling, block, thread), reinterpret_cast<const T*>(shared.columns),
                         job.p[K].columns, thread);
  }
};

}  // namespace vk::cuda
