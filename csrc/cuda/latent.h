// The KL of the latents, or a KL that was given: its sums over rows and columns, and its gradient; and the sample. The
// maths is in formulas/kl.h and formulas/reparameterize.h, the noise in noise.h.
#pragma once
#include "formulas/kl.h"
#include "formulas/reparameterize.h"
#include "noise.h"
#include "tile.h"

namespace vk::cuda {

// A thread keeps to its column. It is in the kernels of every likelihood, and latents are few: it is compiled once.
template <class T>
struct Kl {
  // The sums of rows, and of beta times them, one of each row for each thread; returns the sum of the thread's column.
  VK_GPU_ONCE static T walk(const KlJob& job, int64_t block, int thread, double* sums, double* weighted) {
    const Tiling& t = job.tiling;
    const Tile tile = tile_of(t, block, thread);
    const int64_t col = tile.first_col + tile.lane;
    const bool inside = tile.lane < tile.cols;
    const T beta = inside ? T(job.beta(col)) : T(0);
    T column = 0;
#pragma unroll 1
    for (int r = 0; r < t.rows_each; ++r) {
      const int64_t row = tile.row_block * t.block_rows + tile.slot(r);
      T value = 0;
      if (row < t.rows && col < t.cols - t.missing_in(row) && !job.incoming.as_expected(row)) {
        T d[4];
        const T own = weight_at<T>(job.weights, row, col);
        value = element(job, row, col, d);
        value = own != 0 ? own * value : T(0);
        column += value;
        const T weight = own * T(job.incoming(row) * job.weight(0)) * beta;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const Sink& g = job.grad[k];
          if (!g.data) continue;
          store_one(static_cast<char*>(g.data) + (row * g.stride + col) * size_of(g.dtype), g.dtype,
                    own != 0 ? d[k] * weight : T(0));
        }
      }
      sums[tile.slot(r) * t.lanes + tile.lane] = value;
      weighted[tile.slot(r) * t.lanes + tile.lane] = value * beta;
    }
    return column;
  }

  // value and gradient, not weighted
  VK_GPU static T element(const KlJob& job, int64_t row, int64_t col, T (&d)[4]) {
    const int inputs = job.given ? 1 : job.p[2].data ? 4 : 2;
    T p[4] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const Source& s = job.p[k];
      const char* at = static_cast<const char*>(s.data) + (row * s.stride + col) * size_of(s.dtype);
      if (k < inputs) p[k] = load_one<T>(at, s.dtype);
    }
    if (!job.given) return gaussian_kl::value(p, d);
    d[0] = 1, d[1] = d[2] = d[3] = 0;
    return p[0];
  }

  VK_GPU static void fold_sums(const KlJob& job, int thread, double* sums, double* weighted) {
    if (job.kl) fold(sums, job.tiling.block_rows, job.tiling.lanes, thread);
    if (job.weighted) fold(weighted, job.tiling.block_rows, job.tiling.lanes, thread);
  }
  VK_GPU static void write_sums(const KlJob& job, int64_t block, int thread, const double* sums,
                                const double* weighted) {
    const Tile tile = tile_of(job.tiling, block, thread);
    if (job.kl) write_rows(job.tiling, tile, sums, job.kl, thread);
    if (job.weighted) write_rows(job.tiling, tile, weighted, job.weighted, thread);
  }
  VK_GPU static void share(const KlJob& job, int64_t block, int thread, T column, double* s) {
    const T columns[] = {column};
    share_columns(job.tiling, tile_of(job.tiling, block, thread), columns, reinterpret_cast<T*>(s));
  }
  VK_GPU static void write(const KlJob& job, int64_t block, int thread, const double* s) {
    if (job.columns)
      write_columns<1>(job.tiling, tile_of(job.tiling, block, thread), reinterpret_cast<const T*>(s), job.columns,
                       thread);
  }
};

// ---------------------------------------------------------------- the sample: four elements a thread, as the noise has
// them

constexpr int kGroup = 4;

// Where the noise of this draw begins.
template <class Job>
VK_GPU int64_t first_normal(const Job& job, int64_t draw) {
  return (job.shard ? draw * job.rng[3] + job.rng[2] : draw * job.rows) * job.cols;
}

// The normals of the elements [first, first + 4). Groups of four begin at multiples of four.
VK_GPU void normals(const int64_t* rng, int64_t first, float (&eps)[kGroup]) {
  const uint64_t seed = uint64_t(rng[0]), offset = uint64_t(rng[1]), group = uint64_t(first) >> 2;
  const int shift = int(first & 3);
  float drawn[2 * kGroup] = {};
#pragma unroll
  for (int g = 0; g < 2; ++g) {
    if (g > 0 && !shift) break;
    const Words w = philox(seed, offset, group + g);
    const Pair a = box_muller(w.w[0], w.w[1]), b = box_muller(w.w[2], w.w[3]);
    drawn[4 * g] = a.sine, drawn[4 * g + 1] = a.cosine, drawn[4 * g + 2] = b.sine, drawn[4 * g + 3] = b.cosine;
  }
#pragma unroll
  for (int j = 0; j < kGroup; ++j)  // not drawn[j + shift]: registers have no index
    eps[j] = shift == 0 ? drawn[j] : shift == 1 ? drawn[j + 1] : shift == 2 ? drawn[j + 2] : drawn[j + 3];
}

// Four elements, counted row by row, of a matrix whose rows may lie apart.
struct Four {
  int64_t row, col, cols;
  unsigned mask;

  VK_GPU Four(int64_t first, int64_t rows, int64_t cols) : row(first / cols), col(first - row * cols), cols(cols) {
    const int64_t left = rows * cols - first;
    mask = inside<kGroup>(0, int(left < kGroup ? left : kGroup));
  }
  VK_GPU int64_t row_of(int j) const {  // cols may be less than four
    int64_t r = row, c = col + j;
    while (c >= cols) c -= cols, ++r;
    return r;
  }
  template <class T>
  VK_GPU void read(const Source& s, T (&out)[kGroup]) const {
    if (col + kGroup <= cols || s.stride == cols) {
      two(s, out);
      return;
    }
    int64_t r = row, c = col;
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      const char* at = static_cast<const char*>(s.data) + (r * s.stride + c) * size_of(s.dtype);
      out[j] = mask >> j & 1 ? load_one<T>(at, s.dtype) : T(0);
      if (++c == cols) c = 0, ++r;
    }
  }

  // `first_row` rows further down
  template <class T>
  VK_GPU void write(const Sink& s, int64_t first_row, const T (&v)[kGroup]) const {
    if (!s.data) return;
    if (col + kGroup <= cols || s.stride == cols) {
      constexpr int V = kVector<T>;
      const Cursor c = cursor<T, V>(s.data, (first_row + row) * s.stride + col, s.dtype);
#pragma unroll
      for (int i = 0; i < kGroup; i += V) {
        T part[V];
#pragma unroll
        for (int j = 0; j < V; ++j) part[j] = v[i + j];
        put<T, V, true>(c, i, mask >> i & kFull<V>, part);
      }
      return;
    }
    int64_t r = first_row + row, c = col;
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      if (mask >> j & 1) store_one(static_cast<char*>(s.data) + (r * s.stride + c) * size_of(s.dtype), s.dtype, v[j]);
      if (++c == cols) c = 0, ++r;
    }
  }

 private:
  // side by side in memory
  template <class T>
  VK_GPU void two(const Source& s, T (&out)[kGroup]) const {
    constexpr int V = kVector<T>;
    const Cursor c = cursor<T, V>(s.data, row * s.stride + col, s.dtype);
#pragma unroll
    for (int first = 0; first < kGroup; first += V) {
      T part[V];
      unpack(fetch<T, V, true>(c, first, mask >> first & kFull<V>), part);
#pragma unroll
      for (int j = 0; j < V; ++j) out[first + j] = part[j];
    }
  }
};

template <class T>
struct Sample {
  using Job = SampleJob;
  static constexpr int rows_each = 1, blocks_per_sm = sizeof(T) == 8 ? 2 : 3;
  struct Local {};

  VK_GPU static int64_t blocks(const Job& job) { return job.blocks; }

  VK_GPU static void walk(const Job& job, int64_t block, int thread, Local&, Sums<1>&) {
    const int64_t n = job.rows * job.cols, groups = (n + kGroup - 1) / kGroup, i = block * kThreads + thread;
    if (i >= groups * job.draws) return;
    const int64_t draw = i / groups, first = (i - draw * groups) * kGroup;
    const Four four(first, job.rows, job.cols);
    T mu[kGroup], logvar[kGroup], z[kGroup], unused;
    float eps[kGroup];
    four.read(job.mu, mu);
    four.read(job.logvar, logvar);
    normals(job.rng, first_normal(job, draw) + first, eps);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) z[j] = reparameterize::value(mu[j], logvar[j], T(eps[j]), unused);
    four.write(job.z, draw * job.rows, z);
  }
  VK_GPU static void fold_sums(const Job&, int64_t, int, Sums<1>&) {}
  VK_GPU static void write_sums(const Job&, int64_t, int, Sums<1>&) {}
  template <int K>
  VK_GPU static void share(const Job&, int64_t, int, const Local&, Sums<1>&) {}
  template <int K>
  VK_GPU static void write(const Job&, int64_t, int, Sums<1>&) {}
};

template <class T>
struct SampleBackward {
  using Job = SampleBackwardJob;
  static constexpr int phases = 1, blocks_per_sm = sizeof(T) == 8 ? 2 : 3;
  struct Local {};
  struct Shared {};

  template <int>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared&) {
    const int64_t n = job.rows * job.cols, first = (at.block * kThreads + at.thread) * kGroup;
    if (first >= n) return;
    const Four four(first, job.rows, job.cols);
    T mu[kGroup], logvar[kGroup], grad[4][kGroup] = {};
    four.read(job.p[0], mu);
    four.read(job.p[1], logvar);
    if (job.with_kl) {
      T prior_mu[kGroup] = {}, prior_logvar[kGroup] = {};
      if (job.p[2].data) {
        four.read(job.p[2], prior_mu);
        four.read(job.p[3], prior_logvar);
      }
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        const T q[4] = {mu[j], logvar[j], prior_mu[j], prior_logvar[j]};
        T d[4];
        gaussian_kl::value(q, d);
        if (!(four.mask >> j & 1)) continue;
        const int64_t row = four.row_of(j);
        const T own = weight_at<T>(job.weights, row, first + j - row * job.cols), weight = own * T(job.weight(row));
#pragma unroll
        for (int k = 0; k < 4; ++k) grad[k][j] = own != 0 ? weight * d[k] : T(0);
      }
    }
    if (job.grad_z.data) {
#pragma unroll 1
      for (int64_t draw = 0; draw < job.draws; ++draw) {
        T grad_z[kGroup];
        float eps[kGroup];
        const Four there(draw * n + first, job.draws * job.rows, job.cols);
        there.read(job.grad_z, grad_z);
        normals(job.rng, first_normal(job, draw) + first, eps);
#pragma unroll
        for (int j = 0; j < kGroup; ++j) {
          T d;
          reparameterize::value(mu[j], logvar[j], T(eps[j]), d);
          grad[0][j] += grad_z[j];
          grad[1][j] = fma(grad_z[j], d, grad[1][j]);
        }
      }
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) four.write(job.grad[k], 0, grad[k]);
  }
};

}  // namespace vk::cuda
