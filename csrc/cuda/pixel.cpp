// The pixel kind on the GPU.
#include "ops.h"
#include "plan.h"

namespace vk::cuda {
namespace {

PixelJob job_of(const PixelRequest& r) {
  PixelJob job{};
  job.rows = r.rows;
  job.cols = r.cols;
  job.channels = r.channels;
  job.numbers = r.numbers;
  job.inner = r.inner;
  VK_CHECK(r.options.size() == std::size(job.options), "a likelihood of pixels has ", std::size(job.options),
           " options, and ", r.options.size(), " came");
  for (size_t i = 0; i < r.options.size(); ++i) job.options[i] = r.options[i];
  job.x = beside(r.channels_of_x(), r.rows);
  job.packed = source(r.packed);
  job.weights = r.weights;
  job.incoming = {kOne, false, 0};
  return job;
}

void run(const PixelRequest& r, const PixelJob& job, const Stream& stream) {
  const int64_t pixels = job.rows * job.cols;
  if (pixels > 0) check(pixel_launch(r.likelihood)(job, r.float64, divide_up(pixels, kBlockThreads), stream.get()));
}

}  // namespace

Tensors pixel(const PixelRequest& r, bool ahead, double expected) {
  const int64_t rows = r.rows, cols = r.cols;
  PixelJob job = job_of(r);
  job.incoming.factor = expected;
  Tensors out;
  out.push_back(empty({rows}, torch_dtype(r.float64), r.packed));
  if (ahead) out.push_back(empty_in_order(r.packed, r.numbers * cols, allocate, job.grad));
  const Workspace workspace(r.packed, [&](Workspace& w) { job.values = w.take(rows * cols); });
  const Stream stream(r.packed);
  run(r, job, stream);
  for (int64_t first = 0; first < rows; first += kMostBlocks) {  // a block a row: there may be more than a grid has
    const int64_t n = rows - first < kMostBlocks ? rows - first : kMostBlocks;
    void* const sums = out[0].mut<char>() + first * (r.float64 ? 8 : 4);
    check(rows_sum_kernel({{job.values + first * cols, 1, true, 1}, cols, sums}, r.float64, n, stream.get()));
  }
  return out;
}

Tensor pixel_backward(const Tensor& grad, const PixelRequest& r) {
  PixelJob job = job_of(r);
  job.incoming = {weight(grad), false, 0};
  Tensor out = empty_in_order(r.packed, r.numbers * r.cols, allocate, job.grad);
  run(r, job, Stream(r.packed));
  return out;
}

void pixel_correct_(const Tensor& out, const Tensor& grad, double expected, const PixelRequest& r) {
  PixelJob job = job_of(r);
  VK_CHECK(out.dtype() == r.packed.dtype() && out.numel() == r.packed.numel(),
           "the gradient is not of the type and size of packed");
  job.incoming = {weight(grad), true, r.float64 ? expected : double(float(expected))};  // it has the type of the loss
  job.grad = sink(out, r.numbers * r.cols);
  run(r, job, Stream(r.packed));
}

Tensor pixel_log_prob(const PixelRequest& r) {
  PixelJob job = job_of(r);
  Tensor out = r.empty_terms();
  job.terms = out.mut<void>();
  run(r, job, Stream(r.packed));
  return out;
}

}  // namespace vk::cuda
