// Between torch's tensors and the loops' matrices.
#pragma once
#include "kernels.h"
#include "pool.h"
#include "request.h"

namespace vk {

// the values of a [n] or 0-d tensor of float32 or float64
inline std::vector<double> doubles(const Tensor& t) {
  const DType dtype = dtype_of(t);
  VK_CHECK(dtype == DType::float32 || dtype == DType::float64, "weights and KL are float32 or float64");
  VK_CHECK(t.dim() <= 1 || t.contiguous(), "a small tensor is not contiguous");
  const int64_t stride = t.dim() ? t.stride(t.dim() - 1) : 0;
  std::vector<double> out(t.numel());
  const auto read = [&](const auto* values) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = values[i * stride];
  };
  dtype == DType::float64 ? read(t.data<double>()) : read(t.data<float>());
  return out;
}

// values[i] as the compute type
template <class From>
void copy_to(void* out, bool float64, const std::vector<From>& values) {
  if (float64)
    std::copy(values.begin(), values.end(), static_cast<double*>(out));
  else
    for (size_t i = 0; i < values.size(); ++i) static_cast<float*>(out)[i] = float(values[i]);
}
// A new tensor [n] or 0-d
template <class From>
Tensor tensor(const std::vector<From>& values, int64_t dim, bool float64, const Tensor& like) {
  const int64_t n = int64_t(values.size());
  Tensor out = empty_contiguous(&n, dim, torch_dtype(float64), like);
  copy_to(out.mut<void>(), float64, values);
  return out;
}

// The sum of n numbers, always in one order; eight sums side by side, because an addition waits for the one before it
template <class T>
double sum_of(const T* values, int64_t n) {
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; ++k) sums[k] += values[i + k];
  for (; i < n; ++i) sums[i % 8] += values[i];
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}
inline double sum_of(const std::vector<double>& values) { return sum_of(values.data(), int64_t(values.size())); }

// [rows, tasks] partial sums become [rows], in the order of the tasks.
inline std::vector<double> add_up(std::vector<double> partial, int64_t rows, int64_t tasks) {
  if (tasks == 1) return partial;
  if (tasks == 0) return std::vector<double>(rows, 0.);
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (int64_t t = 0; t < tasks; ++t) sum += partial[r * tasks + t];
    partial[r] = sum;
  }
  partial.resize(rows);
  return partial;
}

template <class Job>
using Loop = void (*)(const Job&, const Task&);

// visit(i) for each of these tasks; on threads if the work is not small. A parallel region costs 1 us, which is about
// what 8192 elements of a cheap formula take.
template <class Visit>
void each_task(int64_t tasks, bool small, const Visit& visit) {
  const auto range = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) visit(i);
  };
  small ? range(0, tasks) : parallel_for(0, tasks, 1, range);
}

// The tasks of two jobs, side by side. A job without a row has no task.
template <class A, class B>
void run(Loop<A> loop, const A& job, Loop<B> other_loop, const B& other) {
  const int64_t first = job.grid.tasks(), tasks = first + other.grid.tasks();
  each_task(tasks, job.grid.elements() + other.grid.elements() <= 2 * kTask,
            [&](int64_t i) { i < first ? loop(job, job.grid[i]) : other_loop(other, other.grid[i - first]); });
}
template <class Job>
void run(Loop<Job> loop, const Job& job) {
  run(loop, job, loop, Job{});
}

inline Grid latent_grid(int64_t rows, int64_t cols) {
  const int64_t task_cols = cols < kBlock ? cols : kBlock;
  return {rows, cols, kTask / (task_cols ? task_cols : 1) + 1, task_cols ? task_cols : 1};
}

}  // namespace vk
