// What the mixture's op (mixture.cpp) and its loops (kernels/mixture.cpp, compiled once per instruction set) agree on.
#pragma once
#include "kernels.h"

namespace vk {

// How the components are packed, and the sums over samples of what each receives: in tiles that the second-level cache
// holds. A tile of n components is n constants, and then for each dimension a row with a pair of vectors for each
// vector of `lanes` components: their locations and precisions; of sums: of the first and second moment. A row ends
// with a vector of nothing, as rows a power of two apart would fall on each other in the first-level cache.
struct Tiles {
  int64_t components, dims, lanes, width;  // width of a tile, a multiple of lanes

  static constexpr int64_t kWidest = 512, kPairs = 1 << 15;
  Tiles(int64_t components, int64_t dims, int64_t lanes) : components(components), dims(dims), lanes(lanes) {
    const int64_t fit = kPairs / (dims ? dims : 1), most = fit > kWidest ? kWidest : fit < lanes ? lanes : fit;
    const int64_t tiles = (components + most - 1) / most;
    width = up((components + tiles - 1) / tiles);
  }
  int64_t up(int64_t n) const { return (n + lanes - 1) / lanes * lanes; }
  int64_t count() const { return (components + width - 1) / width; }
  int64_t first(int64_t tile) const { return tile * width; }
  int64_t inside(int64_t tile) const { return components - first(tile) < width ? components - first(tile) : width; }
  int64_t size_of(int64_t tile) const { return up(inside(tile)) + dims * (2 * up(inside(tile)) + lanes); }
  int64_t offset(int64_t tile) const { return tile * size_of(0); }
  int64_t size() const { return offset(count() - 1) + size_of(count() - 1); }
};

// All matrices are dense, row after row, and of the loops' type.
struct MixtureJob {
  Tiles tiles;
  Grid grid;                                     // backward: samples, by tiles
  const void* z = nullptr;                       // [samples, dims]
  const void *loc = nullptr, *logvar = nullptr;  // [components, dims]
  const void* log_weight = nullptr;              // [components]
  void* packed = nullptr;                        // Tiles
  double *peak = nullptr, *log_sum = nullptr;    // [samples]: log p = peak + log_sum; peak is the largest term
  bool together = false;  // backward takes the forward pass along: it needs all scores of a sample at hand, in one tile
  const double* weight = nullptr;                    // [samples], the incoming gradient
  void* grad_z = nullptr;                            // [col_tasks, samples, dims]
  void* sums = nullptr;                              // [row_tasks], Tiles
  double* totals = nullptr;                          // Tiles, over all samples
  void *grad_loc = nullptr, *grad_logvar = nullptr;  // null: not wanted
  void* grad_log_weight = nullptr;
};

// forward: tasks of rows; pack, add and finish: of tiles, as task.col; backward: of both
struct MixtureLoops {
  int lanes;
  void (*pack)(const MixtureJob&, const Task&);
  void (*forward)(const MixtureJob&, const Task&);
  void (*backward)(const MixtureJob&, const Task&);
  void (*add)(const MixtureJob&, const Task&);
  void (*finish)(const MixtureJob&, const Task&);
};
const MixtureLoops& mixture_loops(bool float64);

}  // namespace vk
