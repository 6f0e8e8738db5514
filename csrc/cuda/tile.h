// A block's place in its Tiling, and the sums of a block.
#pragma once
#include "gather.h"
#include "jobs.h"

namespace vk::cuda {

// Sums of the block, ROWS a thread: of the value, of each parameter but the first, and of log_total, which a formula of
// kMaxParameters does not have. Those of a row lie side by side.
template <int ROWS>
struct Sums {
  union {
    double of[kMaxParameters][kThreads * ROWS];
    double columns[kThreads * kColumns];
  };
  unsigned last;
};

// What a thread of the block has to do.
struct Tile {
  int64_t row_block, piece, first_col;
  int lane, group, groups, cols;
  VK_GPU int slot(int r) const { return r * groups + group; }  // of its r-th row, in the block
};

VK_GPU Tile tile_of(const Tiling& t, int64_t block, int thread) {
  Tile tile;
  tile.row_block = block / t.pieces;
  tile.piece = block - tile.row_block * t.pieces;
  tile.first_col = tile.piece * t.piece;
  tile.lane = thread & (t.lanes - 1);
  tile.group = thread / t.lanes;
  tile.groups = kThreads / t.lanes;
  const int64_t left = t.cols - tile.first_col;
  tile.cols = int(left < t.piece ? left : t.piece);
  return tile;
}

// Which of the V elements from `first` on are in [0, n): bits
template <int V>
VK_GPU unsigned inside(int first, int n) {
  const int low = first < 0 ? -first : 0, left = n - first;
  const int high = left < 0 ? 0 : left < V ? left : V;
  return ((1u << high) - 1) & ~((1u << low) - 1);
}

// The sums of `rows` rows of `lanes` numbers each, in a fixed order, in two steps with a barrier between them: first 16
// threads a row, then one.
constexpr int kFold = 16;
VK_GPU void fold(double* s, int rows, int lanes, int thread) {
  if (lanes <= kFold) return;
  for (int i = thread; i < rows * kFold; i += kThreads) {
    double* row = s + i / kFold * lanes;
    double sum = 0;
    for (int j = i % kFold; j < lanes; j += kFold) sum += row[j];
    row[i % kFold] = sum;
  }
}
VK_GPU double folded(const double* s, int row, int lanes) {
  double sum = 0;
  for (int j = 0; j < (lanes < kFold ? lanes : kFold); ++j) sum += s[row * lanes + j];
  return sum;
}

// [rows, pieces]: the block's rows, from its sums
VK_GPU void write_rows(const Tiling& t, const Tile& tile, const double* s, double* out, int thread) {
  for (int i = thread; i < t.block_rows; i += kThreads) {
    const int64_t row = tile.row_block * t.block_rows + i;
    if (row < t.rows) out[row * t.pieces + tile.piece] = folded(s, i, t.lanes);
  }
}

// Each thread has the sums of V columns, `lanes` apart: over the threads above one another, into [row_blocks, cols], in
// two steps.
template <class T, int V>
VK_GPU void share_columns(const Tiling& t, const Tile& tile, const T (&columns)[V], T* s) {
#pragma unroll
  for (int j = 0; j < V; ++j) s[(tile.group * V + j) * t.lanes + tile.lane] = columns[j];
}
template <int V, class T>
VK_GPU void write_columns(const Tiling& t, const Tile& tile, const T* s, void* out, int thread) {
  const int width = t.lanes * V;
  for (int c = thread; c < tile.cols; c += kThreads) {
    T sum = 0;
    for (int g = 0; g < tile.groups; ++g) sum += s[g * width + c];
    static_cast<T*>(out)[tile.row_block * t.cols + tile.first_col + c] = sum;
  }
}

}  // namespace vk::cuda
