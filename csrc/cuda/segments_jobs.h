// What the op of tables (segments.cpp) hands to its kernel. No CUDA and no torch in it. Pointers are to device memory.
#pragma once
#include "jobs.h"

namespace vk::cuda {

constexpr int64_t kRowsOfTable = 256;  // of a block: a row for each thread

// [rows, columns] cells. A block has rows of one column.
struct SegmentsJob {
  int64_t rows, columns;
  const TableRow* table;
  bool codes;
  Source x, packed, logscale;
  ElementWeights weights;
  Weight incoming;   // by row
  void* terms;       // [rows, columns] of the compute type; null: not wanted
  Sink grad;         // of packed
  Sink of_logscale;  // [rows, columns]; null: not wanted, or wanted as
  void* parts;       // [row_blocks, columns] sums over the rows of a block, of the compute type
};

Launched segments_kernel(const SegmentsJob&, bool float64, int64_t blocks, void* stream);

}  // namespace vk::cuda
