// The segments kind on the CPU: a table of columns, forward and backward.
#include "segments.h"

#include "ops.h"
#include "tensors.h"

namespace vk {
namespace {

constexpr int64_t kRowsOfTask = 32;  // whole blocks of rows (kernels/segments.cpp)

struct Run {
  Tensors grads;

  Run(const SegmentsRequest& r, Need need, Weights weight, double* nll, Sink terms) {
    const SegmentsLoops& loops = segments_loops(r.float64);
    r.check();
    r.check_rows(loops.kinds);
    SegmentsJob job{};
    const int64_t blocks = 1 + 2 * kTask / (kRowsOfTask * r.width + 1);
    job.grid = {r.rows, r.columns, kRowsOfTask * blocks, task_columns(r)};
    job.table = r.table.data<TableRow>();
    job.codes = r.codes;
    job.x = r.cells_of_x();
    job.packed = source(r.packed);
    job.logscale = r.logscales();
    job.element_weights = r.weights();
    job.weight = weight;
    job.terms = terms;
    std::vector<double> partial(nll ? r.rows * job.grid.col_tasks() : 0), sums;
    job.nll = nll ? partial.data() : nullptr;
    if (need[0]) {
      const int64_t strides[] = {r.width, 1};
      const int64_t bytes = r.rows * r.width * bytes_of(dtype_of(r.packed));
      grads.push_back(empty_pooled(r.packed.sizes(), strides, 2, r.packed.dtype(), bytes, r.packed));
      job.grad = sink(grads.back(), r.width);
    }
    if (need[1] && r.logscale_by_row) {
      grads.push_back(empty({r.rows, r.columns}, r.logscale.dtype(), r.packed));
      job.of_logscale = sink(grads.back(), r.columns);
    } else if (need[1]) {
      sums.resize(job.grid.row_tasks() * r.columns);
      job.logscale_sums = sums.data();
    }
    each_task(job.grid.tasks(), r.rows * r.width <= 2 * kTask, [&](int64_t i) { loops.run(job, job.grid[i]); });
    if (nll) {
      partial = add_up(std::move(partial), r.rows, job.grid.col_tasks());
      std::copy(partial.begin(), partial.end(), nll);
    }
    if (need[1] && !r.logscale_by_row)
      grads.push_back(tensor(sums_of_columns(sums, r.columns), 1, r.float64, r.packed));
  }

 private:
  // Few rows of a wide table are cut into columns too.
  static int64_t task_columns(const SegmentsRequest& r) {
    const int64_t fit = r.columns * kTask / (r.width ? r.width : 1);
    return fit >= r.columns ? (r.columns ? r.columns : 1) : fit < 1 ? 1 : fit;
  }
  static std::vector<double> sums_of_columns(const std::vector<double>& sums, int64_t columns) {
    std::vector<double> out(columns);
    for (size_t i = 0; i < sums.size(); ++i) out[i % columns] += sums[i];
    return out;
  }
};

}  // namespace

Tensors segments(const SegmentsRequest& r, Need need, double expected) {
  const double scale =
      r.float64 ? expected : double(float(expected));  // the incoming gradient has the type of the loss
  Tensors out(2);
  out[1] = empty({r.rows, r.columns}, torch_dtype(r.float64), r.packed);
  std::vector<double> nll(r.rows);
  Run run(r, need, {&scale, 0, 1}, nll.data(), sink(out[1], r.columns));
  out[0] = tensor(nll, 1, r.float64, r.packed);
  for (Tensor& g : run.grads) out.push_back(std::move(g));
  return out;
}

Tensors segments_backward(const Tensor& grad, const SegmentsRequest& r, Need need) {
  const std::vector<double> incoming = doubles(grad);
  return std::move(Run(r, need, {incoming.data(), 1, 1}, nullptr, {}).grads);
}

}  // namespace vk
