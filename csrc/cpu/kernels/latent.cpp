// The latent loops: KL of diagonal Gaussians, and the reparameterized sample, forward and backward.
// Compiled once per instruction set (VK_ISA); the maths is in formulas/kl.h, formulas/reparameterize.h and noise.h.
#include "formulas/kl.h"
#include "formulas/reparameterize.h"
#include "noise.h"
#include "tile.h"

namespace vk::VK_ISA {
namespace {  // as in likelihood.cpp: nothing here is for the linker to share

template <class T>
static void multiply(const T* weights, int n, T* values) {
#pragma omp simd
  for (int i = 0; i < n; ++i) values[i] = weighted(weights[i], values[i]);
}

// values[i] and grads[k][i] of the KL, not weighted
template <class T, bool PRIOR>
static void kl_tile(const T* const* p, int n, T* values, T (*grads)[kBlock]) {
  const T *p0 = p[0], *p1 = p[1], *p2 = p[2], *p3 = p[3];
#pragma omp simd
  for (int i = 0; i < n; ++i) {
    const T q[4] = {p0[i], p1[i], PRIOR ? p2[i] : 0, PRIOR ? p3[i] : 0};
    T d[4];
    values[i] = gaussian_kl::value(q, d);
    grads[0][i] = d[0];
    grads[1][i] = d[1];
    if constexpr (PRIOR) {
      grads[2][i] = d[2];
      grads[3][i] = d[3];
    }
  }
}

template <class T>
struct KlTile {
  alignas(64) T value[kBlock], grad[4][kBlock], in[4][kBlock], weight[kBlock];

  void compute(const Source* sources, const ElementWeights& weights, const Tile& t) {
    const int inputs = sources[2].data ? 4 : 2;
    const T* p[4] = {};
    for (int k = 0; k < inputs; ++k) p[k] = load_tile(sources[k], t, 0, in[k]);
    inputs == 4 ? kl_tile<T, true>(p, t.n(), value, grad) : kl_tile<T, false>(p, t.n(), value, grad);
    if (!weights.data) return;
    for (int64_t r = 0; r < t.rows; ++r) load_into(weights, t.row + r, t.col, int(t.cols), weight + r * t.cols);
    multiply(weight, t.n(), value);
    for (int k = 0; k < inputs; ++k) multiply(weight, t.n(), grad[k]);
  }
  // The gradients times the weight of their row, and times the beta of their column.
  void scale(int inputs, const Weights& of_row, const double* beta, const Tile& t) {
    spread(of_row, t, weight);
    for (int64_t r = 0; beta && r < t.rows; ++r)
      for (int64_t c = 0; c < t.cols; ++c) weight[r * t.cols + c] *= T(beta[t.col + c]);
    for (int k = 0; k < inputs; ++k)
      for (int i = 0; i < t.n(); ++i) grad[k][i] *= weight[i];
  }
};

template <class T>
static void kl(const KlJob& job, const Task& task) {
  FlushDenormals guard;
  KlTile<T> tile;
  const int inputs = job.p[2].data ? 4 : 2;
  bool wanted = false;  // whether any gradient is
  for (const Sink& g : job.grad) wanted |= g.data != nullptr;
  const int64_t col_tasks = job.grid.col_tasks(), col_task = task.col / job.grid.task_cols;
  double* per_dim = job.per_dim ? job.per_dim + task.row / job.grid.task_rows * job.grid.cols : nullptr;
  for (int64_t row = task.row; job.kl && row < task.row + task.rows; ++row) {
    job.kl[row * col_tasks + col_task] = 0;
    if (job.weighted) job.weighted[row * col_tasks + col_task] = 0;
  }
  for_each_tile(job.grid, task, [&](const Tile& t) {
    tile.compute(job.p, job.element_weights, t);
    if (job.values) {
      T* to = static_cast<T*>(job.values) + t.row * job.grid.cols + t.col;
      for (int i = 0; i < t.n(); ++i) to[i] = T(job.factor) * tile.value[i];
    }
    if (job.kl && t.rows > 1) sum_rows(tile.value, t, 1., job.kl + t.row);
    for (int64_t r = 0; r < t.rows && ((job.kl && t.rows == 1) || job.weighted || per_dim); ++r) {
      const T* v = tile.value + r * t.cols;
      const int64_t partial = (t.row + r) * col_tasks + col_task;
      if (job.kl && t.rows == 1) job.kl[partial] += sum_of(v, int(t.cols));
      if (job.weighted) {
        double weighted = 0;
#pragma omp simd reduction(+ : weighted)
        for (int64_t c = 0; c < t.cols; ++c) weighted += v[c] * job.beta[t.col + c];
        job.weighted[partial] += weighted;
      }
      if (per_dim)
        for (int64_t c = 0; c < t.cols; ++c) per_dim[t.col + c] += v[c];
    }
    if (!wanted) return;
    tile.scale(inputs, job.weight, job.beta, t);
    for (int k = 0; k < inputs; ++k) store_tile(tile.grad[k], job.grad[k], t);
  });
}

// n normals from element `first` on. Whole groups of four are drawn: eps points at the first one wanted.
struct Noise {
  alignas(64) float buffer[kBlock + 8];
  const float* draw(const NoiseOf& of, int64_t first, int n) {
    const uint64_t seed = of.seed, offset = of.offset;
    const uint64_t group = uint64_t(first) >> 2;
    const int groups = int(((uint64_t(first) + n + 3) >> 2) - group);
    float* out = buffer;
#pragma omp simd
    for (int c = 0; c < groups; ++c) {
      const Words w = philox(seed, offset, group + c);
      const Pair a = box_muller(w.w[0], w.w[1]), b = box_muller(w.w[2], w.w[3]);
      out[4 * c] = a.sine;
      out[4 * c + 1] = a.cosine;
      out[4 * c + 2] = b.sine;
      out[4 * c + 3] = b.cosine;
    }
    return buffer + (first & 3);
  }
};

template <class T>
static void sample_tile(const T* mu, const T* logvar, const float* eps, T* z, int n) {
  T unused;
#pragma omp simd private(unused)
  for (int i = 0; i < n; ++i) z[i] = reparameterize::value(mu[i], logvar[i], T(eps[i]), unused);
}

template <class T>
static void sample(const SampleJob& job, const Task& task) {
  FlushDenormals guard;
  Noise noise;
  alignas(64) T mu_buffer[kBlock], logvar_buffer[kBlock], z_buffer[kBlock];
  for_each_tile(job.grid, task, [&](const Tile& t) {
    const T *mu = load_tile(job.mu, t, 0, mu_buffer), *logvar = load_tile(job.logvar, t, 0, logvar_buffer);
    for (int64_t k = 0; k < job.noise.draws; ++k) {
      const int64_t first_row = k * job.grid.rows;
      const float* eps = noise.draw(job.noise, job.noise.row(k, t.row) * job.grid.cols + t.col, t.n());
      T* z = target(job.z, first_row + t.row, t.col, z_buffer);
      sample_tile(mu, logvar, eps, z, t.n());
      store_tile(z, job.z, t, first_row);
    }
  });
}

template <class T>
static void sample_backward_tile(const T* mu, const T* logvar, const float* eps, const T* grad_z, T* grad_mu,
                                 T* grad_logvar, int n) {
#pragma omp simd
  for (int i = 0; i < n; ++i) {
    T d;
    reparameterize::value(mu[i], logvar[i], T(eps[i]), d);
    grad_mu[i] += grad_z[i];
    grad_logvar[i] = fma(grad_z[i], d, grad_logvar[i]);
  }
}

template <class T>
static void sample_backward(const SampleBackwardJob& job, const Task& task) {
  FlushDenormals guard;
  Noise noise;
  KlTile<T> tile;
  alignas(64) T z_buffer[kBlock];
  for_each_tile(job.grid, task, [&](const Tile& t) {
    if (job.weight.data) {
      tile.compute(job.p, job.element_weights, t);
      tile.scale(job.p[2].data ? 4 : 2, job.weight, nullptr, t);
    } else {
      for (int k = 0; k < (job.p[2].data ? 4 : 2); ++k)
        for (int i = 0; i < t.n(); ++i) tile.grad[k][i] = 0;
    }
    if (job.grad_z.data) {
      const T *mu = load_tile(job.p[0], t, 0, tile.in[0]), *logvar = load_tile(job.p[1], t, 0, tile.in[1]);
      for (int64_t k = 0; k < job.noise.draws; ++k) {
        const int64_t first_row = k * job.grid.rows;
        const float* eps = noise.draw(job.noise, job.noise.row(k, t.row) * job.grid.cols + t.col, t.n());
        const T* grad_z = load_tile(job.grad_z, t, first_row, z_buffer);
        sample_backward_tile(mu, logvar, eps, grad_z, tile.grad[0], tile.grad[1], t.n());
      }
    }
    for (int k = 0; k < 4; ++k) store_tile(tile.grad[k], job.grad[k], t);
  });
}

}  // namespace

extern const LatentLoops latent_loops[2] = {{kl<float>, sample<float>, sample_backward<float>},
                                            {kl<double>, sample<double>, sample_backward<double>}};

}  // namespace vk::VK_ISA
