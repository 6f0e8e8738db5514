// Rows of few columns: several rows go together through one loop. Compiled as element_block.h is.
#pragma once
#include "element_block.h"

namespace vk::VK_ISA {
namespace {

// Up to so many columns a row is too short for a loop of its own: to begin and to end a loop costs about 50 ns.
constexpr int kNarrow = 128;

// Values and gradients of n elements, each with the weight of its row and, if W is T, a weight of its own.
template <class T, class W>
struct NarrowBlock {
  const T *x, *p0, *p1 = nullptr, *p2 = nullptr, *p3 = nullptr, *row = nullptr;
  const W* w = nullptr;
  T *values = nullptr, *g0 = nullptr, *g1 = nullptr, *g2 = nullptr, *g3 = nullptr;

  // in a function of its own, as Block::element
  VK_INLINE void element(int i) const {
    T q[N], d[N];
    q[0] = p0[i];
    if constexpr (N > 1) q[1] = p1[i];
    if constexpr (N > 2) q[2] = p2[i];
    if constexpr (N > 3) q[3] = p3[i];
    const PlusLog1p<T> nll = parts(VK_LIKELIHOOD::nll(x[i], q, d));
    const Own<W, T> own(w, i);
    const T both = own.times(row[i]);
    T value = nll.value;
    if constexpr (kLog1p<VK_LIKELIHOOD, T>) value += log1p(nll.e);
    values[i] = own.kept(own.times(value));
    g0[i] = own.kept(both * d[0]);
    if constexpr (N > 1) g1[i] = own.kept(both * d[1]);
    if constexpr (N > 2) g2[i] = own.kept(both * d[2]);
    if constexpr (N > 3) g3[i] = own.kept(both * d[3]);
  }

  [[gnu::noinline]] void run_vectors(int given) const {
    const int n = in_vectors(given);
    const NarrowBlock b = *this;
#pragma omp simd
    for (int i = 0; i < n; ++i) b.element(i);
  }

  void run(int n) const {
    const int whole = in_vectors(n), rest = n - whole;
    run_vectors(whole);
    if (!rest) return;
    alignas(64) T in[N + 3][kVector], out[N + 1][kVector];
    const auto filled = [&](const T* from, int k) { return from ? fill_up(from + whole, rest, in[k]) : nullptr; };
    NarrowBlock b{filled(x, N), filled(p0, 0)};
    if constexpr (N > 1) b.p1 = filled(p1, 1), b.g1 = out[1];
    if constexpr (N > 2) b.p2 = filled(p2, 2), b.g2 = out[2];
    if constexpr (N > 3) b.p3 = filled(p3, 3), b.g3 = out[3];
    if constexpr (kMultiplied<W, T>) b.w = filled(w, N + 1);
    b.row = filled(row, N + 2);
    b.g0 = out[0];
    b.values = out[N];
    b.run_vectors(kVector);
    T* const to[] = {g0, g1, g2, g3};
    for (int k = 0; k < N; ++k) copy(out[k], rest, to[k] + whole);
    copy(b.values, rest, values + whole);
  }
};

// Beside the arithmetic of counts, and of float64, a multiplication by 1 is not worth avoiding by a loop of its own.
template <class T>
constexpr bool kUnweighted = std::is_same_v<T, float> && !is_counts<VK_LIKELIHOOD>;

static Layout layout_of(const ElementWeights& w) {
  if (w.col_stride) return w.row_stride ? Layout::full : Layout::per_feature;
  return w.row_stride ? Layout::per_sample : Layout::number;
}

// What is the same for every tile of a task is read once.
static bool by_row(Layout layout) { return layout == Layout::full || layout == Layout::per_sample; }

template <class T>
static void run_narrow(const LikelihoodJob& job, const Task& task) {
  FlushDenormals guard;
  alignas(64) T x_buffer[kBlock], w_buffer[kBlock], row_weights[kBlock], values[kBlock];
  alignas(64) T p_buffer[N][kBlock], g_buffer[N][kBlock];
  const T *p[kMaxParameters] = {}, *w = nullptr;
  T* g[kMaxParameters] = {};
  const ElementWeights& weights = job.element_weights;
  const int64_t row_task = task.row / job.grid.task_rows;

  for_each_tile(job.grid, task, [&](const Tile& t) {
    const bool first = t.row == task.row;
    const T* x = load_tile<T, is_counts<VK_LIKELIHOOD>>(job.x, t, 0, x_buffer);
    for (int k = 0; k < N; ++k) {
      if (first || by_row(job.p[k].layout)) p[k] = load_tile(job.p[k].in, job.p[k].layout, t, p_buffer[k]);
      g[k] = target(job.p[k].grad, t.row, 0, g_buffer[k]);
    }
    if (job.shift) p[0] = shift_tile(p[0], job.shift, t, p_buffer[0]);
    if (!kUnweighted<T> && !weights.data && first) {
      fill(T(1), kBlock, w_buffer);
      w = w_buffer;
    }
    if (weights.data && (first || by_row(layout_of(weights))))
      w = load_tile(rows_of(weights), layout_of(weights), t, w_buffer);
    if (first || job.weight.stride) spread(job.weight, t, row_weights);
    const auto run = [&]<class W>(const W* w) {
      NarrowBlock<T, W>{x, p[0], p[1], p[2], p[3], row_weights, w, values, g[0], g[1], g[2], g[3]}.run(t.n());
    };
    if constexpr (kUnweighted<T>)
      if (!w) run(static_cast<const None*>(nullptr));
    if (w) run(w);

    if (job.losses)
      sum_rows(values, t, job.factor, static_cast<T*>(job.losses) + t.row);
    else
      sum_rows(values, t, 1., job.nll + t.row);
    for (int k = 0; k < N; ++k) {
      store_tile(g[k], job.p[k].grad, t);
      if (job.p[k].sums) sum_rows(g[k], t, 1., job.p[k].sums + t.row);
      T* row_sums = static_cast<T*>(job.p[k].row_sums);
      for (int64_t r = 0; row_sums && r < t.rows; ++r)
        for (int64_t c = 0; c < t.cols; ++c) row_sums[row_task * t.cols + c] += g[k][r * t.cols + c];
    }
  });
}

}  // namespace
}  // namespace vk::VK_ISA
