// The kernel of the pixel kind: the value of each pixel, and the gradient of its numbers. A thread has one pixel and
// goes through the components of the mixture twice: first for the log-sum-exp, then for the gradient, which needs the
// probability of each component. The second time the numbers come from the cache. The maths is in formulas/<name>.h.
#pragma once
#include "gather.h"
#include "jobs.h"
#include "log_sum_exp.h"

namespace vk::cuda {

// The numbers 0, 1, ..., C - 1 as template arguments
template <int... I>
struct Channels {};
template <int C>
using FirstChannels = std::conditional_t<C == 1, Channels<0>, Channels<0, 1, 2>>;

// F32: the numbers and their gradients are stored as float32.
template <class F, class T, int C, bool F32>
struct Pixel {
  using Job = PixelJob;
  static constexpr int N = F::template parameters<C>, phases = 1, blocks_per_sm = sizeof(T) == 4 ? 3 : 1;
  struct Local {};
  struct Shared {};

  struct Spot {
    int64_t row, col;
    T x[C];
    typename F::template Options<T> options;
    T top, total, peak, sum;
  };

  template <int>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared&) {
    const int64_t pixel = at.block * kThreads + at.thread;
    Spot s;
    s.row = pixel / job.cols;
    s.col = pixel - s.row * job.cols;
    if (s.row >= job.rows || job.incoming.as_expected(s.row)) return;
    const T own = weight_at<T>(job.weights, s.row, s.col);
    const int64_t components = job.numbers / (1 + N);
    if (own != 0) read(job, components, s);
    if (job.values) job.values[pixel] = own != 0 ? own * value(s) : T(0);
    if (job.terms) static_cast<T*>(job.terms)[pixel] = -value(s);
    if (!job.grad.data) return;
    const T weight = own * T(job.incoming(s.row));
    for (int64_t k = 0; k < components; ++k) gradient(job, components, k, weight, s);
  }

 private:
  VK_GPU static DType type(DType t) { return F32 ? DType::float32 : t; }
  // of number j: in its row, and in the matrix
  VK_GPU static int64_t in_row(const Job& job, const Spot& s, int64_t numbers, int64_t j) {
    return job.inner ? s.col * numbers + j : j * job.cols + s.col;
  }
  VK_GPU static int64_t element(const Job& job, const Spot& s, int64_t stride, int64_t numbers, int64_t j) {
    return s.row * stride + in_row(job, s, numbers, j);
  }
  VK_GPU static T number(const Job& job, const Spot& s, int64_t j) {
    const DType stored = type(job.packed.dtype);
    const int64_t e = element(job, s, job.packed.stride, job.numbers, j);
    return load_one<T>(static_cast<const char*>(job.packed.data) + e * size_of(stored), stored);
  }
  VK_GPU static void put(const Job& job, const Spot& s, int64_t j, T v) {
    const DType stored = type(job.grad.dtype);
    const int64_t e = element(job, s, job.grad.stride, job.numbers, j);
    store_one(static_cast<char*>(job.grad.data) + e * size_of(stored), stored, v);
  }

  template <int... I>
  VK_GPU static PlusLog1p<T> of_channels(const Spot& s, const T (&p)[N], T (&d)[N], Channels<I...>) {
    PlusLog1p<T> sum{0, 0};
    const auto add = [&](PlusLog1p<T> nll) { sum = {sum.value + nll.value, join_log1p(sum.e, nll.e)}; };
    (add(F::template nll<C, I>(s.x, p, s.options, d)), ...);
    return sum;
  }
  // The logit of component k less the largest one, plus log p; and the derivatives of -log p
  VK_GPU static T component(const Job& job, int64_t components, int64_t k, const Spot& s, T (&d)[N]) {
    T p[N];
#pragma unroll
    for (int j = 0; j < N; ++j) p[j] = number(job, s, components + j * components + k);
    const PlusLog1p<T> nll = of_channels(s, p, d, FirstChannels<C>());
    return (number(job, s, k) - s.top) - (nll.value + log1p(nll.e));
  }

  VK_GPU static void read(const Job& job, int64_t components, Spot& s) {
    s.options = F::template options<T>(job.options);
    const int64_t begin = row_of<RowNumber>(s.row, job.x.rows) * job.x.stride;
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const int64_t e = begin + in_row(job, s, C, c);
      const char* p = static_cast<const char*>(job.x.data) + e * size_of(job.x.dtype);
      s.x[c] = load_one<T, Ints::counts>(p, job.x.dtype);
      if (job.x.dtype == DType::uint8) s.x[c] = F::value_of(s.x[c], s.options);
    }
    LogSumExp<T> logits = lse_none<T>(), scores = lse_none<T>();
#pragma unroll 1
    for (int64_t k = 0; k < components; ++k) {
      const T logit[] = {number(job, s, k)};
      logits = lse_add(logits, logit);
    }
    s.top = logits.top;
    s.total = logits.total;
#pragma unroll 1
    for (int64_t k = 0; k < components; ++k) {
      T d[N];
      const T score[] = {component(job, components, k, s, d)};
      scores = lse_add(scores, score);
    }
    s.peak = scores.top;
    s.sum = scores.total;
  }

  // Both log-sum-exps have lost the largest logit. -log p is infinite if no component has a probability.
  VK_GPU static T value(const Spot& s) {
    const T found = s.peak + log1p(s.sum - 1);
    return log1p(s.total - 1) - (s.sum == 0 ? T(-INFINITY) : found);
  }

  VK_GPU static void gradient(const Job& job, int64_t components, int64_t k, T weight, const Spot& s) {
    T d[N], share = 0, by_logit = 0;
    if (weight != 0) {
      const T score = component(job, components, k, s, d);
      share = weight / s.sum * exp_or_zero(score - s.peak);
      by_logit = weight / s.total * exp_or_zero(number(job, s, k) - s.top) - share;
    }
    put(job, s, k, by_logit);
#pragma unroll
    for (int j = 0; j < N; ++j)  // a component without a probability has a gradient of 0, however steep it is
      put(job, s, components + j * components + k, share == 0 ? T(0) : share * d[j]);
  }
};

}  // namespace vk::cuda
