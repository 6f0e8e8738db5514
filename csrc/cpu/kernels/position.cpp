// The loop of the position kind: the log-sum-exp and the value of each position, and the gradient of its logits.
// Compiled once for each formula of the kind (VK_POSITION) and instruction set (VK_ISA); the maths is in
// formulas/<name>.h.
#include "per_formula.h"
#include VK_HEADER(VK_POSITION)

#include <type_traits>

#include "block.h"

namespace vk::VK_ISA {
namespace {  // as in likelihood.cpp: nothing here is for the linker to share

using Formula = VK_POSITION;

constexpr int kPositions = 512;  // side by side, whose levels are read before those of the next: two kilobytes
constexpr int kChunk = 8;        // levels at once: one more exponential for eight
static_assert(kPositions * kChunk >= kBlock);

// What a task holds of its positions. A level is an integer as wide as T.
template <class T>
struct Positions {
  using Level = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  alignas(64) T top[kPositions], total[kPositions], logit[kPositions], weight[kPositions];
  alignas(64) T buffer[kChunk * kPositions];
  alignas(64) Level level[kPositions];

  // -1 where x is no level
  template <class X>
  void read_as(const void* x, int64_t at, int n, int64_t levels) {
    const X* p = static_cast<const X*>(x) + at;
    for (int i = 0; i < n; ++i) level[i] = p[i] >= 0 && int64_t(p[i]) < levels ? Level(p[i]) : Level(-1);
  }
  void read_levels(const Source& x, int64_t row, int64_t col, int n, int64_t levels) {
    const int64_t at = begin_of(x, row) + col;
    switch (x.dtype) {
      case DType::uint8:
      case DType::boolean:
        return read_as<uint8_t>(x.data, at, n, levels);
      case DType::int16:
        return read_as<int16_t>(x.data, at, n, levels);
      case DType::int32:
        return read_as<int32_t>(x.data, at, n, levels);
      default:
        return read_as<int64_t>(x.data, at, n, levels);
    }
  }
};

template <class Visit>
static void for_each_block(const Task& task, Visit visit) {
  for (int64_t row = task.row; row < task.row + task.rows; ++row)
    for (int64_t col = task.col; col < task.col + task.cols; col += kPositions)
      visit(row, col, int(task.col + task.cols - col < kPositions ? task.col + task.cols - col : kPositions));
}

// ---------------------------------------------------------------- positions side by side, levels `pitch` apart

template <int N, class T>
VK_FN void add_position(const T* logits, int64_t pitch, T& top, T& total) {
  T l[N];
  VK_UNROLL
  for (int k = 0; k < N; ++k) l[k] = logits[k * pitch];
  const LogSumExp<T> s = lse_add(LogSumExp<T>{top, total}, l);
  top = s.top;
  total = s.total;
}
template <int N, class T>
[[gnu::noinline]] static void add_chunk(const T* logits, int64_t pitch, int n, T* top, T* total) {
#pragma omp simd
  for (int i = 0; i < n; ++i) add_position<N>(logits + i, pitch, top[i], total[i]);
}

// N levels from `level` on, of n positions from `col` on
template <int N, class T>
static void add_levels(const PositionJob& job, int64_t row, int64_t col, int64_t level, int n, Positions<T>& p) {
  const int64_t pitch = job.grid.cols, at = level * pitch + col;
  if (job.logits.dtype == dtype_of<T>)
    return add_chunk<N>(static_cast<const T*>(job.logits.data) + row * job.logits.stride + at, pitch, n, p.top,
                        p.total);
  for (int k = 0; k < N; ++k) load_into(job.logits, row, at + k * pitch, n, p.buffer + k * kPositions);
  add_chunk<N>(p.buffer, kPositions, n, p.top, p.total);
}

template <class T>
static void outer_levels(const PositionJob& job, int64_t row, int64_t col, int n, Positions<T>& p) {
  int64_t level = 0;
  for (; level + kChunk <= job.levels; level += kChunk) add_levels<kChunk>(job, row, col, level, n, p);
  for (; level < job.levels; ++level) add_levels<1>(job, row, col, level, n, p);
}

// ---------------------------------------------------------------- levels side by side

template <class T>
static LogSumExp<T> add_run(LogSumExp<T> s, const T* logits, int n) {
  T top = s.top, total = 0;
#pragma omp simd reduction(max : top)
  for (int i = 0; i < n; ++i) top = logits[i] > top ? logits[i] : top;
#pragma omp simd reduction(+ : total)
  for (int i = 0; i < n; ++i) total += exp_or_zero(logits[i] - top);
  return lse_join(s, {top, total});
}

template <class T>
static void inner_levels(const PositionJob& job, int64_t row, int64_t col, int n, Positions<T>& p) {
  for (int i = 0; i < n; ++i) {
    LogSumExp<T> s = lse_none<T>();
    for (int64_t level = 0; level < job.levels; level += kBlock) {
      const int run = int(job.levels - level < kBlock ? job.levels - level : kBlock);
      s = add_run(s, load(job.logits, row, (col + i) * job.levels + level, run, p.buffer), run);
    }
    p.top[i] = s.top;
    p.total[i] = s.total;
  }
}

// ---------------------------------------------------------------- forward

// The sum of n positions' values; what is no level makes a NaN of its position's total.
template <bool WEIGHTED, class T>
static T sum_values(int n, Positions<T>& p) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < n; ++i) {
    p.total[i] = p.level[i] < 0 ? T(NAN) : p.total[i];
    const T nll = Formula::nll(LogSumExp<T>{p.top[i], p.total[i]}, p.logit[i]);
    sum += WEIGHTED ? weighted(p.weight[i], nll) : nll;
  }
  return sum;
}

template <class T>
static void forward(const PositionJob& job, const Task& task) {
  FlushDenormals guard;
  Positions<T> p;
  const int64_t partial = task.col / job.grid.task_cols, partials = job.grid.col_tasks();
  for (int64_t row = task.row; row < task.row + task.rows; ++row) job.nll[row * partials + partial] = 0;
  for_each_block(task, [&](int64_t row, int64_t col, int n) {
    for (int i = 0; i < n; ++i) p.top[i] = lse_none<T>().top, p.total[i] = 0;
    job.inner ? inner_levels(job, row, col, n, p) : outer_levels(job, row, col, n, p);
    p.read_levels(job.x, row, col, n, job.levels);
    for (int i = 0; i < n; ++i) {
      const int64_t level = p.level[i] < 0 ? 0 : p.level[i];
      const int64_t at = job.inner ? (col + i) * job.levels + level : level * job.grid.cols + col + i;
      p.logit[i] = *load(job.logits, row, at, 1, p.buffer);
    }
    if (job.element_weights.data) load_into(job.element_weights, row, col, n, p.weight);
    job.nll[row * partials + partial] += job.element_weights.data ? sum_values<true>(n, p) : sum_values<false>(n, p);
    store(p.top, job.top, row, col, n);
    store(p.total, job.total, row, col, n);
  });
}

// ---------------------------------------------------------------- backward

// The gradient of one level's logits; weights: the incoming gradient of each position, 0 where WEIGHTED positions are
// missing; scaled: the same over the total.
template <bool WEIGHTED, class T, class Level>
static void outer_gradient(const T* logits, const T* top, const T* scaled, const Level* chosen, Level level,
                           const T* weights, int n, T* grad) {
  const T of_all = weights[0];
#pragma omp simd
  for (int i = 0; i < n; ++i) {
    const T weight = WEIGHTED ? weights[i] : of_all;
    const T by_logit = Formula::weight(logits[i], top[i]) * scaled[i] - (chosen[i] == level ? weight : T(0));
    grad[i] = WEIGHTED && weight == 0 ? T(0) : by_logit;
  }
}
template <class T>
static void inner_gradient(const T* logits, T top, T scaled, int n, T* grad) {
#pragma omp simd
  for (int i = 0; i < n; ++i) grad[i] = Formula::weight(logits[i], top) * scaled;
}

template <class T>
static void backward(const PositionJob& job, const Task& task) {
  FlushDenormals guard;
  Positions<T> p;
  alignas(64) T grad_buffer[kBlock];
  for_each_block(task, [&](int64_t row, int64_t col, int n) {
    const bool by_position = job.element_weights.data;
    const T weight = T(job.weight[row]);
    if (by_position) load_into(job.element_weights, row, col, n, p.weight);
    for (int i = 0; i < n; ++i) p.weight[i] = by_position ? weight * p.weight[i] : weight;
    const T* const top = static_cast<const T*>(job.top.data) + row * job.top.stride + col;
    const T* const total = static_cast<const T*>(job.total.data) + row * job.total.stride + col;
    T* const scaled = p.total;
    for (int i = 0; i < n; ++i) scaled[i] = p.weight[i] / total[i];
    p.read_levels(job.x, row, col, n, job.levels);
    if (!job.inner) {
      for (int64_t level = 0; level < job.levels; ++level) {
        const int64_t at = level * job.grid.cols + col;
        T* grad = target(job.grad, row, at, grad_buffer);
        const T* logits = load(job.logits, row, at, n, p.buffer);
        using Level = typename Positions<T>::Level;
        const auto gradient = by_position ? outer_gradient<true, T, Level> : outer_gradient<false, T, Level>;
        gradient(logits, top, scaled, p.level, Level(level), p.weight, n, grad);
        store(grad, job.grad, row, at, n);
      }
      return;
    }
    for (int i = 0; i < n; ++i) {
      for (int64_t level = 0; level < job.levels; level += kBlock) {
        const int run = int(job.levels - level < kBlock ? job.levels - level : kBlock);
        const int64_t at = (col + i) * job.levels + level, chosen = p.level[i] - level;
        T* grad = target(job.grad, row, at, grad_buffer);
        inner_gradient(load(job.logits, row, at, run, p.buffer), top[i], scaled[i], run, grad);
        if (chosen >= 0 && chosen < run) grad[chosen] -= p.weight[i];
        for (int k = 0; by_position && p.weight[i] == 0 && k < run; ++k) grad[k] = 0;
        store(grad, job.grad, row, at, run);
      }
    }
  });
}

}  // namespace

extern const PositionLoops VK_SYMBOL(position_, VK_POSITION)[2] = {{forward<float>, backward<float>},
                                                                   {forward<double>, backward<double>}};

}  // namespace vk::VK_ISA
