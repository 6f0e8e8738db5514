// The loop of the pixel kind: the value of each pixel and the gradient of its numbers, in one pass. Compiled once for
// each formula of the kind (VK_PIXEL) and instruction set (VK_ISA); the maths is in formulas/<name>.h.
#include "per_formula.h"
#include VK_HEADER(VK_PIXEL)

#include <new>
#include <utility>

#include "block.h"
#include "log_sum_exp.h"

namespace vk::VK_ISA {
namespace {  // as in likelihood.cpp: nothing here is for the linker to share

using Formula = VK_PIXEL;

constexpr int kPixels = 512;  // side by side, worked on together: long runs of memory, and rows that stay in the cache
constexpr int kInner = 128;   // the same where the numbers of a pixel lie side by side: one run of memory in any case
constexpr int kTurned = 16;   // pixels whose numbers are turned into rows together
// How far rows lie apart: a line of the cache more, else the same pixel of all rows would have one place in the cache
template <class T>
constexpr int kPitch = kPixels + 64 / sizeof(T);

// What a task holds of a block of pixels. A row has a number for each pixel.
template <int C, class T>
struct Pixels {
  static constexpr int N = Formula::parameters<C>;
  static constexpr std::align_val_t kAligned{64};
  using Row = T[kPitch<T>];

  int64_t components;
  bool inner;
  void* memory;
  Row *shares, *scores;  // of each component: e^(logit - largest logit); its logit less the largest one, plus log p
  Row* slopes;           // of each component N: the derivatives of -log p
  Row* all;              // inner: all numbers of the pixels
  T* turned;             // inner: the numbers of kTurned pixels, pixel by pixel
  alignas(64) Row x[C], in[N], weight, top, total;
  alignas(64) T line[kBlock];

  Pixels(int64_t components, bool inner) : components(components), inner(inner) {
    const int64_t width = components * (1 + N), rows = components * (2 + N) + (inner ? width : 0);
    memory = ::operator new(rows * sizeof(Row) + (inner ? kTurned * width * sizeof(T) : 0), kAligned);
    shares = static_cast<Row*>(memory);
    scores = shares + components;
    slopes = scores + components;
    all = slopes + components * N;
    turned = all[inner ? width : 0];
  }
  ~Pixels() { ::operator delete(memory, kAligned); }
  Pixels(const Pixels&) = delete;

  // n pixels that lie side by side, each with `width` numbers, become rows
  void take_apart(const Source& from, int64_t row, int64_t col, int n, int64_t width, Row* to) {
    for (int pixel = 0; pixel < n; pixel += kTurned) {
      const int pixels = n - pixel < kTurned ? n - pixel : kTurned;
      const T* lines = load<T, true>(from, row, (col + pixel) * width, int(pixels * width), turned);
      if (pixels == kTurned)
        for (int64_t k = 0; k < width; ++k)
          for (int i = 0; i < kTurned; ++i) to[k][pixel + i] = lines[i * width + k];
      else
        for (int64_t k = 0; k < width; ++k)
          for (int i = 0; i < pixels; ++i) to[k][pixel + i] = lines[i * width + k];
    }
  }
  // the same backwards
  void put_together(const Row* from, int n, int64_t width, const Sink& to, int64_t row, int64_t col) {
    for (int pixel = 0; pixel < n; pixel += kTurned) {
      const int pixels = n - pixel < kTurned ? n - pixel : kTurned;
      T* lines = target(to, row, (col + pixel) * width, turned);
      for (int64_t k = 0; k < width; ++k)
        for (int i = 0; i < pixels; ++i) lines[i * width + k] = from[k][pixel + i];
      store(lines, to, row, (col + pixel) * width, int(pixels * width));
    }
  }
  void read(const PixelJob& job, int64_t row, int64_t col, int n, const typename Formula::Options<T>& options) {
    if (inner) {
      take_apart(job.x, row, col, n, C, x);
      take_apart(job.packed, row, col, n, components * (1 + N), all);
    } else {
      for (int c = 0; c < C; ++c) load_into<T, true>(job.x, row, c * job.grid.cols + col, n, x[c]);
    }
    for (int c = 0; job.x.dtype == DType::uint8 && c < C; ++c)
#pragma omp simd
      for (int i = 0; i < n; ++i) x[c][i] = Formula::value_of(x[c][i], options);
  }
  // number k of all pixels
  const T* number(const PixelJob& job, int64_t row, int64_t col, int n, int64_t k) {
    return inner ? all[k] : load(job.packed, row, k * job.grid.cols + col, n, line);
  }
  // the numbers of component k, `pitch` apart
  const T* numbers(const PixelJob& job, int64_t row, int64_t col, int n, int64_t k, int64_t& pitch) {
    if (inner) {
      pitch = components * kPitch<T>;
      for (int j = 0; j < N; ++j) fill(all[place(j, k)], n);
      return all[place(0, k)];
    }
    if (job.packed.dtype == dtype_of<T> && n == in_vectors(n)) {
      pitch = components * job.grid.cols;
      return load(job.packed, row, place(0, k) * job.grid.cols + col, n, line);
    }
    pitch = kPitch<T>;
    for (int j = 0; j < N; ++j) {
      load_into(job.packed, row, place(j, k) * job.grid.cols + col, n, in[j]);
      fill(in[j], n);
    }
    return in[0];
  }
  // A row of n numbers, filled up to whole vectors
  static void fill(T* row, int n) {
    for (int i = n; i < whole_vectors(n); ++i) row[i] = 0;
  }
  // number j of component k: behind the logits, the components of a number lie side by side
  int64_t place(int64_t j, int64_t k) const { return components + j * components + k; }
};

// ---------------------------------------------------------------- the log-sum-exp over the components

// top and total of the rows, each of which becomes e^(number - top)
template <class T>
static void largest(const T* numbers, int n, T* top) {
#pragma omp simd
  for (int i = 0; i < n; ++i) top[i] = numbers[i] > top[i] ? numbers[i] : top[i];
}
template <class T>
static void add_powers(const T* numbers, const T* top, int n, T* powers, T* total) {
#pragma omp simd
  for (int i = 0; i < n; ++i) {
    powers[i] = exp_or_zero(numbers[i] - top[i]);
    total[i] += powers[i];
  }
}
template <class T>
static void begin(int n, T* top, T* total) {
  for (int i = 0; i < n; ++i) top[i] = lse_none<T>().top, total[i] = 0;
}
// -inf if no number was larger
template <class T>
VK_FN T value_of(LogSumExp<T> s) {
  const T value = s.top + log1p(s.total - 1);
  return s.total == 0 ? T(-INFINITY) : value;
}

// ---------------------------------------------------------------- one component

// Row j of the numbers p is `pitch` numbers behind row j - 1. The rows have no array of pointers: a loop over such an
// array is not vectorised. Each channel has a loop of its own, whose numbers fit into the registers.
template <int C, class T>
struct Component {
  static constexpr int N = Formula::parameters<C>;
  const T *x, *p, *top;
  int64_t pitch;
  typename Formula::Options<T> options;
  T *slopes, *score, *e;  // score: the logit comes, and the logit less the largest one plus log p goes

  template <int I, size_t... X, size_t... J>
  VK_INLINE void pixel(int i, std::index_sequence<X...>, std::index_sequence<J...>) const {  // as Block::element
    const T at[C] = {x[X * kPitch<T> + i]...}, q[N] = {p[J * pitch + i]...};
    T d[N];
    const PlusLog1p<T> nll = Formula::template nll<C, I>(at, q, options, d);
    const T before = I == 0 ? score[i] - top[i] : score[i], joint = I == 0 ? nll.e : join_log1p(e[i], nll.e);
    score[i] = (before - nll.value) - (I == C - 1 ? log1p(joint) : T(0));
    if constexpr (I < C - 1) e[i] = joint;
    ((Formula::template channel_of<C>(J) == I ? void(slopes[J * kPitch<T> + i] = d[J]) : void()), ...);
  }
  template <int I>
  void channel(int given) const {
    const int n = in_vectors(given);
    const Component c = *this;
#pragma omp simd
    for (int i = 0; i < n; ++i) c.template pixel<I>(i, std::make_index_sequence<C>(), std::make_index_sequence<N>());
  }
  void run(int n) const {
    channel<0>(n);
    if constexpr (C > 1) channel<1>(n), channel<2>(n);
  }
};

// Times the probability of the component; a component without one has a gradient of 0, however steep it is.
template <class T>
static void multiply(const T* share, const T* slope, int n, T* grad) {
#pragma omp simd
  for (int i = 0; i < n; ++i) grad[i] = share[i] == 0 ? T(0) : share[i] * slope[i];
}

// ---------------------------------------------------------------- a task

template <int C, class T>
static void block(const PixelJob& job, int64_t row, int64_t col, int n, Pixels<C, T>& p,
                  const typename Formula::Options<T>& options, double* nll) {
  constexpr int N = Formula::parameters<C>;
  const int64_t components = p.components;
  p.read(job, row, col, n, options);
  begin(n, p.top, p.total);
  for (int c = 0; c < C; ++c) p.fill(p.x[c], n);
  p.fill(p.top, n);
  for (int64_t k = 0; k < components; ++k) {
    const T* logit = p.number(job, row, col, n, k);
    largest(logit, n, p.top);
    for (int i = 0; i < n; ++i) p.scores[k][i] = logit[i];
    p.fill(p.scores[k], n);
  }
  for (int64_t k = 0; k < components; ++k) add_powers(p.scores[k], p.top, n, p.shares[k], p.total);

  alignas(64) T peak[kPixels], sum[kPixels], value[kPixels];
  begin(n, peak, sum);
  Component<C, T> component{};
  component.x = p.x[0];
  component.top = p.top;
  component.options = options;
  component.e = value;
  for (int64_t k = 0; k < components; ++k) {
    component.p = p.numbers(job, row, col, n, k, component.pitch);
    component.slopes = p.slopes[k * N];
    component.score = p.scores[k];
    component.run(whole_vectors(n));
    largest(p.scores[k], n, peak);
  }
  for (int64_t k = 0; k < components; ++k) add_powers(p.scores[k], peak, n, p.scores[k], sum);
#pragma omp simd
  for (int i = 0; i < n; ++i)  // both sums have lost the largest logit
    value[i] = log1p(p.total[i] - 1) - value_of(LogSumExp<T>{peak[i], sum[i]});

  if (job.terms.data) {
    for (int i = 0; i < n; ++i) value[i] = -value[i];
    return store(value, job.terms, row, col, n);
  }
  const bool weights = job.element_weights.data;
  if (weights) load_into(job.element_weights, row, col, n, p.weight);
  if (nll) {
    T of_block = 0;
#pragma omp simd reduction(+ : of_block)
    for (int i = 0; i < n; ++i) of_block += weights ? weighted(p.weight[i], value[i]) : value[i];
    *nll += of_block;
  }
  if (!job.grad.data) return;
  const T incoming = T(job.weight[row]);
  for (int i = 0; i < n; ++i) {
    p.weight[i] = weights ? incoming * p.weight[i] : incoming;
    p.total[i] = p.weight[i] / p.total[i];
    sum[i] = p.weight[i] / sum[i];
  }
  alignas(64) T buffer[kPixels];
  const auto to = [&](int64_t number) {
    return p.inner ? p.all[number] : target(job.grad, row, number * job.grid.cols + col, buffer);
  };
  const auto done = [&](T* grad, int64_t number) {
    if (!p.inner) store(grad, job.grad, row, number * job.grid.cols + col, n);
  };
  for (int64_t k = 0; k < components; ++k) {
    T *const share = p.scores[k], *const by_logit = to(k);
    const T* const prior = p.shares[k];
#pragma omp simd
    for (int i = 0; i < n; ++i) {
      share[i] = p.weight[i] == 0 ? T(0) : share[i] * sum[i];
      by_logit[i] = p.weight[i] == 0 ? T(0) : prior[i] * p.total[i] - share[i];
    }
    done(by_logit, k);
    for (int j = 0; j < N; ++j) {
      T* const grad = to(p.place(j, k));
      multiply(share, p.slopes[k * N + j], n, grad);
      done(grad, p.place(j, k));
    }
  }
  if (p.inner) p.put_together(p.all, n, components * (1 + N), job.grad, row, col);
}

template <int C, class T>
static void run_channels(const PixelJob& job, const Task& task) {
  FlushDenormals guard;
  Pixels<C, T> p(job.numbers / (1 + Formula::parameters<C>), job.inner);
  const auto options = Formula::options<T>(job.options);
  const int64_t partial = task.col / job.grid.task_cols, partials = job.grid.col_tasks();
  for (int64_t row = task.row; row < task.row + task.rows; ++row) {
    double* const nll = job.nll ? job.nll + row * partials + partial : nullptr;
    if (nll) *nll = 0;
    const int64_t most = job.inner ? kInner : kPixels;
    for (int64_t col = task.col; col < task.col + task.cols; col += most) {
      const int64_t left = task.col + task.cols - col;
      block(job, row, col, int(left < most ? left : most), p, options, nll);
    }
  }
}

template <class T>
static void run(const PixelJob& job, const Task& task) {
  job.channels == 1 ? run_channels<1, T>(job, task) : run_channels<3, T>(job, task);
}

}  // namespace

extern const PixelLoop VK_SYMBOL(pixel_, VK_PIXEL)[2] = {run<float>, run<double>};

}  // namespace vk::VK_ISA
