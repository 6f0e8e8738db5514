// The segments kind on the GPU: a table of columns, forward and backward.
#include "ops.h"
#include "plan.h"
#include "segments_jobs.h"

namespace vk::cuda {
namespace {

Tensors run(const SegmentsRequest& r, Need need, Weight incoming, void* terms) {
  r.check();
  SegmentsJob job{};
  job.rows = r.rows;
  job.columns = r.columns;
  job.table = r.table.data<TableRow>();
  job.codes = r.codes;
  job.x = beside(r.cells_of_x(), r.rows);
  job.packed = source(r.packed);
  job.logscale = r.logscales();
  job.weights = r.weights();
  job.incoming = incoming;
  job.terms = terms;
  Tensors grads;
  if (need[0]) {
    grads.push_back(empty({r.rows, r.packed.size(1)}, r.packed.dtype(), r.packed));
    job.grad = sink(grads.back(), r.packed.size(1));
  }
  const int64_t row_blocks = divide_up(r.rows, kRowsOfTable);
  ColumnSums sums{nullptr, row_blocks, r.columns, 1, nullptr};
  if (need[1] && r.logscale_by_row) {
    grads.push_back(empty({r.rows, r.columns}, r.logscale.dtype(), r.packed));
    job.of_logscale = sink(grads.back(), r.columns);
  } else if (need[1]) {
    grads.push_back(empty({r.columns}, torch_dtype(r.float64), r.packed));
    sums.out = grads.back().mut<void>();
  }
  const Workspace parts(r.packed, [&](Workspace& w) {
    if (sums.out) job.parts = w.take(row_blocks * r.columns);
  });
  const Stream stream(r.packed);
  if (r.rows * r.columns > 0) check(segments_kernel(job, r.float64, row_blocks * r.columns, stream.get()));
  if (!sums.out) return grads;
  sums.partial = job.parts;
  std::vector<Workspace> folded;
  while (has_many_row_blocks(sums)) folded.push_back(fold_row_blocks(sums, r.float64, r.packed, stream));
  add_up_columns(sums, at_least_one(sums.row_blocks), r.float64, stream);
  return grads;
}

}  // namespace

Tensors segments(const SegmentsRequest& r, Need need, double expected) {
  const int64_t rows = r.rows, columns = r.columns;
  Tensors out(2);
  out[0] = empty({rows}, torch_dtype(r.float64), r.packed);
  out[1] = empty({rows, columns}, torch_dtype(r.float64), r.packed);
  const double scale = r.float64 ? expected : double(float(expected));
  for (Tensor& g : run(r, need, {nullptr, 0, false, scale}, out[1].mut<void>())) out.push_back(std::move(g));
  const Stream stream(r.packed);
  const int64_t bytes = r.float64 ? 8 : 4;
  for (int64_t first = 0; first < rows; first += kMostBlocks) {  // a block a row: there may be more than a grid has
    const int64_t n = rows - first < kMostBlocks ? rows - first : kMostBlocks;
    const Weight values{out[1].mut<char>() + first * columns * bytes, 1, r.float64, 1};
    check(rows_sum_kernel({values, columns, out[0].mut<char>() + first * bytes}, r.float64, n, stream.get()));
  }
  return out;
}

Tensors segments_backward(const Tensor& grad, const SegmentsRequest& r, Need need) {
  return run(r, need, weight(grad), nullptr);
}

}  // namespace vk::cuda
