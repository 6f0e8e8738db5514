// The likelihood loop: value and gradient of one likelihood in one pass over [rows, cols].
// Compiled once per likelihood (VK_LIKELIHOOD) and instruction set (VK_ISA); the maths is in formulas/<name>.h.
// clang-format off: a path is not a division
#define VK_TEXT(x) #x
#define VK_HEADER(name) VK_TEXT(formulas/name.h)
// clang-format on
#include VK_HEADER(VK_LIKELIHOOD)

#include "block.h"

namespace vk::VK_ISA {

using F = VK_LIKELIHOOD;
constexpr int N = F::parameters;

// One block. Bit k of SCALARS: parameter k is one number, *p[k], and its gradient is summed into scalar_sums[k].
template <class T, unsigned SCALARS, bool GRAD>
static T block(const T* x, const T* const* p, T* const* g, T* scalar_sums, T weight, int n) {
  T sum = 0, s1 = 0, s2 = 0;
  const T *p0 = p[0], *p1 = N > 1 ? p[1] : nullptr, *p2 = N > 2 ? p[2] : nullptr;
  T *g0 = g[0], *g1 = N > 1 ? g[1] : nullptr, *g2 = N > 2 ? g[2] : nullptr;
  const T c1 = SCALARS & 2 ? *p1 : 0, c2 = SCALARS & 4 ? *p2 : 0;
#pragma omp simd reduction(+ : sum, s1, s2)
  for (int i = 0; i < n; ++i) {
    T q[N], d[N];
    q[0] = p0[i];
    if constexpr (N > 1) q[1] = SCALARS & 2 ? c1 : p1[i];
    if constexpr (N > 2) q[2] = SCALARS & 4 ? c2 : p2[i];
    sum += F::nll(x[i], q, d);
    if constexpr (GRAD) {
      g0[i] = weight * d[0];
      if constexpr (N > 1 && (SCALARS & 2)) s1 += d[1];
      if constexpr (N > 1 && !(SCALARS & 2)) g1[i] = weight * d[1];
      if constexpr (N > 2 && (SCALARS & 4)) s2 += d[2];
      if constexpr (N > 2 && !(SCALARS & 4)) g2[i] = weight * d[2];
    }
  }
  scalar_sums[1] = weight * s1;
  scalar_sums[2] = weight * s2;
  return sum;
}

template <class T>
using Block = T (*)(const T*, const T* const*, T* const*, T*, T, int);

template <class T>
static Block<T> choose(unsigned scalars, bool grad) {
  // the first parameter has the shape of x, so bit 0 is never set
  if constexpr (N == 1) return grad ? block<T, 0, true> : block<T, 0, false>;
  if constexpr (N == 2) {
    if (scalars & 2) return grad ? block<T, 2, true> : block<T, 2, false>;
    return grad ? block<T, 0, true> : block<T, 0, false>;
  }
  if constexpr (N == 3) {
    switch (scalars) {
      case 0:
        return grad ? block<T, 0, true> : block<T, 0, false>;
      case 2:
        return grad ? block<T, 2, true> : block<T, 2, false>;
      case 4:
        return grad ? block<T, 4, true> : block<T, 4, false>;
      default:
        return grad ? block<T, 6, true> : block<T, 6, false>;
    }
  }
}

template <class T>
static void run(const LikelihoodJob& job, const Task& task) {
  FlushDenormals guard;
  alignas(64) T x_buffer[kBlock], p_buffer[N][kBlock], g_buffer[N][kBlock];
  const T* p[N];
  T* g[N];
  T scalar_sums[kMaxParameters];
  unsigned scalars = 0;
  for (int k = 0; k < N; ++k) {
    if (job.p[k].layout != Layout::scalar) continue;
    scalars |= 1u << k;
    load_into(job.p[k].in, 0, 0, 1, p_buffer[k]);
  }
  const Block<T> value_and_gradient = choose<T>(scalars, job.grad);
  const int64_t col_task = task.col / job.grid.task_cols, row_task = task.row / job.grid.task_rows;

  for (int64_t row = task.row; row < task.row + task.rows; ++row) {
    const T weight = job.grad ? T(job.weight[row]) : T(0);
    const int64_t partial = row * job.grid.col_tasks() + col_task;
    double nll = 0, sums[kMaxParameters] = {};
    for (int64_t col = task.col; col < task.col + task.cols; col += kSum) {
      const int n = int(task.col + task.cols - col < kSum ? task.col + task.cols - col : kSum);
      const T* x = load(job.x, row, col, n, x_buffer);
      for (int k = 0; k < N; ++k) {
        p[k] = scalars >> k & 1 ? p_buffer[k] : load(job.p[k].in, row, col, n, p_buffer[k]);
        g[k] = target(job.p[k].grad, row, col, g_buffer[k]);
      }
      nll += value_and_gradient(x, p, g, scalar_sums, weight, n);
      for (int k = 0; k < N; ++k) {
        store(g[k], job.p[k].grad, row, col, n);
        if (job.p[k].sums) sums[k] += scalar_sums[k];
        if (T* row_sums = static_cast<T*>(job.p[k].row_sums)) {
          row_sums += row_task * job.grid.cols + col;
          for (int i = 0; i < n; ++i) row_sums[i] += g[k][i];
        }
      }
    }
    job.nll[partial] = nll;
    for (int k = 0; k < N; ++k)
      if (job.p[k].sums) job.p[k].sums[partial] = sums[k];
  }
}

#define VK_JOIN(a, b) a##b
#define VK_NAME(name) VK_JOIN(likelihood_, name)
extern const LikelihoodLoop VK_NAME(VK_LIKELIHOOD)[2] = {run<float>, run<double>};

}  // namespace vk::VK_ISA
