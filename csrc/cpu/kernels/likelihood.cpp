// The likelihood loop: value and gradient of one likelihood in one pass over [rows, cols].
// Compiled once per likelihood (VK_LIKELIHOOD) and instruction set (VK_ISA); the maths is in formulas/<name>.h.
// clang-format off: a path is not a division
#define VK_TEXT(x) #x
#define VK_HEADER(name) VK_TEXT(formulas/name.h)
// clang-format on
#include VK_HEADER(VK_LIKELIHOOD)

#include "block.h"

namespace vk::VK_ISA {
namespace {  // each likelihood has a Block<float, 0, true> of its own: the linker must not take one for all

using F = VK_LIKELIHOOD;
constexpr int N = F::parameters;
template <class T>
constexpr bool kLog1p = requires(T x, T (&p)[N]) { F::nll(x, p, p).e; };  // the formula leaves a logarithm to be taken

// The sum of log(1 + e[i]), n <= kSum; e is overwritten. Halves are joined, in whole vectors, until one is left.
template <class T>
static T sum_log1p(T* e, int n) {
  constexpr int kLanes = kSum / 64;
  int vectors = (n + kLanes - 1) / kLanes;
  for (int i = n; i < vectors * kLanes; ++i) e[i] = 0;
  while (vectors > 1) {
    const int half = (vectors + 1) / 2;
#pragma omp simd
    for (int i = 0; i < (vectors - half) * kLanes; ++i) e[i] = join_log1p(e[i], e[i + half * kLanes]);
    vectors = half;
  }
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < kLanes; ++i) sum += log1p(e[i]);
  return sum;
}

// Bit k of SCALARS: parameter k is one number, and its gradient is summed.
template <class T, unsigned SCALARS, bool GRAD>
struct Block {
  const T *x, *p0, *p1, *p2;
  T *g0, *g1, *g2, *e;
  T c1, c2, weight;

  // Element i: its value is returned, gradients and e are written, and gradients of numbers go to d1 and d2. The arrays
  // live in a function of their own: as variables of the vectorised loop they would be laid out in memory, lane by
  // lane.
  VK_INLINE T element(int i, T& d1, T& d2) const {
    T q[N], d[N];
    q[0] = p0[i];
    if constexpr (N > 1) q[1] = SCALARS & 2 ? c1 : p1[i];
    if constexpr (N > 2) q[2] = SCALARS & 4 ? c2 : p2[i];
    const PlusLog1p<T> nll = parts(F::nll(x[i], q, d));
    if constexpr (kLog1p<T>) e[i] = nll.e;
    d1 = d2 = 0;
    if constexpr (GRAD) {
      g0[i] = weight * d[0];
      if constexpr (N > 1) (SCALARS & 2 ? d1 : g1[i]) = SCALARS & 2 ? d[1] : weight * d[1];
      if constexpr (N > 2) (SCALARS & 4 ? d2 : g2[i]) = SCALARS & 4 ? d[2] : weight * d[2];
    }
    return nll.value;
  }

  static T run(const T* x, const T* const* p, T* const* g, T* scalar_sums, T weight, int n) {
    const T *p1 = N > 1 ? p[1] : nullptr, *p2 = N > 2 ? p[2] : nullptr;
    T *g1 = N > 1 ? g[1] : nullptr, *g2 = N > 2 ? g[2] : nullptr;
    alignas(64) T e[kLog1p<T> ? kSum : 1];
    const Block b{x, p[0], p1, p2, g[0], g1, g2, e, SCALARS & 2 ? *p1 : T(0), SCALARS & 4 ? *p2 : T(0), weight};
    T sum = 0, s1 = 0, s2 = 0;
#pragma omp simd reduction(+ : sum, s1, s2)
    for (int i = 0; i < n; ++i) {
      T d1, d2;
      sum += b.element(i, d1, d2);
      if constexpr (SCALARS & 2) s1 += d1;
      if constexpr (SCALARS & 4) s2 += d2;
    }
    scalar_sums[1] = weight * s1;
    scalar_sums[2] = weight * s2;
    if constexpr (kLog1p<T>) sum += sum_log1p(e, n);
    return sum;
  }
};

template <class T>
using BlockLoop = T (*)(const T*, const T* const*, T* const*, T*, T, int);

template <class T>
static BlockLoop<T> choose(unsigned scalars, bool grad) {
  // the first parameter has the shape of x, so bit 0 is never set
  if constexpr (N == 1) return grad ? Block<T, 0, true>::run : Block<T, 0, false>::run;
  if constexpr (N == 2) {
    if (scalars & 2) return grad ? Block<T, 2, true>::run : Block<T, 2, false>::run;
    return grad ? Block<T, 0, true>::run : Block<T, 0, false>::run;
  }
  if constexpr (N == 3) {
    switch (scalars) {
      case 0:
        return grad ? Block<T, 0, true>::run : Block<T, 0, false>::run;
      case 2:
        return grad ? Block<T, 2, true>::run : Block<T, 2, false>::run;
      case 4:
        return grad ? Block<T, 4, true>::run : Block<T, 4, false>::run;
      default:
        return grad ? Block<T, 6, true>::run : Block<T, 6, false>::run;
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
  const BlockLoop<T> value_and_gradient = choose<T>(scalars, job.grad);
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

}  // namespace

#define VK_JOIN(a, b) a##b
#define VK_NAME(name) VK_JOIN(likelihood_, name)
extern const LikelihoodLoop VK_NAME(VK_LIKELIHOOD)[2] = {run<float>, run<double>};

}  // namespace vk::VK_ISA
