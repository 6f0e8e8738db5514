// What is left of the gradients of the row kind behind the launch of the likelihood: row.h has the formulas.
#pragma once
#include "row_jobs.h"
#include "special.h"
#include "tile.h"

namespace vk::cuda {

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
