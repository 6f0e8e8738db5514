// The kernels that no likelihood has a part in: KL and sample, forward and backward; the finish; the sums of rows and
// of columns; the gradients that free bits close; the rescaled gradient.
#include "elbo.h"

namespace vk::cuda {

Launched latent_kernel(const ElboJob<SampleJob>& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<Elbo<Sample<double>, double>>(job, blocks, stream)
                 : launch<Elbo<Sample<float>, float>>(job, blocks, stream);
}

Launched sample_backward_kernel(const SampleBackwardJob& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<SampleBackward<double>>(job, blocks, stream)
                 : launch<SampleBackward<float>>(job, blocks, stream);
}

Launched finish_kernel(const FinishJob& job, int64_t blocks, void* stream) {
  return launch<Finish>(job, blocks, stream);
}

Launched costs_kernel(const FloorJob& job, void* stream) { return launch<Costs>(job, 1, stream); }

Launched close_kernel(const CloseJob& job, int64_t blocks, void* stream) { return launch<Close>(job, blocks, stream); }

template <class T>
struct Rescale {
  using Job = RescaleJob;
  static constexpr int phases = 1, blocks_per_sm = 4, V = sizeof(T) == 4 ? 8 : 2;
  struct Local {};
  struct Shared {};

  template <int>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared&) {
    const T factor = T(job.factor(0));
    if (factor == 1) return;
    const Cursor data = cursor<T, V>(job.data, 0, job.dtype);
    for (int64_t i = at.block * kThreads + at.thread; i * V < job.n; i += at.blocks * kThreads) {
      const int64_t left = job.n - i * V;
      const unsigned mask = inside<V>(0, int(left < V ? left : V));
      T v[V];
      unpack(fetch<T, V, false>(data, i * V, mask), v);
#pragma unroll
      for (int j = 0; j < V; ++j) v[j] *= factor;
      put<T, V, false>(data, i * V, mask, v);
    }
  }
};

// The sums of rows, a block each, in a fixed order.
template <class T>
struct RowsSum {
  using Job = RowsJob;
  static constexpr int phases = 3, blocks_per_sm = 4;
  struct Local {};
  struct Shared {
    double of[kThreads];
  };

  template <int P>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared& shared) {
    if constexpr (P == 0) {
      double sum = 0;
      for (int64_t i = at.thread; i < job.cols; i += kThreads) sum += job.values(at.block * job.cols + i);
      shared.of[at.thread] = sum;
    }
    if constexpr (P == 1) fold(shared.of, 1, kThreads, at.thread);
    if constexpr (P == 2)
      if (at.thread == 0) static_cast<T*>(job.out)[at.block] = T(folded(shared.of, 0, kThreads));
  }
};

// The sums of columns over some row blocks, a thread each.
template <class T>
struct Columns {
  using Job = ColumnsJob;
  static constexpr int phases = 1, blocks_per_sm = 4;
  struct Local {};
  struct Shared {};

  template <int>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared&) {
    const ColumnSums& s = job.sums;
    const int64_t i = at.block * kThreads + at.thread, begin = i / s.cols * job.each, end = begin + job.each;
    if (i < job.groups * s.cols)
      static_cast<T*>(s.out)[i] = column_sum<T>(s, begin, end < s.row_blocks ? end : s.row_blocks, i % s.cols);
  }
};

Launched columns_kernel(const ColumnsJob& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<Columns<double>>(job, blocks, stream) : launch<Columns<float>>(job, blocks, stream);
}

Launched rows_sum_kernel(const RowsJob& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<RowsSum<double>>(job, blocks, stream) : launch<RowsSum<float>>(job, blocks, stream);
}

Launched rescale_kernel(const RescaleJob& job, int64_t blocks, void* stream) {
  return job.dtype == DType::float64 ? launch<Rescale<double>>(job, blocks, stream)
                                     : launch<Rescale<float>>(job, blocks, stream);
}

}  // namespace vk::cuda
