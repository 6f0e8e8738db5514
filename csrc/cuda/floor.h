// Free bits: a unit of the KL costs at least so many nats. Below that, the unit has no gradient.
//
// What a unit costs is known when all blocks have added up their KL. So the finish takes the costs into the loss
// (finish.h), and a launch of its own writes 0 to the gradients of the units that cost no more than the nats.
#pragma once
#include "tile.h"

namespace vk::cuda {

VK_GPU bool is_closed(const FloorJob& floor, double kl) { return kl <= floor.nats(0); }  // a NaN is not
VK_GPU double cost_of(const FloorJob& floor, double kl) { return is_closed(floor, kl) ? floor.nats(0) : kl; }

// the mean over the batch
VK_GPU double mean_of_unit(const FloorJob& floor, int64_t unit) {
  if (floor.summed) return floor.means(unit);
  double sum = 0;
#pragma unroll 4
  for (int64_t d = unit * floor.cols; d < (unit + 1) * floor.cols; ++d) sum += floor.means(d);
  return sum;
}
// the cost of the units first, first + step, ...
VK_GPU double cost_of_units(const FloorJob& floor, int64_t first, int64_t step) {
  double cost = 0;
  for (int64_t unit = first; unit < floor.units; unit += step) cost += cost_of(floor, mean_of_unit(floor, unit));
  return cost;
}

VK_GPU double row_sum(const RowSums& s, int64_t row) {
  double sum = 0;
#pragma unroll 4
  for (int j = 0; j < s.lanes; ++j) sum += s.partial[row * s.pieces + j];
  return sum;
}

// What all units cost: one block.
struct Costs {
  using Job = FloorJob;
  static constexpr int phases = 3, blocks_per_sm = 4;
  struct Local {};
  struct Shared {
    double of[kThreads];
  };

  template <int P>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared& shared) {
    if constexpr (P == 0) shared.of[at.thread] = cost_of_units(job, at.thread, kThreads);
    if constexpr (P == 1) fold(shared.of, 1, kThreads, at.thread);
    if constexpr (P == 2)
      if (at.thread == 0) job.scratch[job.units] = folded(shared.of, 0, kThreads);
  }
};

struct Close {
  using Job = CloseJob;
  static constexpr int phases = 1, blocks_per_sm = 4;
  struct Local {};
  struct Shared {};

  template <int>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared&) {
    const Tiling& t = job.tiling;
    const Tile tile = tile_of(t, at.block, at.thread);
    const int64_t col = tile.first_col + tile.lane;
    if (tile.lane >= tile.cols) return;
    bool closed = false;
    if (!job.floor.by_row) {
      closed = is_closed(job.floor, mean_of_unit(job.floor, col / job.floor.cols));
      if (!closed) return;
    }
    for (int r = 0; r < t.rows_each; ++r) {
      const int64_t row = tile.row_block * t.block_rows + tile.slot(r);
      if (row >= t.rows || job.incoming.as_expected(row)) continue;
      if (job.floor.by_row) closed = is_closed(job.floor, row_sum(job.kl, row));
      if (!closed) continue;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const Sink& g = job.grad[k];
        if (g.data) store_one(static_cast<char*>(g.data) + (row * g.stride + col) * size_of(g.dtype), g.dtype, 0.0f);
      }
    }
  }
};

}  // namespace vk::cuda
