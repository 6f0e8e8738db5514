// log p of each element. A thread has elements of one row that lie `lanes` apart; the maths is in formulas/<name>.h.
#pragma once
#include "likelihood.h"

namespace vk::cuda {

template <class F, class T>
struct LogProb {
  using Job = LogProbJob;
  static constexpr int N = F::parameters, V = sizeof(T) == 8 ? kColumns64 : kColumns;
  static constexpr int blocks_per_sm = is_counts<F> ? kBlocksOfCounts<T> : 4, phases = 1;
  struct Local {};
  struct Shared {};

  template <int>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared&) {
    const Tile tile = tile_of(job.tiling, at.block, at.thread);
    const int64_t i = tile.row_block * job.tiling.block_rows + tile.group, col = tile.first_col + tile.lane;
    const int lanes = job.tiling.lanes, n = tile.cols - tile.lane - job.tiling.missing_in(i);
    if (i >= job.tiling.rows || n <= 0) return;
    T x[V], p[N][V], out[V];
    gather<T, kTarget<F>>(job.x.data, i * job.x.stride + col, job.x.dtype, lanes, n, x);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const Parameter& from = job.p[k];
      if (from.by_column()) {
        gather(from.in.data, i * from.in.stride + col, from.in.dtype, lanes, n, p[k]);
        continue;
      }
      const T number = LikelihoodSums<F, T, 1>::read_number(from, i);
#pragma unroll
      for (int j = 0; j < V; ++j) p[k][j] = number;
    }
#pragma unroll(kUnrolled<F, V>)
    for (int j = 0; j < V; ++j) {
      T q[N], d[N];
#pragma unroll
      for (int k = 0; k < N; ++k) {
        q[k] = p[k][0];
        turn(p[k]);
      }
      const PlusLog1p<T> nll = parts(F::nll(x[0], q, d));
      out[0] = -(nll.value + log1p_unit(nll.e));
      turn(x);
      turn(out);
    }
    scatter(job.out.data, i * job.tiling.cols + col, job.out.dtype, lanes, n, out);
  }
};

}  // namespace vk::cuda
