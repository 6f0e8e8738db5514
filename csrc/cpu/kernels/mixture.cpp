// The loops of a mixture of diagonal Gaussians, forward and backward: vae_kernels/formulas/mixture.py has the maths.
// Eight samples meet a vector of components in registers: each load of a component serves all of them, and nothing of
// the size samples x components x dimensions, or samples x components, is ever in memory.
#include "cpu/mixture.h"

#include "block.h"
#include "lanes.h"

namespace vk::VK_ISA {
namespace {  // as in likelihood.cpp: nothing here is for the linker to share

constexpr int kRows = 8;
constexpr int kChain = 32;  // dimensions that are summed one after another before their sum is added to the others
constexpr double kMinusInfinity = -__builtin_inf();

// A tile of packed components, or of their sums
template <class T>
struct Tile {
  T *constants, *pairs;
  int64_t lanes, vectors, components;

  Tile(T* base, const Tiles& tiles, int64_t tile)
      : constants(base + tiles.offset(tile)), lanes(tiles.lanes), components(tiles.inside(tile)) {
    vectors = tiles.up(components) / lanes;
    pairs = constants + vectors * lanes;
  }
  T* pair(int64_t d, int64_t vector) const { return pairs + (d * (2 * vectors + 1) + 2 * vector) * lanes; }
  // the first number of component k's pair; the second is `lanes` further
  T* of_component(int64_t d, int64_t k) const { return pair(d, k / lanes) + k % lanes; }
};

template <class T>
static void pack(const MixtureJob& job, const Task& task) {
  constexpr int lanes = kLanes<T>;
  const int64_t dims = job.tiles.dims;
  const Tile<T> tile(static_cast<T*>(job.packed), job.tiles, task.col);
  for (int64_t k = 0; k < tile.vectors * lanes; ++k) {
    const bool real = k < tile.components;
    const int64_t row = job.tiles.first(task.col) + k;
    double logvars = 0;
    for (int64_t begin = 0; begin < dims; begin += kBlock) {
      const int n = int(dims - begin < kBlock ? dims - begin : kBlock);
      alignas(64) T loc[kBlock], precision[kBlock];
      if (real) {
        const T* logvar = static_cast<const T*>(job.logvar) + row * dims + begin;
        std::memcpy(loc, static_cast<const T*>(job.loc) + row * dims + begin, n * sizeof(T));
        // e^-logvar stops before its product with the square of any float would be infinite
#pragma omp simd
        for (int i = 0; i < n; ++i)
          precision[i] = exp_within(at_most(at_least(-logvar[i], Real<T>::kLow), Real<T>::kHigh * T(0.75)));
        for (int i = 0; i < n; ++i) logvars += logvar[i];
      } else {
        for (int i = 0; i < n; ++i) loc[i] = precision[i] = 0;
      }
      for (int i = 0; i < n; ++i) {
        T* pair = tile.of_component(begin + i, k);
        pair[0] = loc[i];
        pair[lanes] = precision[i];
      }
    }
    constexpr double log_two_pi = 1.8378770664093454836;
    tile.constants[k] =
        real ? T(static_cast<const T*>(job.log_weight)[row] - 0.5 * (logvars + dims * log_two_pi)) : T(kMinusInfinity);
  }
}

// Samples side by side; where there are fewer than kRows left, the last one repeats.
template <class T>
struct Samples {
  const T* z[kRows];
  int64_t row;
  int n;

  Samples(const MixtureJob& job, int64_t row, int64_t end) : row(row), n(int(end - row < kRows ? end - row : kRows)) {
    for (int r = 0; r < kRows; ++r) z[r] = static_cast<const T*>(job.z) + (row + (r < n ? r : n - 1)) * job.tiles.dims;
  }
};

template <class T>
using Scores = T[kRows][Tiles::kWidest];

// scores[r][k] = log w_k + log N(z_r; m_k, e^v_k)
template <class T>
static void score(const Samples<T>& samples, int64_t dims, const Tile<T>& tile, Scores<T>& scores) {
  for (int64_t v = 0; v < tile.vectors; ++v) {
    Vector<T> total[kRows] = {};
    for (int64_t begin = 0; begin < dims; begin += kChain) {
      const int64_t end = begin + kChain < dims ? begin + kChain : dims;
      Vector<T> sum[kRows] = {};
      for (int64_t d = begin; d < end; ++d) {
        const T* pair = tile.pair(d, v);
        const Vector<T> loc = load_lanes(pair), precision = load_lanes(pair + kLanes<T>);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const Vector<T> difference = samples.z[r][d] - loc;
          sum[r] = fma(difference * difference, precision, sum[r]);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) total[r] += sum[r];
    }
    const Vector<T> constant = load_lanes(tile.constants + v * kLanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) store_lanes(constant - T(0.5) * total[r], scores[r] + v * kLanes<T>);
  }
}

// e^x for x <= 0, and 0 where that is no normal number
template <class T>
VK_FN T exp_or_zero(T x) {
  const T e = exp_nonpositive(x);
  return x < Real<T>::kLow ? T(0) : e;
}

// The online log-sum-exp (Milakov and Gimelshein 2018, arXiv:1805.02867): sum = sum of e^(score - peak) so far
template <class T>
static void join(const T* scores, int n, double& peak, double& sum) {
  T top = T(kMinusInfinity);
#pragma omp simd reduction(max : top)
  for (int i = 0; i < n; ++i) top = scores[i] > top ? scores[i] : top;
  if (top > peak) {
    sum *= std::exp(peak - top);
    peak = top;
  }
  const T shift = peak > kMinusInfinity ? T(peak) : T(0);  // a NaN among the scores makes the sum one
  T part = 0;
#pragma omp simd reduction(+ : part)
  for (int i = 0; i < n; ++i) part += exp_or_zero(scores[i] - shift);
  sum += part;
}

template <class T>
static void forward(const MixtureJob& job, const Task& task) {
  FlushDenormals guard;
  alignas(64) Scores<T> scores;
  const int64_t end = task.row + task.rows;
  for (int64_t row = task.row; row < end; ++row) {
    job.peak[row] = kMinusInfinity;
    job.log_sum[row] = 0;
  }
  for (int64_t t = 0; t < job.tiles.count(); ++t) {
    const Tile<T> tile(static_cast<T*>(job.packed), job.tiles, t);
    for (int64_t row = task.row; row < end; row += kRows) {
      const Samples<T> samples(job, row, end);
      score(samples, job.tiles.dims, tile, scores);
      for (int r = 0; r < samples.n; ++r)
        join(scores[r], int(tile.vectors) * kLanes<T>, job.peak[row + r], job.log_sum[row + r]);
    }
  }
  for (int64_t row = task.row; row < end; ++row) job.log_sum[row] = std::log(job.log_sum[row]);
}

// The scores become weight_n times the responsibilities. The difference to the peak is exact where it matters; that to
// the rounded log p is not: far from all components log p has no digits after the point.
template <class T>
static void respond(const MixtureJob& job, const Samples<T>& samples, const Tile<T>& tile, Scores<T>& scores) {
  const int n = int(tile.vectors) * kLanes<T>;
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = samples.row + r;
    T* s = scores[r];
    if (r >= samples.n) {
      for (int i = 0; i < n; ++i) s[i] = 0;
      continue;
    }
    const T peak = T(job.peak[row]), log_sum = T(job.log_sum[row]), weight = T(job.weight[row]);
#pragma omp simd
    for (int i = 0; i < n; ++i) s[i] = weight * exp_or_zero((s[i] - peak) - log_sum);
  }
}

// Adds to the sums over samples of r, r (z - m) and r (z - m)^2, and gives grad_z its part: - sum_k r (z - m) e^-v
template <class T>
static void collect(const Samples<T>& samples, int64_t dims, const Tile<T>& tile, const Scores<T>& r,
                    const Tile<T>& sums, T* grad_z, bool first) {
  for (int64_t v = 0; v < tile.vectors; ++v) {
    Vector<T> sum = load_lanes(sums.constants + v * kLanes<T>);
    for (int i = 0; i < kRows; ++i) sum += load_lanes(r[i] + v * kLanes<T>);
    store_lanes(sum, sums.constants + v * kLanes<T>);
  }
  for (int64_t d = 0; d < dims; ++d) {
    Vector<T> pull[kRows] = {};
    for (int64_t v = 0; v < tile.vectors; ++v) {
      const T* pair = tile.pair(d, v);
      T* moments = sums.pair(d, v);
      const Vector<T> loc = load_lanes(pair), precision = load_lanes(pair + kLanes<T>);
      Vector<T> one = load_lanes(moments), two = load_lanes(moments + kLanes<T>);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const Vector<T> difference = samples.z[i][d] - loc;
        const Vector<T> moment = load_lanes(r[i] + v * kLanes<T>) * difference;
        one += moment;
        two = fma(moment, difference, two);
        pull[i] = fma(moment, precision, pull[i]);
      }
      store_lanes(one, moments);
      store_lanes(two, moments + kLanes<T>);
    }
    for (int i = 0; i < samples.n; ++i) {
      T& g = grad_z[i * dims + d];
      g = (first ? T(0) : g) - sum_lanes<T>(pull[i]);
    }
  }
}

template <class T>
static void backward(const MixtureJob& job, const Task& task) {
  FlushDenormals guard;
  alignas(64) Scores<T> scores;
  const Tiles& tiles = job.tiles;
  T* all_sums = static_cast<T*>(job.sums) + task.row / job.grid.task_rows * tiles.size();
  T* grad_z = static_cast<T*>(job.grad_z) + task.col / job.grid.task_cols * job.grid.rows * tiles.dims;
  const int64_t end = task.row + task.rows;
  for (int64_t t = task.col; t < task.col + task.cols; ++t) {
    const Tile<T> tile(static_cast<T*>(job.packed), tiles, t), sums(all_sums, tiles, t);
    std::memset(sums.constants, 0, tiles.size_of(t) * sizeof(T));
    for (int64_t row = task.row; row < end; row += kRows) {
      const Samples<T> samples(job, row, end);
      score(samples, tiles.dims, tile, scores);
      respond(job, samples, tile, scores);
      collect(samples, tiles.dims, tile, scores, sums, grad_z + row * tiles.dims, t == task.col);
    }
  }
}

// the row tasks' sums of one tile to the totals, in the order of the tasks
template <class T>
static void add(const MixtureJob& job, const Task& task) {
  const Tiles& tiles = job.tiles;
  const int64_t begin = tiles.offset(task.col), n = tiles.size_of(task.col);
  double* total = job.totals + begin;
  for (int64_t p = 0; p < job.grid.row_tasks(); ++p) {
    const T* sums = static_cast<const T*>(job.sums) + p * tiles.size() + begin;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) total[i] += sums[i];
  }
}

template <class T>
static void finish(const MixtureJob& job, const Task& task) {
  constexpr int lanes = kLanes<T>;
  const int64_t dims = job.tiles.dims;
  const Tile<T> tile(static_cast<T*>(job.packed), job.tiles, task.col);
  Tile<double> total(job.totals, job.tiles, task.col);
  T *grad_loc = static_cast<T*>(job.grad_loc), *grad_logvar = static_cast<T*>(job.grad_logvar);
  for (int64_t k = 0; k < tile.components; ++k) {
    const int64_t row = job.tiles.first(task.col) + k;
    const double sum = total.constants[k];
    if (job.grad_log_weight) static_cast<T*>(job.grad_log_weight)[row] = T(sum);
    for (int64_t d = 0; d < dims; ++d) {
      const double precision = tile.of_component(d, k)[lanes];
      const double* moments = total.of_component(d, k);
      if (grad_loc) grad_loc[row * dims + d] = T(precision * moments[0]);
      if (grad_logvar) grad_logvar[row * dims + d] = T(0.5 * (precision * moments[lanes] - sum));
    }
  }
}

}  // namespace

extern const MixtureLoops mixture_loops[2] = {
    {kLanes<float>, pack<float>, forward<float>, backward<float>, add<float>, finish<float>},
    {kLanes<double>, pack<double>, forward<double>, backward<double>, add<double>, finish<double>}};

}  // namespace vk::VK_ISA
