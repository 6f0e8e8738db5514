// What the op of tables (segments.cpp) and its loop (kernels/segments.cpp, compiled once per instruction set) agree on.
#pragma once
#include "kernels.h"
#include "segments_request.h"

namespace vk {

// [rows, columns] cells. The numbers of a row of `packed` are those of its columns, one after the other.
struct SegmentsJob {
  Grid grid;  // rows and columns
  const TableRow* table;
  bool codes;
  Source x, packed, logscale;
  ElementWeights element_weights;
  Weights weight;                   // of the rows, for the gradients
  double* nll = nullptr;            // [rows, col_tasks]; null: not wanted
  Sink terms;                       // [rows, columns] of the compute type; null: not wanted
  Sink grad;                        // of packed
  Sink of_logscale;                 // [rows, columns]; null: not wanted, or wanted as
  double* logscale_sums = nullptr;  // [row_tasks, columns]
};

struct SegmentsLoops {
  int64_t kinds;
  void (*run)(const SegmentsJob&, const Task&);
};
const SegmentsLoops& segments_loops(bool float64);

}  // namespace vk
