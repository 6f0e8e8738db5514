// The request of the segments kind: a table, whose columns have formulas of their own. backends/compiled/schemas.py
// says what each field is.
#pragma once
#include "request.h"

namespace vk {

struct SegmentsRequest {
  const Tensor &x, &packed, &logscale, &table;
  const OptionalTensor& weight;
  int64_t rows = packed.size(0), columns = table.size(0), width = packed.size(1);
  bool float64 = is_float64(packed) || is_float64(logscale);
  bool codes = x.size(1) == columns;  // else x is one-hot; where no column is categorical, both are the same
  bool logscale_by_row = logscale.dim() == 2;

  void check() const {
    VK_CHECK(packed.dim() == 2 && x.dim() == 2, "packed and x are not tables");
    rows_beside(x, rows);
    VK_CHECK(codes || x.size(1) == width, "x has ", x.size(1), " numbers a row, neither ", columns, " nor ", width);
    VK_CHECK(table.dim() == 2 && table.size(1) == 3 && table.contiguous() && dtype_of(table) == DType::int64,
             "the table of columns is not int64 [columns, 3]");
    VK_CHECK(logscale.size(logscale.dim() - 1) == columns && (!logscale_by_row || logscale.size(0) == rows),
             "logscale does not fit ", rows, " rows of ", columns, " columns");
    for (const Tensor* t : {&x, &packed, &logscale})
      VK_CHECK(t->size(t->dim() - 1) <= 1 || t->stride(t->dim() - 1) == 1 || t->numel() == 0,
               "a row of the table has gaps");
  }
  // Only where the host can read the table. kinds: how many there are
  void check_rows(int64_t kinds) const {
    const TableRow* row = table.data<TableRow>();
    for (int64_t c = 0, at = 0; c < columns; at += row[c++].width)
      VK_CHECK(
          row[c].kind >= 0 && row[c].kind < kinds && row[c].at == at && row[c].width >= 1 && row[c].width <= width - at,
          "column ", c, " of the table is none");
  }
  Source cells_of_x() const {
    Source s = source(x);
    s.rows = rows_beside(x, rows);
    return s;
  }
  // logscale as a matrix [rows, columns], whose one row stands for all where the stride is 0
  Source logscales() const {
    Source s = source(logscale);
    if (!logscale_by_row) s.stride = 0;
    return s;
  }
  ElementWeights weights() const {
    if (!weight) return {};
    const Tensor& w = *weight;
    const int64_t dims = w.dim(), cols = dims ? w.size(dims - 1) : 1;
    const DType dtype = dtype_of(w);
    VK_CHECK(dtype == DType::boolean || dtype <= DType::float16, "a weight is neither bool nor floating");
    VK_CHECK(dims <= 2 && (cols == 1 || (cols == columns && (w.stride(dims - 1) == 1 || w.numel() == 0))) &&
                 (dims < 2 || w.size(0) == x.size(0)),
             "the weight does not fit the table");
    return {w.data<void>(), dims == 2 ? w.stride(0) : 0, cols > 1, dtype, rows_beside(x, rows)};
  }
};

}  // namespace vk
