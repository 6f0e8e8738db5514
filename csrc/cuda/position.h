// The kernels of the position kind: the log-sum-exp and the value of each position, and the gradient of its logits.
// Several threads share a position: they take its levels by turns. The maths is in formulas/<name>.h.
#pragma once
#include "log_sum_exp.h"
#include "tile.h"

namespace vk::cuda {

// Where a thread is: its position, and which of the threads there it is.
struct Spot {
  int64_t row, col;
  int lane, apart;  // the threads of one position are `apart` in the block
  bool inside;

  VK_GPU Spot(const PositionJob& job, int64_t block, int thread) {
    lane = job.inner ? thread % job.along : thread / job.across;
    apart = job.inner ? 1 : job.across;
    const int64_t position = block * job.across + (job.inner ? thread / job.along : thread % job.across);
    row = position / job.cols;
    col = position - row * job.cols;
    inside = row < job.rows;
  }
  VK_GPU int64_t element(const PositionJob& job, int64_t row_stride, int64_t level) const {
    return row * row_stride + (job.inner ? col * job.levels + level : level * job.cols + col);
  }
  // -1 where x is no level
  VK_GPU int64_t level(const PositionJob& job) const {
    const int64_t e = row_of<RowNumber>(row, job.x.rows) * job.x.stride + col;
    const char* p = static_cast<const char*>(job.x.data) + e * size_of(job.x.dtype);
    int64_t level;
    switch (job.x.dtype) {
      case DType::uint8:
      case DType::boolean:
        level = load<uint8_t>(p);
        break;
      case DType::int16:
        level = load<int16_t>(p);
        break;
      case DType::int32:
        level = load<int32_t>(p);
        break;
      default:
        level = load<int64_t>(p);
    }
    return level < job.levels ? level : -1;
  }
};

// V levels of a thread: from `level` on, `along` apart. `pitch` is the distance between their elements. Those elements
// are there whose offset is less than `n`.
struct Run {
  int64_t pitch, n;
  VK_GPU Run(const PositionJob& job, int64_t level) {
    const int64_t each = job.inner ? 1 : job.cols;
    pitch = job.along * each;
    n = (job.levels - level) * each;
  }
};

template <class F, class T>
struct Position {
  using Job = PositionJob;
  static constexpr int V = sizeof(T) == 4 ? 8 : 4, blocks_per_sm = sizeof(T) == 4 ? 4 : 2;
  // 0: the levels; then the threads of a position join by halves, from 256 to 1; at last the value
  static constexpr int joins = 8, phases = joins + 2;
  struct Local {};
  struct Shared {
    T top[kThreads], total[kThreads];
  };

  template <int P>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared& shared) {
    const Spot spot(job, at.block, at.thread);
    if constexpr (P == 0) {
      const LogSumExp<T> s = spot.inside ? walk(job, spot) : lse_none<T>();
      put(shared, at.thread, s);
    } else if constexpr (P <= joins) {
      constexpr int half = kThreads >> P;
      if (half >= job.along || spot.lane >= half) return;
      put(shared, at.thread, lse_join(get(shared, at.thread), get(shared, at.thread + half * spot.apart)));
    } else {
      if (spot.lane > 0 || !spot.inside) return;
      LogSumExp<T> s = get(shared, at.thread);
      const int64_t level = spot.level(job), i = spot.row * job.cols + spot.col;
      if (level < 0) s.total = T(NAN);
      const int64_t e = spot.element(job, job.logits.stride, level < 0 ? 0 : level);
      const char* p = static_cast<const char*>(job.logits.data) + e * size_of(job.logits.dtype);
      const T weight = weight_at<T>(job.weights, spot.row, spot.col);
      job.values[i] = weight != 0 ? weight * F::nll(s, load_one<T>(p, job.logits.dtype)) : T(0);
      static_cast<T*>(job.top)[i] = s.top;
      static_cast<T*>(job.total)[i] = s.total;
    }
  }

 private:
  VK_GPU static LogSumExp<T> get(const Shared& shared, int i) { return {shared.top[i], shared.total[i]}; }
  VK_GPU static void put(Shared& shared, int i, LogSumExp<T> s) {
    shared.top[i] = s.top;
    shared.total[i] = s.total;
  }

  VK_GPU static LogSumExp<T> walk(const Job& job, const Spot& spot) {
    LogSumExp<T> s = lse_none<T>();
#pragma unroll 1
    for (int64_t level = spot.lane; level < job.levels; level += job.along * V) {
      const Run run(job, level);
      T logits[V];
      gather(job.logits.data, spot.element(job, job.logits.stride, level), job.logits.dtype, run.pitch, run.n, logits);
#pragma unroll
      for (int j = 0; j < V; ++j) logits[j] = j * run.pitch < run.n ? logits[j] : T(-INFINITY);
      s = lse_add(s, logits);
    }
    return s;
  }
};

template <class F, class T>
struct PositionBackward {
  using Job = PositionJob;
  static constexpr int V = Position<F, T>::V, phases = 1, blocks_per_sm = Position<F, T>::blocks_per_sm;
  struct Local {};
  struct Shared {};

  template <int>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared&) {
    const Spot spot(job, at.block, at.thread);
    if (!spot.inside) return;
    const int64_t i = spot.row * job.cols + spot.col, chosen = spot.level(job);
    const T own = weight_at<T>(job.weights, spot.row, spot.col), weight = own * T(job.incoming(spot.row));
    const T top = static_cast<const T*>(job.top)[i];
    const T scaled = weight / static_cast<const T*>(job.total)[i];
#pragma unroll 1
    for (int64_t level = spot.lane; level < job.levels; level += job.along * V) {
      const Run run(job, level);
      T v[V] = {};
      if (own != 0) {
        gather(job.logits.data, spot.element(job, job.logits.stride, level), job.logits.dtype, run.pitch, run.n, v);
#pragma unroll
        for (int j = 0; j < V; ++j)
          v[j] = F::weight(v[j], top) * scaled - (level + j * job.along == chosen ? weight : T(0));
      }
      scatter(job.grad.data, spot.element(job, job.grad.stride, level), job.grad.dtype, run.pitch, run.n, v);
    }
  }
};

}  // namespace vk::cuda
