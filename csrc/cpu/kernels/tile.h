// Tiles: short rows go together through a loop, so that they still fill the vectors.
#pragma once
#include "block.h"

namespace vk::VK_ISA {
namespace {  // each unit has its own: the linker must not take one for all

// A tile is several whole rows, or a part of one, as a flat run of at most kBlock elements: short rows of latents
// still fill the vectors.
struct Tile {
  int64_t row, rows, col, cols;
  int n() const { return int(rows * cols); }
};

template <class Visit>
static void for_each_tile(const Grid& grid, const Task& task, Visit visit) {
  // a tile of several rows has all the columns: it is contiguous where the matrix is
  const int64_t rows = task.cols == grid.cols && task.cols < kBlock ? kBlock / task.cols : 1;
  for (int64_t row = task.row; row < task.row + task.rows; row += rows) {
    const int64_t left = task.row + task.rows - row;
    for (int64_t col = task.col; col < task.col + task.cols; col += kBlock) {
      const int64_t cols = task.col + task.cols - col < kBlock ? task.col + task.cols - col : kBlock;
      visit(Tile{row, left < rows ? left : rows, col, cols});
    }
  }
}

template <class T, bool COUNTS = false>
static const T* load_tile(const Source& s, const Tile& t, int64_t first_row, T* buffer) {
  if (t.rows == 1 || (s.stride == t.cols && in_order(s, first_row + t.row, t.rows)))
    return load<T, COUNTS>(s, first_row + t.row, t.col, t.n(), buffer);
  for (int64_t r = 0; r < t.rows; ++r)
    load_into<T, COUNTS>(s, first_row + t.row + r, t.col, int(t.cols), buffer + r * t.cols);
  return buffer;
}
template <class T>
static void store_tile(const T* from, const Sink& s, const Tile& t, int64_t first_row = 0) {
  if (!s.data) return;
  if (t.rows == 1 || s.stride == t.cols) return store(from, s, first_row + t.row, t.col, t.n());
  for (int64_t r = 0; r < t.rows; ++r) store(from + r * t.cols, s, first_row + t.row + r, t.col, int(t.cols));
}

template <class T>
static void fill(T value, int n, T* to) {
  for (int i = 0; i < n; ++i) to[i] = value;
}

// A matrix of this layout as the tile reads it: one number for each element of the tile.
template <class T, bool COUNTS = false>
static const T* load_tile(const Source& s, Layout layout, const Tile& t, T* buffer) {
  if (layout == Layout::full) return load_tile<T, COUNTS>(s, t, 0, buffer);
  const bool of_row = layout == Layout::per_sample;
  T number;
  for (int64_t r = 0; r < t.rows; ++r) {
    T* to = buffer + r * t.cols;
    if (layout == Layout::per_feature) {
      r == 0 ? load_into(s, 0, t.col, int(t.cols), to) : (void)std::copy(buffer, buffer + t.cols, to);
    } else {
      if (r == 0 || of_row) load_into(s, of_row ? t.row + r : 0, 0, 1, &number);
      fill(number, int(t.cols), to);
    }
  }
  return buffer;
}

// The first parameter of the elements of the tile, shifted
template <class T>
static const T* shift_tile(const T* from, const Shift* shift, const Tile& t, T* to) {
  for (int64_t r = 0; r < t.rows; ++r) shift_into(from + r * t.cols, shift[t.row + r], int(t.cols), to + r * t.cols);
  return to;
}

// The sum of a row, or of a part of one. Of a row that is shorter than a vector, the plain loop is the faster one.
template <class T>
static T sum_of(const T* p, int n) {
  T sum = 0;
  if (n < kVector) {
    for (int i = 0; i < n; ++i) sum += p[i];
    return sum;
  }
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < n; ++i) sum += p[i];
  return sum;
}

// The weight of its row for each element of the tile
template <class T>
static void spread(const Weights& weights, const Tile& t, T* to) {
  if (!weights.stride) return fill(T(weights[0]), t.n(), to);
  if (t.cols == 1)  // in a loop of its own, which is vectorised
    for (int64_t r = 0; r < t.rows; ++r) to[r] = T(weights[t.row + r]);
  else
    for (int64_t r = 0; r < t.rows; ++r) fill(T(weights[t.row + r]), int(t.cols), to + r * t.cols);
}

// to[r] = the sum of row r of the tile, times the factor
template <class T, class To>
static void sum_rows(const T* values, const Tile& t, double factor, To* to) {
  if (t.cols == 1)
    for (int64_t r = 0; r < t.rows; ++r) to[r] = To(factor * values[r]);
  else
    for (int64_t r = 0; r < t.rows; ++r) to[r] = To(factor * sum_of(values + r * t.cols, int(t.cols)));
}

}  // namespace
}  // namespace vk::VK_ISA
