// log p of each element. Compiled as element_block.h is.
#pragma once
#include "count_block.h"

namespace vk::VK_ISA {
namespace {

// out[i] = log p of n elements by the formula F
template <class F, class T>
struct LogProbs {
  const T *x, *p0, *p1, *p2, *p3;
  T* out;

  VK_INLINE void element(int i) const {  // in a function of its own, as Block::element
    T q[N], d[N];
    q[0] = p0[i];
    if constexpr (N > 1) q[1] = p1[i];
    if constexpr (N > 2) q[2] = p2[i];
    if constexpr (N > 3) q[3] = p3[i];
    const PlusLog1p<T> nll = parts(F::nll(x[i], q, d));
    out[i] = -nll.value;
    if constexpr (kLog1p<F, T>) out[i] -= log1p(nll.e);
  }

  static void run(const T* x, const T* const* p, T* out, int n) {
    const int whole = in_vectors(n), rest = n - whole;
    run_vectors(x, p, out, whole);
    if (!rest) return;
    alignas(64) T x_rest[kVector], p_rest[N][kVector], out_rest[kVector];
    const T* q[N];
    for (int k = 0; k < N; ++k) q[k] = fill_up(p[k] + whole, rest, p_rest[k]);
    run_vectors(fill_up(x + whole, rest, x_rest), q, out_rest, kVector);
    copy(out_rest, rest, out + whole);
  }

  [[gnu::noinline]] static void run_vectors(const T* x, const T* const* p, T* out, int given) {
    const int n = in_vectors(given);
    const T *p1 = N > 1 ? p[1] : nullptr, *p2 = N > 2 ? p[2] : nullptr, *p3 = N > 3 ? p[3] : nullptr;
    const LogProbs b{x, p[0], p1, p2, p3, out};
#pragma omp simd
    for (int i = 0; i < n; ++i) b.element(i);
  }
};

// Of counts: the elements with x = 0 where they lie, then the others as a block of their own (count_block.h).
template <class F, class T>
static void log_probs_of_counts(const T* x, const T* const* p, T* out, int n) {
  LogProbs<AtZero<F>, T>::run(x, p, out, n);
  const NotZero<T> positive(x, n);
  if (!positive.number) return;
  alignas(64) T in[N + 1][kBlockCols], values[kBlockCols];
  const T* from[N + 1] = {x};
  T* to[N + 1] = {in[N]};
  for (int k = 0; k < N; ++k) {
    from[k + 1] = p[k];
    to[k + 1] = in[k];
  }
  positive.template gather<N + 1>(from, to);
  LogProbs<AboveZero<F>, T>::run(in[N], to + 1, values, whole_vectors(positive.number));
  const T* const source[] = {values};
  T* const target[] = {out};
  positive.template scatter<1>(source, target);
}

template <class T>
static void run_log_prob(const LogProbJob& job, const Task& task) {
  FlushDenormals guard;
  alignas(64) T x_buffer[kBlock], p_buffer[N][kBlock];
  for_each_tile(job.grid, task, [&](const Tile& t) {
    const T* x = load_tile<T, is_counts<VK_LIKELIHOOD>>(job.x, t, 0, x_buffer);
    const T* p[N] = {};
    for (int k = 0; k < N; ++k) p[k] = load_tile(job.p[k], job.layout[k], t, p_buffer[k]);
    T* out = static_cast<T*>(job.out.data) + t.row * job.out.stride + t.col;
    for (int i = 0; i < t.n(); i += kBlockCols) {
      const int n = std::min(t.n() - i, kBlockCols);
      if constexpr (is_counts<VK_LIKELIHOOD>)
        log_probs_of_counts<VK_LIKELIHOOD>(x + i, p, out + i, n);
      else
        LogProbs<VK_LIKELIHOOD, T>::run(x + i, p, out + i, n);
      for (int k = 0; k < N; ++k) p[k] += kBlockCols;
    }
  });
}

}  // namespace
}  // namespace vk::VK_ISA
