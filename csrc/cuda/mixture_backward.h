// The gradients of a mixture: the responsibilities of a tile, and what its samples, or its components, receive of them.
#pragma once
#include "mixture.h"

namespace vk::cuda {

template <class T>
struct MixtureBackward {
  using Job = MixtureJob;
  using Tile = MixtureTile<T>;
  static constexpr int V = Tile::V, phases = 2, blocks_per_sm = 2;
  struct Local {};
  struct Shared {
    T r[Tile::size][Tile::size];  // [others][owners]: the responsibilities, times the incoming gradient
  };

  // Whose gradients a block makes: the first blocks those of the samples, the last those of the components.
  struct Role {
    bool of_samples;
    Moments sums;
    int64_t tile, split, others;  // the owners' tile; the others: how many, in whole tiles
    VK_GPU Role(const Job& job, int64_t block) {
      const int64_t blocks = job.wide_samples / Tile::size * job.of_samples.splits;
      of_samples = block < blocks;
      sums = of_samples ? job.of_samples : job.of_components;
      tile = (of_samples ? block : block - blocks) / sums.splits;
      split = (of_samples ? block : block - blocks) - tile * sums.splits;
      others = of_samples ? job.wide_components : job.wide_samples;
    }
    VK_GPU int64_t owner() const { return tile * Tile::size; }
    VK_GPU int64_t other(int64_t turn) const { return (split + turn * sums.splits) * Tile::size; }
  };

  VK_GPU static int64_t turns(const Job& job, Place at) {
    const Role role(job, at.block);
    return (role.others / Tile::size - role.split + role.sums.splits - 1) / role.sums.splits;
  }

  template <int P>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared& shared) {
    const Role role(job, at.block);
    if constexpr (P == 0) return respond(job, role, at, shared);
    if constexpr (P == 1) role.of_samples ? pull(job, role, at, shared) : moments(job, role, at, shared);
  }

 private:
  VK_GPU static void respond(const Job& job, const Role& role, Place at, Shared& shared) {
    const int own = at.thread % kSide * V, other = at.thread / kSide * V;  // neighbours in a warp store side by side
    const int64_t owner = role.owner() + own, of_other = role.other(at.turn) + other;
    const int64_t sample = role.of_samples ? owner : of_other, component = role.of_samples ? of_other : owner;
    T s[V][V];
    Tile::scores(job, sample, component, s);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const bool there = sample + i < job.samples;
      const T weight = there ? T(job.incoming(sample + i)) : T(0), peak = there ? T(job.peak[sample + i]) : T(0);
      const T log_sum = there ? T(job.log_sum[sample + i]) : T(0);
#pragma unroll
      for (int j = 0; j < V; ++j)
        s[i][j] = there ? weight * gaussian_mixture::responsibility(s[i][j], peak, log_sum) : T(0);
    }
#pragma unroll
    for (int o = 0; o < V; ++o) {
      T row[V];
#pragma unroll
      for (int i = 0; i < V; ++i) row[i] = role.of_samples ? s[i][o] : s[o][i];
      write(&shared.r[other + o][own], row);
    }
  }

  // sum_k r (z - m) e^{-v}: minus the gradient of z
  VK_GPU static void pull(const Job& job, const Role& role, Place at, const Shared& shared) {
    for (int64_t i = at.thread; i < job.dims * kSide; i += kThreads) {
      const int64_t d = i / kSide;
      const int own = int(i % kSide) * V;
      T z[V], sum[V] = {};
      read(Tile::points(job, d, role.owner() + own), z);
      const T* pair = Tile::pairs(job, d, role.other(at.turn));
#pragma unroll 1
      for (int other = 0; other < Tile::size; other += V) {
        T pairs[2 * V];
        read(pair + 2 * other, pairs);
#pragma unroll
        for (int o = 0; o < V; ++o) {
          const T loc = pairs[2 * o], root = pairs[2 * o + 1];
          T r[V];
          read(&shared.r[other + o][own], r);
#pragma unroll
          for (int j = 0; j < V; ++j) {
            const T u = gaussian_mixture::within(gaussian_mixture::in_deviations(z[j] - loc, root));
            sum[j] = fma(r[j] * u * root, root, sum[j]);
          }
        }
      }
      add(role.sums.first, (role.split * job.dims + d) * job.wide_samples + role.owner() + own, at.turn, sum);
    }
  }

  // sum_n r u and sum_n r u^2, u being standard deviations; and, one dimension further, sum_n r
  VK_GPU static void moments(const Job& job, const Role& role, Place at, const Shared& shared) {
    for (int64_t i = at.thread; i < (job.dims + 1) * kSide; i += kThreads) {
      const int64_t d = i / kSide;
      const int own = int(i % kSide) * V;
      T pairs[2 * V], first[V] = {}, second[V] = {};
      read(Tile::pairs(job, d, role.owner() + own), pairs);
      const T* points = Tile::points(job, d, role.other(at.turn));
#pragma unroll 1
      for (int other = 0; other < Tile::size; other += V) {
        T z[V];
        read(points + other, z);
#pragma unroll
        for (int o = 0; o < V; ++o) {
          T r[V];
          read(&shared.r[other + o][own], r);
#pragma unroll
          for (int j = 0; j < V; ++j) {
            const T u = gaussian_mixture::in_deviations(z[o] - pairs[2 * j], pairs[2 * j + 1]);
            const T moment = r[j] * gaussian_mixture::within(u);
            first[j] += moment;
            second[j] = fma(moment, gaussian_mixture::within(u), second[j]);
          }
        }
      }
      const int64_t place = (role.split * (job.dims + 1) + d) * job.wide_components + role.owner() + own;
      add(role.sums.first, place, at.turn, first);
      add(role.sums.second, place, at.turn, second);
    }
  }

  // No other thread reads or writes there.
  VK_GPU static void add(void* sums, int64_t place, int64_t turn, T (&sum)[V]) {
    T* p = static_cast<T*>(sums) + place;
    T before[V] = {};
    if (turn > 0) read(p, before);
#pragma unroll
    for (int j = 0; j < V; ++j) sum[j] += before[j];
    write(p, sum);
  }
};

// From the sums to the gradients: an element a thread, first those of z.
template <class T>
struct MixtureFinish {
  using Job = MixtureJob;
  static constexpr int phases = 1, blocks_per_sm = 4;
  struct Local {};
  struct Shared {};

  template <int>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared&) {
    int64_t i = at.block * kThreads + at.thread;
    const int64_t of_samples = job.grads[0] ? job.samples * job.dims : 0;
    if (i < of_samples) {
      const int64_t n = i / job.dims, d = i - n * job.dims;
      static_cast<T*>(job.grads[0])[i] =
          T(-total(job.of_samples.first, job.of_samples, job.dims, d, job.wide_samples, n));
      return;
    }
    i -= of_samples;
    if (i >= job.components * job.dims) return;
    const int64_t k = i / job.dims, d = i - k * job.dims, rows = job.dims + 1, wide = job.wide_components;
    const Moments& sums = job.of_components;
    const T root = MixtureTile<T>::pairs(job, d, k)[1];
    const double of_all = total(sums.first, sums, rows, job.dims, wide, k);
    if (job.grads[1]) {
      const T first = T(total(sums.first, sums, rows, d, wide, k));
      static_cast<T*>(job.grads[1])[i] = gaussian_mixture::in_deviations(first, root);
    }
    if (job.grads[2])
      static_cast<T*>(job.grads[2])[i] =
          T(gaussian_mixture::by_logvar(total(sums.second, sums, rows, d, wide, k), of_all));
    if (job.grads[3] && d == 0) static_cast<T*>(job.grads[3])[k] = T(of_all);
  }

 private:
  // of all splits, in their order
  VK_GPU static double total(const void* sums, const Moments& m, int64_t rows, int64_t d, int64_t wide, int64_t i) {
    const T* p = static_cast<const T*>(sums) + d * wide + i;
    double sum = 0;
#pragma unroll 1
    for (int64_t split = 0; split < m.splits; ++split) sum += p[split * rows * wide];
    return sum;
  }
};

}  // namespace vk::cuda
