// The likelihood loop: value and gradient of one likelihood in one pass over [rows, cols].
// Compiled once per likelihood (VK_LIKELIHOOD) and instruction set (VK_ISA); the maths is in formulas/<name>.h.
#include "per_formula.h"
#include VK_HEADER(VK_LIKELIHOOD)

#include <algorithm>

#include "block.h"
#include "formula.h"
#include "not_zero.h"

namespace vk::VK_ISA {
namespace {  // each likelihood has a Block<float, 0, true> of its own: the linker must not take one for all

constexpr int N = VK_LIKELIHOOD::parameters;
template <class F, class T>
constexpr bool kLog1p = requires(T x, T (&p)[N]) { F::nll(x, p, p).e; };  // the formula leaves a logarithm to the loop

// A count likelihood has two formulas: one for x = 0 (most elements) and one for x > 0. The loop for x > 0 is short,
// because the elements with x > 0 are brought together before it.
template <class F>
struct AtZero {
  template <class T>
  VK_FN auto nll(T x, const T (&p)[N], T (&grad)[N]) {  // 0 where x > 0; the gradient there is overwritten later
    auto value = F::at_zero(p, grad);
    return x == 0 ? value : decltype(value){};
  }
};
template <class F>
struct AboveZero {
  template <class T>
  VK_FN auto nll(T x, const T (&p)[N], T (&grad)[N]) {  // 0 for x = 0: the last vector is filled up with zeros
    auto value = F::above_zero(x, p, grad);
    return x == 0 ? decltype(value){} : value;
  }
};

// Columns of a block. Blocks of counts have fewer: what one of their loops leaves for the next must stay in the
// first-level cache.
constexpr int kBlockCols = is_counts<VK_LIKELIHOOD> && kSum > 512 ? 512 : kSum;

// The sum of log(1 + e[i]), n <= kSum; e is overwritten. Quarters are joined, in whole vectors, until one is left.
template <class T>
static T sum_log1p(T* e, int n) {
  while (n > kVector) {
    const int quarter = whole_vectors((n + 3) / 4);
    for (int i = n; i < 4 * quarter; ++i) e[i] = 0;
#pragma omp simd
    for (int i = 0; i < quarter; ++i)
      e[i] = join_log1p(join_log1p(e[i], e[i + quarter]), join_log1p(e[i + 2 * quarter], e[i + 3 * quarter]));
    n = quarter;
  }
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < n; ++i) sum += log1p(e[i]);
  return sum;
}

template <class T>
static T sum_of(const T* p, int n) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < n; ++i) sum += p[i];
  return sum;
}

// The weights of elements have the type W: T, Mask, or None. A loop that reads the bytes of a mask selects: the loop
// neither converts nor multiplies.
using Mask = uint8_t;
struct None {};
template <class W, class T>
constexpr bool kMultiplied = std::is_same_v<W, T>;

template <class T>
struct BlockWeights {
  T row;                // of all elements: the gradients are multiplied by it
  const void* element;  // of each element, of type W: values and gradients are multiplied by it
};

// The weight of an element. Where the weight is 0 the element is missing, and its results are 0, even if they were NaN.
template <class W, class T>
struct Own {
  W weight{};

  VK_INLINE Own(const W* w, int i) {
    if constexpr (!std::is_same_v<W, None>) weight = w[i];
  }
  VK_INLINE T times(T v) const {
    if constexpr (kMultiplied<W, T>) return weight * v;
    return v;
  }
  VK_INLINE T kept(T v) const {
    if constexpr (std::is_same_v<W, None>)
      return v;
    else
      return weight == 0 ? T(0) : v;
  }
};
// The sum of w[i] * log(1 + e[i]); e is overwritten. A weighted logarithm is taken by itself; the others are joined.
template <class W, class T>
static T sum_log1p(T* e, const W* w, int n) {
  if constexpr (kMultiplied<W, T>) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; ++i) sum += w[i] * log1p(e[i]);
    return sum;
  } else {
    return sum_log1p(e, n);
  }
}

// Bit k of SCALARS: parameter k is one number, and its gradient is summed.
template <class F, class T, unsigned SCALARS, bool GRAD, class W>
struct Block {
  const T *x, *p0, *p1, *p2;
  const W* w;
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
    const Own<W, T> own(w, i);
    const T both = own.times(weight);
    if constexpr (kLog1p<F, T>) e[i] = own.kept(nll.e);
    d1 = d2 = 0;
    if constexpr (GRAD) {
      g0[i] = own.kept(both * d[0]);
      if constexpr (N > 1) (SCALARS & 2 ? d1 : g1[i]) = own.kept(SCALARS & 2 ? own.times(d[1]) : both * d[1]);
      if constexpr (N > 2) (SCALARS & 4 ? d2 : g2[i]) = own.kept(SCALARS & 4 ? own.times(d[2]) : both * d[2]);
    }
    return own.kept(own.times(nll.value));
  }

  static T run(const T* x, const T* const* p, T* const* g, T* scalar_sums, const BlockWeights<T>& weights, int n) {
    const T weight = weights.row;
    const T *p1 = N > 1 ? p[1] : nullptr, *p2 = N > 2 ? p[2] : nullptr;
    T *g1 = N > 1 ? g[1] : nullptr, *g2 = N > 2 ? g[2] : nullptr;
    alignas(64) T e[kLog1p<F, T> ? kSum : 1];
    const T c1 = SCALARS & 2 ? *p1 : T(0), c2 = SCALARS & 4 ? *p2 : T(0);
    const W* w = static_cast<const W*>(weights.element);
    const Block b{x, p[0], p1, p2, w, g[0], g1, g2, e, c1, c2, weight};
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
    if constexpr (kLog1p<F, T>) sum += sum_log1p(e, w, n);
    return sum;
  }
};

// The elements of a block with x = 0, in their places.
template <class F, class T, bool GRAD, class W>
struct Zeros : Block<AtZero<F>, T, 0, GRAD, W> {};

// A formula that takes the value of another formula is four loops. A processor has a limited number of instructions
// under way. Of a short loop these instructions belong to more elements, and more chains of dependent operations
// overlap.
template <class F, class T, bool GRAD, class W>
  requires requires { typename F::not_dropped; }
struct Zeros<F, T, GRAD, W> {
  static T run(const T* x, const T* const* p, T* const* g, T* scalar_sums, const BlockWeights<T>& weights, int n) {
    using Kept = typename F::not_dropped;
    alignas(64) T between[7][kBlockCols];
    auto& [ratio, smaller, by0, by1, value, minus_1, e] = between;
    T *power_of_n = ratio, *power_of_d = smaller;  // take the memory of what has been read
    const T *p0 = p[0], *p1 = p[1], *p2 = p[2];
    T *g0 = g[0], *g1 = g[1], *g2 = g[2];
#pragma omp simd
    for (int i = 0; i < n; ++i) {
      const auto powers = Kept::powers({p0[i], p1[i]});
      ratio[i] = powers.ratio;
      smaller[i] = powers.smaller;
    }
#pragma omp simd
    for (int i = 0; i < n; ++i) {
      T by[2];
      value[i] = Kept::at_zero({p0[i], p1[i]}, {ratio[i], smaller[i]}, by);
      if constexpr (GRAD) by0[i] = by[0], by1[i] = by[1];
    }
#pragma omp simd
    for (int i = 0; i < n; ++i) {
      const auto powers = F::powers(-value[i], minus_absolute(p2[i]));
      power_of_n[i] = powers.n;
      power_of_d[i] = powers.d;
      minus_1[i] = powers.n_minus_1;
    }
    const T weight = weights.row;
    const W* w = static_cast<const W*>(weights.element);
    T sum = 0, least = 1;
#pragma omp simd reduction(+ : sum) reduction(min : least)
    for (int i = 0; i < n; ++i) {
      const T by[2] = {GRAD ? by0[i] : T(0), GRAD ? by1[i] : T(0)};
      T d[3];
      const PlusLog1p<T> nll = F::at_zero({power_of_n[i], minus_1[i], power_of_d[i]}, by, p2[i], d);
      const Own<W, T> own(w, i);
      const bool here = x[i] == 0;
      const T both = own.times(weight);
      least = at_most(least, power_of_n[i] + power_of_d[i]);
      sum += own.kept(here ? own.times(nll.value) : T(0));
      e[i] = own.kept(here ? nll.e : T(0));
      if constexpr (GRAD) {
        g0[i] = own.kept(both * d[0]);
        g1[i] = own.kept(both * d[1]);
        g2[i] = own.kept(both * d[2]);
      }
    }
    if (least < T(F::kNear)) return Block<AtZero<F>, T, 0, GRAD, W>::run(x, p, g, scalar_sums, weights, n);
    return sum + sum_log1p(e, w, n);
  }
};

// A block of counts: the elements with x = 0 where they lie, then the others as a block of their own. A parameter that
// is one number is repeated in p. To read it costs little beside this arithmetic, and a loop for such parameters would
// take long to compile.
template <class F, class T, bool GRAD, class W>
struct Counts {
  static T run(const T* x, const T* const* p, T* const* g, T* scalar_sums, const BlockWeights<T>& weights, int n) {
    const T sum = Zeros<F, T, GRAD, W>::run(x, p, g, scalar_sums, weights, n);
    const NotZero<T> positive(x, n);
    if (!positive.number) return sum;
    constexpr int inputs = N + 1 + kMultiplied<W, T>;
    alignas(64) T in[inputs][kBlockCols], out[N][kBlockCols];
    const T* from[inputs] = {x};
    T *to[inputs] = {in[N]}, *d[N];
    if constexpr (kMultiplied<W, T>) from[N + 1] = static_cast<const T*>(weights.element), to[N + 1] = in[N + 1];
    for (int k = 0; k < N; ++k) {
      from[k + 1] = p[k];
      to[k + 1] = in[k];
      d[k] = out[k];
    }
    positive.template gather<inputs>(from, to);
    const BlockWeights<T> gathered{weights.row, to[inputs - 1]};
    const int number = whole_vectors(positive.number);
    const T of_positive = Block<AboveZero<F>, T, 0, GRAD, W>::run(in[N], to + 1, d, scalar_sums, gathered, number);
    if (GRAD) positive.template scatter<N>(d, g);
    return sum + of_positive;
  }
};

template <class T>
using BlockLoop = T (*)(const T*, const T* const*, T* const*, T*, const BlockWeights<T>&, int);

// Beside the arithmetic of counts, and of float64, reading the bytes of a mask is not worth a loop.
template <class T>
constexpr bool kReadsMask = std::is_same_v<T, float> && !is_counts<VK_LIKELIHOOD>;

template <class T, unsigned SCALARS, class W, class F = VK_LIKELIHOOD>
static BlockLoop<T> choose(bool grad) {
  if constexpr (is_counts<F>)
    return grad ? Counts<F, T, true, W>::run : Counts<F, T, false, W>::run;
  else
    return grad ? Block<F, T, SCALARS, true, W>::run : Block<F, T, SCALARS, false, W>::run;
}
template <class T, class W>
static BlockLoop<T> choose(unsigned scalars, bool grad) {
  // the first parameter has the shape of x, so bit 0 is never set
  if constexpr (N > 2)
    if (scalars & 4) return scalars & 2 ? choose<T, 6, W>(grad) : choose<T, 4, W>(grad);
  if constexpr (N > 1)
    if (scalars & 2) return choose<T, 2, W>(grad);
  return choose<T, 0, W>(grad);
}
template <class T>
static BlockLoop<T> choose(unsigned scalars, bool grad, bool by_element, bool mask) {
  if (!by_element) return choose<T, None>(scalars, grad);
  if constexpr (kReadsMask<T>)
    if (mask) return choose<T, Mask>(scalars, grad);
  return choose<T, T>(scalars, grad);
}

// The gradients of a block whose elements are all missing.
template <class T>
static void nothing(T* const* g, T* scalar_sums, int n) {
  for (int k = 0; k < N; ++k) {
    scalar_sums[k] = 0;
    for (int i = 0; i < n; ++i) g[k][i] = 0;
  }
}

template <class T>
static void run(const LikelihoodJob& job, const Task& task) {
  FlushDenormals guard;
  alignas(64) T x_buffer[kBlock], w_buffer[kBlock], p_buffer[N][kBlock], g_buffer[N][kBlock];
  const T* p[N];
  T* g[N];
  T scalar_sums[kMaxParameters];
  unsigned scalars = 0;
  bool by_sample = false;  // whether one of these numbers is another one in each row
  for (int k = 0; k < N; ++k) {
    by_sample |= job.p[k].layout == Layout::per_sample;
    if (job.p[k].layout == Layout::number || job.p[k].layout == Layout::per_sample) scalars |= 1u << k;
  }
  const auto read_numbers = [&](int64_t row) {
    for (int k = 0; k < N; ++k) {
      if (!(scalars >> k & 1)) continue;
      load_into(job.p[k].in, row, 0, 1, p_buffer[k]);
      for (int i = 1; is_counts<VK_LIKELIHOOD> && i < std::min<int64_t>(task.cols, kBlockCols); ++i)
        p_buffer[k][i] = p_buffer[k][0];
    }
  };
  // One weight for all elements of a row is a factor of the results of the row.
  const ElementWeights& weights = job.element_weights;
  const bool by_element = weights.data && weights.col_stride, by_row = weights.data && !weights.col_stride;
  const bool mask = weights.dtype == DType::boolean;
  const BlockLoop<T> value_and_gradient = choose<T>(scalars, job.grad, by_element, mask);
  const int64_t col_task = task.col / job.grid.task_cols, row_task = task.row / job.grid.task_rows;

  for (int64_t row = task.row; row < task.row + task.rows; ++row) {
    if (by_sample || row == task.row) read_numbers(row);
    T of_row = 1;
    if (by_row) load_into(rows_of(weights), row, 0, 1, &of_row);
    BlockWeights<T> block{job.grad ? of_row * T(job.weight[row]) : T(0), nullptr};
    const int64_t partial = row * job.grid.col_tasks() + col_task;
    double nll = 0, sums[kMaxParameters] = {};
    for (int64_t col = task.col; col < task.col + task.cols; col += kBlockCols) {
      const int n = int(std::min<int64_t>(task.col + task.cols - col, kBlockCols));
      const T* x = load<T, is_counts<VK_LIKELIHOOD>>(job.x, row, col, n, x_buffer);
      for (int k = 0; k < N; ++k) {
        p[k] = scalars >> k & 1 ? p_buffer[k] : load(job.p[k].in, row, col, n, p_buffer[k]);
        g[k] = target(job.p[k].grad, row, col, g_buffer[k]);
      }
      if (by_element && mask && kReadsMask<T>)
        block.element = static_cast<const Mask*>(weights.data) + row * weights.row_stride + col;
      else if (by_element)
        block.element = load(rows_of(weights), row, col, n, w_buffer);
      if (of_row == 0)
        nothing(g, scalar_sums, n);
      else
        nll += of_row * value_and_gradient(x, p, g, scalar_sums, block, n);
      for (int k = 0; k < N; ++k) {
        store(g[k], job.p[k].grad, row, col, n);
        if (job.p[k].sums) sums[k] += is_counts<VK_LIKELIHOOD> ? sum_of(g[k], n) : scalar_sums[k];
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

extern const LikelihoodLoop VK_SYMBOL(likelihood_, VK_LIKELIHOOD)[2] = {run<float>, run<double>};

}  // namespace vk::VK_ISA
