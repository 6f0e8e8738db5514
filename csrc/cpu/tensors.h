// Between torch's tensors and the loops' matrices.
#pragma once
#include <vector>

#include "kernels.h"
#include "pool.h"
#include "torch_abi.h"

namespace vk {

inline DType dtype_of(const Tensor& t) {
  static const int32_t codes[] = {aoti_torch_dtype_float32(), aoti_torch_dtype_float64(), aoti_torch_dtype_bfloat16(),
                                  aoti_torch_dtype_float16(), aoti_torch_dtype_uint8()};
  const int32_t code = t.dtype();
  for (int i = 0; i < 5; ++i)
    if (codes[i] == code) return DType(i);
  fail("a tensor of dtype code ", code, " came; float32, float64, bfloat16, float16 and uint8 are known");
}

inline int64_t bytes_of(DType t) {
  return t == DType::uint8 ? 1 : t == DType::float64 ? 8 : t == DType::float32 ? 4 : 2;
}

inline int32_t torch_dtype(bool float64) { return float64 ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32(); }

inline int64_t elements_after_batch(const Tensor& t) {
  int64_t n = 1;
  for (int64_t i = 1; i < t.dim(); ++i) n *= t.size(i);
  return n;
}

// Each sample fills one gapless run of memory, in whatever order of its dimensions.
inline bool dense_after_batch(const Tensor& t) {
  const int64_t dims = t.dim(), cols = elements_after_batch(t);
  int64_t filled = 1;
  while (filled < cols && t.numel() > 0) {  // find the dimension that continues the run
    int64_t next = 0;
    for (int64_t i = 1; i < dims; ++i)
      if (t.size(i) > 1 && t.stride(i) == filled) next = t.size(i);
    if (!next) return false;
    filled *= next;
  }
  return true;
}

// `t` without its first dimension has the order of `like` without its first dimensions
inline bool same_order(const Tensor& t, int64_t first, const Tensor& like) {
  if (t.numel() == 0) return true;
  for (int64_t i = 1; i < like.dim(); ++i)
    if (t.size(i - 1 + first) != like.size(i) || (like.size(i) > 1 && t.stride(i - 1 + first) != like.stride(i)))
      return false;
  return true;
}

inline Source source(const Tensor& t) { return {t.data<void>(), t.dim() ? t.stride(0) : 0, dtype_of(t)}; }

// A new tensor in the order of `t`, its samples one after another.
inline Tensor empty_in_order(const Tensor& t, int64_t cols, Sink& sink) {
  std::vector<int64_t> strides(t.strides(), t.strides() + t.dim());
  if (t.dim()) strides[0] = cols;
  Tensor out = empty_pooled(t.sizes(), strides.data(), t.dim(), t.dtype(), t.numel() * bytes_of(dtype_of(t)), t);
  sink = {out.mut<void>(), cols, dtype_of(t)};
  return out;
}

// the values of a [n] or 0-d tensor of float32 or float64
inline std::vector<double> doubles(const Tensor& t) {
  std::vector<double> out(t.numel());
  const int64_t stride = t.dim() ? t.stride(t.dim() - 1) : 0;
  VK_CHECK(t.dim() <= 1 || t.contiguous(), "a small tensor is not contiguous");
  for (size_t i = 0; i < out.size(); ++i) {
    switch (dtype_of(t)) {
      case DType::float32:
        out[i] = t.data<float>()[i * stride];
        break;
      case DType::float64:
        out[i] = t.data<double>()[i * stride];
        break;
      default:
        fail("weights and KL are float32 or float64");
    }
  }
  return out;
}

template <class From>
Tensor tensor(const std::vector<From>& values, const int64_t* sizes, int64_t dim, bool float64, const Tensor& like) {
  std::vector<int64_t> strides(dim);
  int64_t stride = 1;
  for (int64_t i = dim; i-- > 0; stride *= sizes[i] > 0 ? sizes[i] : 1) strides[i] = stride;
  Tensor out = empty(sizes, strides.data(), dim, torch_dtype(float64), like);
  for (size_t i = 0; i < values.size(); ++i)
    float64 ? out.mut<double>()[i] = values[i] : out.mut<float>()[i] = float(values[i]);
  return out;
}

// [rows, tasks] partial sums to [rows], in the order of the tasks
inline std::vector<double> add_up(const std::vector<double>& partial, int64_t rows, int64_t tasks) {
  if (tasks == 1) return partial;
  std::vector<double> out(rows, 0.);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t t = 0; t < tasks; ++t) out[r] += partial[r * tasks + t];
  return out;
}

// Threads only where they pay: a hot parallel region costs 1 us, about what 8192 elements take.
template <class Job>
void run(void (*loop)(const Job&, const Task&), const Job& job) {
  const int64_t tasks = job.grid.tasks();
  auto some = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) loop(job, job.grid[i]);
  };
  tasks < 2 ? some(0, tasks) : parallel_for(0, tasks, 1, some);
}

inline Grid latent_grid(int64_t rows, int64_t cols) {
  const int64_t task_cols = cols < kBlock ? cols : kBlock;
  return {rows, cols, 8192 / (task_cols ? task_cols : 1) + 1, task_cols ? task_cols : 1};
}

}  // namespace vk
