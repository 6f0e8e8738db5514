// The log density of a mixture and its gradients. A block has a tile of samples and goes through tiles of components,
// or the other way round; a thread has V samples and V components, so that what it loads serves V times. Nothing of the
// size samples x components is ever in memory. The maths is in formulas/mixture.h.
#pragma once
#include "formulas/mixture.h"
#include "tile.h"

namespace vk::cuda {

template <class T, int N>
VK_GPU void read(const T* p, T (&v)[N]) {
  uint32_t w[N * sizeof(T) / 4];
  load_words<N* int(sizeof(T))>(reinterpret_cast<const char*>(p), w);
#pragma unroll
  for (int j = 0; j < N; ++j)
    if constexpr (sizeof(T) == 4)
      v[j] = bits_to_float(w[j]);
    else
      v[j] = words_to_double(w[2 * j], w[2 * j + 1]);
}
template <class T, int N>
VK_GPU void write(T* p, const T (&v)[N]) {
  uint32_t w[N * sizeof(T) / 4];
#pragma unroll
  for (int j = 0; j < N; ++j) to_words(v[j], w + j * int(sizeof(T) / 4));
  store_words<N* int(sizeof(T))>(reinterpret_cast<char*>(p), w);
}

// The packed copies, and the constants.
template <class T>
struct MixturePack {
  using Job = MixtureJob;
  static constexpr int phases = 3, blocks_per_sm = 4;
  struct Local {};
  struct Shared {
    double of[kThreads];
  };

  template <int P>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared& shared) {
    if (at.block >= job.constant_blocks) {
      if constexpr (P == 0) copy(job, (at.block - job.constant_blocks) * kThreads + at.thread);
      return;
    }
    const int across = kThreads / job.along, lane = at.thread % job.along;
    const int64_t k = at.block * across + at.thread / job.along;
    if constexpr (P == 0) {
      double sum = 0;
      if (k < job.components)
        for (int64_t d = lane; d < job.dims; d += job.along) sum += static_cast<const T*>(job.logvar)[k * job.dims + d];
      shared.of[at.thread] = sum;
    }
    if constexpr (P == 1) fold(shared.of, across, job.along, at.thread);
    if constexpr (P == 2) {
      if (lane > 0 || k >= job.wide_components) return;
      T constant = T(-INFINITY);
      if (k < job.components)
        constant = T(gaussian_mixture::constant(static_cast<const T*>(job.log_weight)[k],
                                                folded(shared.of, at.thread / job.along, job.along), job.dims));
      static_cast<T*>(job.constants)[k] = constant;
    }
  }

 private:
  VK_GPU static void copy(const Job& job, int64_t i) {
    const int64_t wide = job.wide_samples + job.wide_components, d = i / wide, place = i - d * wide;
    if (d > job.dims) return;
    const bool more = d == job.dims;
    if (place < job.wide_samples) {
      T z = more;
      if (!more && place < job.samples) z = static_cast<const T*>(job.z)[place * job.dims + d];
      static_cast<T*>(job.points)[d * job.wide_samples + place] = z;
      return;
    }
    const int64_t k = place - job.wide_samples;
    T pair[2] = {0, 1};
    if (!more && k < job.components) {
      pair[0] = static_cast<const T*>(job.loc)[k * job.dims + d];
      pair[1] = gaussian_mixture::root(static_cast<const T*>(job.logvar)[k * job.dims + d]);
    }
    T* out = static_cast<T*>(job.pairs) + 2 * (d * job.wide_components + k);
    out[0] = pair[0], out[1] = pair[1];
  }
};

// A tile: what its threads have, and their scores. Forward and backward they are the same bits.
template <class T>
struct MixtureTile {
  static constexpr int V = kVector<T>, size = kSide * V, chain = 32;

  // of samples and components from these on
  VK_GPU static void scores(const MixtureJob& job, int64_t sample, int64_t component, T (&s)[V][V]) {
    const T *z = points(job, 0, sample), *pair = pairs(job, 0, component);
#pragma unroll
    for (int i = 0; i < V * V; ++i) s[i / V][i % V] = 0;
#pragma unroll 1
    for (int64_t left = job.dims; left > 0; left -= chain) {  // short chains of sums are rounded less
      T sum[V][V] = {};
      const int n = left < chain ? int(left) : chain;
#pragma unroll 1
      for (int d = 0; d < n; ++d) {
        T of_sample[V], of_component[2 * V];
        read(z, of_sample);
        read(pair, of_component);
#pragma unroll
        for (int i = 0; i < V; ++i)
#pragma unroll
          for (int j = 0; j < V; ++j) {
            const T u = gaussian_mixture::in_deviations(of_sample[i] - of_component[2 * j], of_component[2 * j + 1]);
            sum[i][j] = fma(u, u, sum[i][j]);
          }
        z += job.wide_samples;
        pair += 2 * job.wide_components;
      }
#pragma unroll
      for (int i = 0; i < V * V; ++i) s[i / V][i % V] += sum[i / V][i % V];
    }
    T constants[V];
    read(static_cast<const T*>(job.constants) + component, constants);
#pragma unroll
    for (int i = 0; i < V * V; ++i) s[i / V][i % V] = gaussian_mixture::score(constants[i % V], s[i / V][i % V]);
  }
  VK_GPU static const T* points(const MixtureJob& job, int64_t d, int64_t sample) {
    return static_cast<const T*>(job.points) + d * job.wide_samples + sample;
  }
  VK_GPU static const T* pairs(const MixtureJob& job, int64_t d, int64_t component) {
    return static_cast<const T*>(job.pairs) + 2 * (d * job.wide_components + component);
  }
};

template <class T>
VK_GPU void write_log_p(const MixtureJob& job, int64_t sample, LogSumExp<T> s) {
  const double log_sum = gaussian_mixture::log_total(s.total);
  job.peak[sample] = s.top;
  job.log_sum[sample] = log_sum;
  static_cast<T*>(job.log_p)[sample] = T(s.top + log_sum);
}

template <class T>
struct MixtureForward {
  using Job = MixtureJob;
  using Tile = MixtureTile<T>;
  static constexpr int V = Tile::V, phases = 2, blocks_per_sm = 2;
  struct Local {};
  struct Shared {
    T top[Tile::size * kSide], total[Tile::size * kSide];  // kSide threads share a sample
  };

  template <int P>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared& shared) {
    const int64_t tile = at.block / job.splits, split = at.block - tile * job.splits;
    if constexpr (P == 0) {
      const int row = at.thread / kSide * V, col = at.thread % kSide;
      LogSumExp<T> of[V];
#pragma unroll
      for (int i = 0; i < V; ++i) of[i] = lse_none<T>();
#pragma unroll 1
      for (int64_t k = split * Tile::size; k < job.wide_components; k += job.splits * Tile::size) {
        T s[V][V];
        Tile::scores(job, tile * Tile::size + row, k + col * V, s);
#pragma unroll
        for (int i = 0; i < V; ++i) of[i] = lse_add(of[i], s[i]);
      }
#pragma unroll
      for (int i = 0; i < V; ++i) {
        shared.top[(row + i) * kSide + col] = of[i].top;
        shared.total[(row + i) * kSide + col] = of[i].total;
      }
    } else {
      const int64_t sample = tile * Tile::size + at.thread;
      if (at.thread >= Tile::size || sample >= job.samples) return;
      LogSumExp<T> s = lse_none<T>();
#pragma unroll 1
      for (int i = at.thread * kSide; i < (at.thread + 1) * kSide; ++i)
        s = lse_join(s, {shared.top[i], shared.total[i]});
      if (job.splits == 1) return write_log_p(job, sample, s);
      static_cast<T*>(job.top)[split * job.samples + sample] = s.top;
      static_cast<T*>(job.total)[split * job.samples + sample] = s.total;
    }
  }
};

template <class T>
struct MixtureJoin {
  using Job = MixtureJob;
  static constexpr int phases = 1, blocks_per_sm = 4;
  struct Local {};
  struct Shared {};

  template <int>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared&) {
    const int64_t sample = at.block * kThreads + at.thread;
    if (sample >= job.samples) return;
    LogSumExp<T> s = lse_none<T>();
#pragma unroll 1
    for (int64_t i = sample; i < job.splits * job.samples; i += job.samples)
      s = lse_join(s, {static_cast<const T*>(job.top)[i], static_cast<const T*>(job.total)[i]});
    write_log_p(job, sample, s);
  }
};

}  // namespace vk::cuda
