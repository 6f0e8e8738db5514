// The loops of the decomposition of a KL: vae_kernels/formulas/decomposition.py has the maths. A few samples meet a run
// of posteriors. Nothing of the size batch x batch is ever in memory.
#include "cpu/decomposition.h"

#include "block.h"
#include "formulas/mixture.h"
#include "join.h"
#include "lanes.h"
#include "log_sum_exp.h"

namespace vk::VK_ISA {
namespace {  // as in likelihood.cpp: nothing here is for the linker to share

constexpr int kRows = 8;      // samples side by side
constexpr int kWidest = 256;  // posteriors in a run: the buffers below fit into the first-level cache
constexpr int kChain = 32;    // dimensions that are summed one after another before their sum is added to the others

template <class T>
using Scores = T[kRows][kWidest];

template <class T>
static void pack(const DecompositionJob& job, const Task& task) {
  const T *mu = static_cast<const T*>(job.mu), *logvar = static_cast<const T*>(job.logvar);
  for (int64_t d = task.col; d < task.col + task.cols; ++d) {
    T* mean = static_cast<T*>(job.packed) + 3 * d * job.width;
    T *precision = mean + job.width, *constant = precision + job.width;
    for (int64_t j = 0; j < job.width; ++j) {
      mean[j] = j < job.batch ? mu[j * job.dims + d] : T(0);
      constant[j] = j < job.batch ? logvar[j * job.dims + d] : T(INFINITY);  // no posterior: a score of -inf
    }
#pragma omp simd
    for (int64_t j = 0; j < job.width; ++j) {
      precision[j] = gaussian_mixture::precision(constant[j]);
      constant[j] = T(gaussian_mixture::constant(0, constant[j], 1));
    }
  }
}

// Some samples, and n posteriors (whole vectors) from `first` on
template <class T>
struct Run {
  const DecompositionJob& job;
  int64_t row, first;
  int rows, n;

  Run(const DecompositionJob& job, int64_t row, int64_t row_end, int64_t first, int64_t end)
      : job(job),
        row(row),
        first(first),
        rows(int(row_end - row < kRows ? row_end - row : kRows)),
        n(int(end - first < kWidest ? end - first : kWidest)) {}

  T z(int r, int64_t d) const { return static_cast<const T*>(job.z)[(row + r) * job.dims + d]; }
  const T* mean(int64_t d) const { return static_cast<const T*>(job.packed) + 3 * d * job.width + first; }
  const T* precision(int64_t d) const { return mean(d) + job.width; }
  const T* constant(int64_t d) const { return precision(d) + job.width; }

  // Where sample r meets its own posterior; -1: not in this run
  int own(int r) const { return row + r >= first && row + r < first + n ? int(row + r - first) : -1; }

  // scores[j] = log q(z_rd|x_jd)
  void score(int r, int64_t d, T* scores) const {
    const T at = z(r, d), *mean = this->mean(d), *precision = this->precision(d), *constant = this->constant(d);
#pragma omp simd
    for (int j = 0; j < n; ++j) {
      const T difference = at - mean[j];
      scores[j] = gaussian_mixture::score(constant[j], difference * difference * precision[j]);
    }
  }
  // The joint scores, unweighted. visit(r, d, scores) gets the scores of every dimension on the way.
  template <class Visit>
  void joint_scores(Scores<T>& joint, const Visit& visit) const {
    alignas(64) Scores<T> part;
    alignas(64) T scores[kWidest];
    for (int64_t d = 0; d < job.dims; ++d) {
      const bool begins = d % kChain == 0, ends = (d + 1) % kChain == 0 || d + 1 == job.dims;
      for (int r = 0; r < rows; ++r) {
        score(r, d, scores);
#pragma omp simd
        for (int j = 0; j < n; ++j) part[r][j] = begins ? scores[j] : part[r][j] + scores[j];
        visit(r, d, scores);
        if (!ends) continue;
#pragma omp simd
        for (int j = 0; j < n; ++j) joint[r][j] = d < kChain ? part[r][j] : joint[r][j] + part[r][j];
      }
    }
  }
};

template <class T>
static void forward(const DecompositionJob& job, const Task& task) {
  FlushDenormals guard;
  alignas(64) Scores<T> joint;
  const int64_t end = task.row + task.rows, kinds = job.kinds();
  for (int64_t i = task.row * kinds; i < end * kinds; ++i) {
    job.peak[i] = kMinusInfinity;
    job.log_sum[i] = 0;
  }
  for (int64_t row = task.row; row < end; row += kRows) {
    for (int64_t first = 0; first < job.width; first += kWidest) {
      const Run<T> run(job, row, end, first, job.width);
      const auto add = [&](int r, int64_t kind, T* scores) {
        const int64_t i = (row + r) * kinds + kind;
        if (run.own(r) >= 0) {  // the own posterior has another weight, and joins below
          job.own[i] = scores[run.own(r)];
          scores[run.own(r)] = T(kMinusInfinity);
        }
        join(scores, run.n, job.peak[i], job.log_sum[i]);
      };
      run.joint_scores(joint, [&](int r, int64_t d, T* scores) { add(r, 1 + d, scores); });
      for (int r = 0; r < run.rows; ++r) add(r, 0, joint[r]);
    }
  }
  const double share = std::exp(job.log_own);
#pragma omp simd
  for (int64_t i = task.row * kinds; i < end * kinds; ++i) {
    const LogSumExp<double> all = lse_join<double>({job.peak[i], job.log_sum[i]}, {job.own[i], share});
    job.peak[i] = all.top;
    job.log_sum[i] = all.total > 0 ? log(all.total) : all.total;  // NaN stays NaN
  }
}

// The gradients by z, the means and the log-variances of dimension d. weights[r][j]: the gradient by the score.
template <class T>
static void collect(const Run<T>& run, int64_t d, const Scores<T>& weights, double* grad_z) {
  const int64_t width = run.job.width;
  double* sums = run.job.grad_posterior + 2 * d * width + run.first;
  Vector<T> pull[kRows] = {};
  for (int j = 0; j < run.n; j += kLanes<T>) {
    const Vector<T> mean = load_lanes(run.mean(d) + j), precision = load_lanes(run.precision(d) + j);
    Vector<T> of_mean = {}, of_logvar = {};
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vector<T> weight = load_lanes(weights[r] + j), difference = run.z(r < run.rows ? r : 0, d) - mean;
      const Vector<T> moment = weight * difference * precision;
      of_mean += moment;
      of_logvar += fma(moment, difference, -weight);
      pull[r] += moment;
    }
    T lanes[2][kLanes<T>];
    store_lanes(of_mean, lanes[0]);
    store_lanes(of_logvar, lanes[1]);
#pragma omp simd
    for (int i = 0; i < kLanes<T>; ++i) {
      sums[j + i] += lanes[0][i];
      sums[width + j + i] += lanes[1][i];
    }
  }
  for (int r = 0; r < run.rows; ++r) grad_z[(run.row + r) * run.job.dims + d] -= sum_lanes<T>(pull[r]);
}

// scores[j] becomes plus[j] + weight * (the responsibility of posterior j).
template <class T>
static void respond(const Run<T>& run, int r, int64_t kind, T weight, const T* plus, T* scores) {
  const int64_t i = (run.row + r) * run.job.kinds() + kind;
  const T peak = T(run.job.peak[i]), log_sum = T(run.job.log_sum[i]);
  const int own = run.own(r);
  const T own_score = own < 0 ? peak : scores[own];
#pragma omp simd
  for (int j = 0; j < run.n; ++j)
    scores[j] = plus[j] + weight * gaussian_mixture::responsibility(scores[j], peak, log_sum);
  if (own < 0) return;
  scores[own] = plus[own] + weight * gaussian_mixture::responsibility(own_score, peak, log_sum - T(run.job.log_own));
}

template <class T>
static void backward(const DecompositionJob& job, const Task& task) {
  FlushDenormals guard;
  alignas(64) Scores<T> joint, each = {};
  alignas(64) T zeros[kWidest] = {};
  double* grad_z = job.grad_z + task.col / job.grid.task_cols * job.batch * job.dims;
  const int64_t end = task.col + task.cols;
  for (int64_t first = task.col; first < end; first += kWidest) {
    for (int64_t row = 0; row < job.batch; row += kRows) {
      const Run<T> run(job, row, job.batch, first, end);
      run.joint_scores(joint, [](int, int64_t, T*) {});
      for (int r = 0; r < run.rows; ++r) {
        respond(run, r, 0, T(job.by_joint[row + r]), zeros, joint[r]);
        if (run.own(r) >= 0) joint[r][run.own(r)] += T(job.by_own[row + r]);
      }
      for (int r = run.rows; r < kRows; ++r) std::memset(each[r], 0, sizeof each[r]);
      for (int64_t d = 0; d < job.dims; ++d) {
        for (int r = 0; r < run.rows; ++r) {
          run.score(r, d, each[r]);
          respond(run, r, 1 + d, T(job.by_each[(row + r) * job.dims + d]), joint[r], each[r]);
        }
        collect(run, d, each, grad_z);
      }
    }
  }
}

}  // namespace

extern const DecompositionLoops decomposition_loops[2] = {
    {kLanes<float>, pack<float>, forward<float>, backward<float>},
    {kLanes<double>, pack<double>, forward<double>, backward<double>}};

}  // namespace vk::VK_ISA
