// The loops of a mixture of diagonal Gaussians, forward and backward: vae_kernels/formulas/mixture.py has the maths.
// Some samples meet a vector of components in registers: each load of a component serves all of them, and nothing of
// the size samples x components x dimensions, or samples x components, is ever in memory.
#include "cpu/mixture.h"

#include "block.h"
#include "formulas/mixture.h"
#include "join.h"
#include "lanes.h"

namespace vk::VK_ISA {
namespace {  // as in likelihood.cpp: nothing here is for the linker to share

constexpr int kRows = kVectorBytes == 64 ? 16 : 8;  // samples: half of the registers holds a sum for each
constexpr int kChain = 32;  // dimensions that are summed one after another before their sum is added to the others

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
};

template <class T>
static void pack(const MixtureJob& job, const Task& task) {
  constexpr int lanes = kLanes<T>;
  const int64_t dims = job.tiles.dims, first = job.tiles.first(task.col);
  const T *loc = static_cast<const T*>(job.loc), *logvar = static_cast<const T*>(job.logvar);
  const Tile<T> tile(static_cast<T*>(job.packed), job.tiles, task.col);
  for (int64_t v = 0; v < tile.vectors; ++v) {
    for (int lane = 0; lane < lanes; ++lane) {
      const int64_t k = v * lanes + lane, row = (first + k) * dims;
      for (int64_t d = 0; d < dims; ++d) {
        T* pair = tile.pair(d, v) + lane;
        pair[0] = k < tile.components ? loc[row + d] : T(0);
        pair[lanes] = k < tile.components ? logvar[row + d] : T(0);
      }
    }
    double logvars[lanes] = {};
    for (int64_t d = 0; d < dims; ++d) {
      T* precision = tile.pair(d, v) + lanes;  // until here, the log-variance
#pragma omp simd
      for (int i = 0; i < lanes; ++i) {
        logvars[i] += precision[i];
        precision[i] = gaussian_mixture::precision(precision[i]);
      }
    }
    for (int lane = 0; lane < lanes; ++lane) {
      const int64_t k = v * lanes + lane;
      const T* log_weight = static_cast<const T*>(job.log_weight) + first;
      tile.constants[k] =
          k < tile.components ? T(gaussian_mixture::constant(log_weight[k], logvars[lane], dims)) : T(kMinusInfinity);
    }
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
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const Vector<T> difference = samples.z[r][d] - loc;
          sum[r] = fma(difference * difference, precision, sum[r]);
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) total[r] += sum[r];
    }
    const Vector<T> constant = load_lanes(tile.constants + v * kLanes<T>);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) store_lanes(gaussian_mixture::score(constant, total[r]), scores[r] + v * kLanes<T>);
  }
}

VK_FN void begin(const MixtureJob& job, int64_t row) {
  job.peak[row] = kMinusInfinity;
  job.log_sum[row] = 0;
}

template <class T>
static void forward(const MixtureJob& job, const Task& task) {
  FlushDenormals guard;
  alignas(64) Scores<T> scores;
  const int64_t end = task.row + task.rows;
  for (int64_t row = task.row; row < end; ++row) begin(job, row);
  for (int64_t t = 0; t < job.tiles.count(); ++t) {
    const Tile<T> tile(static_cast<T*>(job.packed), job.tiles, t);
    for (int64_t row = task.row; row < end; row += kRows) {
      const Samples<T> samples(job, row, end);
      score(samples, job.tiles.dims, tile, scores);
      for (int r = 0; r < samples.n; ++r)
        join(scores[r], int(tile.vectors) * kLanes<T>, job.peak[row + r], job.log_sum[row + r]);
    }
  }
  for (int64_t row = task.row; row < end; ++row) job.log_sum[row] = gaussian_mixture::log_total(job.log_sum[row]);
}

// The scores become weight_n times the responsibilities.
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
    for (int i = 0; i < n; ++i) s[i] = weight * gaussian_mixture::responsibility(s[i], peak, log_sum);
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
      Vector<T> one[2] = {load_lanes(moments)}, two[2] = {load_lanes(moments + kLanes<T>)};  // two short chains each
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const Vector<T> difference = samples.z[i][d] - loc;
        const Vector<T> moment = load_lanes(r[i] + v * kLanes<T>) * difference;
        one[i % 2] += moment;
        two[i % 2] = fma(moment, difference, two[i % 2]);
        pull[i] = fma(moment, precision, pull[i]);
      }
      store_lanes(one[0] + one[1], moments);
      store_lanes(two[0] + two[1], moments + kLanes<T>);
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
      for (int64_t r = row; job.together && r < row + samples.n; ++r) {
        begin(job, r);
        join(scores[r - row], int(tile.vectors) * kLanes<T>, job.peak[r], job.log_sum[r]);
        job.log_sum[r] = gaussian_mixture::log_total(job.log_sum[r]);
      }
      respond(job, samples, tile, scores);
      collect(samples, tiles.dims, tile, scores, sums, grad_z + row * tiles.dims, t == task.col);
    }
  }
}

// The row tasks' sums of n numbers and the totals, in the order of the tasks
template <class T, int N>
VK_FN void add_up(const MixtureJob& job, int64_t at, double (&sum)[N]) {
  const T* sums = static_cast<const T*>(job.sums) + at;
  for (int i = 0; i < N; ++i) sum[i] = job.totals[at + i];
  for (int64_t p = 0; p < job.grid.row_tasks(); ++p) {
#pragma omp simd
    for (int i = 0; i < N; ++i) sum[i] += sums[p * job.tiles.size() + i];
  }
}

template <class T>
static void add(const MixtureJob& job, const Task& task) {
  const int64_t end = job.tiles.offset(task.col) + job.tiles.size_of(task.col);
  for (int64_t at = job.tiles.offset(task.col); at < end; at += kLanes<T>) {
    double sum[kLanes<T>];
    add_up<T>(job, at, sum);
    std::memcpy(job.totals + at, sum, sizeof sum);
  }
}

// The gradients of one tile's components
template <class T>
static void finish(const MixtureJob& job, const Task& task) {
  constexpr int lanes = kLanes<T>;
  const int64_t dims = job.tiles.dims, first = job.tiles.first(task.col);
  T *grad_loc = static_cast<T*>(job.grad_loc), *grad_logvar = static_cast<T*>(job.grad_logvar);
  T *base = static_cast<T*>(job.packed), *log_weight = static_cast<T*>(job.grad_log_weight);
  const Tile<T> tile(base, job.tiles, task.col);
  for (int64_t v = 0; v < tile.vectors; ++v) {
    const int64_t k = v * lanes, row = (first + k) * dims;
    const int real = int(tile.components - k < lanes ? tile.components - k : lanes);
    double sum[lanes], moments[2 * lanes];
    add_up<T>(job, tile.constants + k - base, sum);
    for (int i = 0; log_weight && i < real; ++i) log_weight[first + k + i] = T(sum[i]);
    for (int64_t d = 0; d < dims; ++d) {
      const T* precision = tile.pair(d, v) + lanes;
      add_up<T>(job, tile.pair(d, v) - base, moments);
      T of_loc[lanes], of_logvar[lanes];
#pragma omp simd
      for (int i = 0; i < lanes; ++i) {
        of_loc[i] = T(precision[i] * moments[i]);
        of_logvar[i] = T(gaussian_mixture::by_logvar(precision[i] * moments[lanes + i], sum[i]));
      }
      for (int i = 0; grad_loc && i < real; ++i) grad_loc[row + i * dims + d] = of_loc[i];
      for (int i = 0; grad_logvar && i < real; ++i) grad_logvar[row + i * dims + d] = of_logvar[i];
    }
  }
}

}  // namespace

extern const MixtureLoops mixture_loops[2] = {
    {kLanes<float>, pack<float>, forward<float>, backward<float>, add<float>, finish<float>},
    {kLanes<double>, pack<double>, forward<double>, backward<double>, add<double>, finish<double>}};

}  // namespace vk::VK_ISA
