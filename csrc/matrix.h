// What the kernels of the CPU and of the GPU read and write: matrices of rows (samples) and columns.
#pragma once
#include <cstdint>

#include "scalar.h"

namespace vk {

enum class DType : int32_t { float32, float64, bfloat16, float16, uint8, int16, int32, int64, boolean };

constexpr int64_t kAllRows = INT64_MAX;

// A matrix [rows, cols]: row r begins `stride` elements after row r - 1; stride 0 repeats one row for all. With `rows`,
// the matrix has so many rows, and they are repeated in their order: row r is row r % rows (vae_kernels/core/draws.py).
struct Source {
  const void* data = nullptr;
  int64_t stride = 0;
  DType dtype = DType::float32;
  int64_t rows = kAllRows;
};
struct Sink {
  void* data = nullptr;  // null: not wanted
  int64_t stride = 0;
  DType dtype = DType::float32;
};

// What a column of a table is, and where the first of its numbers lies: vae_kernels/formulas/columns.py
struct TableRow {
  int64_t kind, width, at;
};

// Row r of a matrix that has so many rows. U: an unsigned integer that holds r
template <class U = uint64_t>
VK_FN int64_t row_of(int64_t r, int64_t rows) {
  return r < rows ? r : int64_t(U(r) % U(rows));
}

constexpr int kMaxParameters = 4;  // of a likelihood

// How a parameter or a weight lies against a matrix [rows, cols]: the numbers of `Layout` in
// vae_kernels/core/objective.py.
enum class Layout {
  full,         // [rows, cols]: one number for each element
  per_feature,  // [cols]: one row for all samples
  number,       // 0-d: one number for all
  per_sample,   // [rows]: one number for each sample
};

// The weights of the elements of a matrix. The weight of the element (r, c) is at data[r * row_stride + c *
// col_stride]; a stride of 0 repeats one number. Where the weight is 0, the element is missing: its value and its
// gradients are exactly 0, even where the element is NaN.
struct ElementWeights {
  const void* data = nullptr;  // null: all weights are 1
  int64_t row_stride = 0, col_stride = 0;
  DType dtype = DType::float32;  // boolean, or a floating point type
  int64_t rows = kAllRows;       // as in Source
};

}  // namespace vk
