// From the blocks' partial sums to the loss, its terms and the gradients that are sums.
//
// Where there is little to add up, the last block of the launch that made the partial sums does it (one_block_phases):
// a second launch would take longer than the work. Where there is much, a lone block would, and a launch of several
// does it; the last of those adds up their totals.
#pragma once
#include "floor.h"

namespace vk::cuda {

// of one column, times the factor
template <class T>
VK_GPU T column_sum(const ColumnSums& s, int64_t begin, int64_t end, int64_t col) {
  double sum = 0;
#pragma unroll 4
  for (int64_t b = begin; b < end; ++b) sum += static_cast<const T*>(s.partial)[b * s.cols + col];
  return T(sum * s.factor);
}

// It is in every kernel that makes partial sums, and not hot: so it is one piece of code for all types and loops.
struct Finish {
  using Job = FinishJob;
  using Shared = Sums<1>;
  struct Local {};
  static constexpr int one_block_phases = 4, phases = 8, blocks_per_sm = 4;

  template <int P>
  VK_GPU static void phase(const Job& job, Place at, Local&, Shared& shared) {
    step<P>(job, at, shared.of[0], shared.last);
  }

  // sums: [kMaxParameters, kThreads] numbers of the block
  template <int P>
  VK_GPU_ONCE static void step(const Job& job, Place at, double* sums, unsigned& last) {
    // totals: the loss, and the gradients of parameters 1, 2, ... that are one number
    constexpr int Q = kMaxParameters;
    if constexpr (P == 0) {
      const Range range = rows_of(job, at);
#pragma unroll 1
      for (int k = 0; k < 3; ++k) fold_rows(k == 0 ? job.nll : k == 1 ? job.kl : job.weighted, range, at.thread);
#pragma unroll 1
      for (int k = 1; k < Q; ++k) fold_rows(job.samples[k], range, at.thread);
#pragma unroll 1
      for (int k = 0; k < Q; ++k) job.float64 ? columns<double>(job, k, at) : columns<float>(job, k, at);
    }
    if constexpr (P == 1) {
      sums[at.thread] = rows(job, rows_of(job, at), at.thread) + units(job, at);
#pragma unroll 1
      for (int k = 1; k < Q; ++k) {
        double sum = 0;
        if (job.block_sums[k])
          for (int64_t i = at.block * kThreads + at.thread; i < job.n_blocks; i += at.blocks * kThreads)
            sum += job.block_sums[k][i];
        sums[k * kThreads + at.thread] = sum;
      }
    }
    if constexpr (P == 2 || P == 6)
#pragma unroll 1
      for (int k = 0; k < Q; ++k) fold(sums + k * kThreads, 1, kThreads, at.thread);
    if constexpr (P == 3) {
      if (at.thread >= Q) return;
      const double total = folded(sums + at.thread * kThreads, 0, kThreads);
      at.blocks == 1 ? write(job, at.thread, total) : void(job.totals[at.thread * at.blocks + at.block] = total);
    }
    if constexpr (P == 4) {
      if (at.thread > 0) return;
      last = at.blocks > 1 && take_ticket(job.ticket) == at.blocks - 1;
      if (last) *job.ticket = 0;
    }
    if constexpr (P == 5) {
      if (!last) return;
#pragma unroll 1
      for (int k = 0; k < Q; ++k) {
        double sum = 0;
        for (int64_t i = at.thread; i < at.blocks; i += kThreads) sum += job.totals[k * at.blocks + i];
        sums[k * kThreads + at.thread] = sum;
      }
    }
    if constexpr (P == 7)
      if (last && at.thread < Q) write(job, at.thread, folded(sums + at.thread * kThreads, 0, kThreads));
  }

 private:
  struct Range {
    int64_t begin, end;
  };
  VK_GPU static Range rows_of(const Job& job, Place at) {
    const int64_t each = (job.rows + at.blocks - 1) / at.blocks, begin = at.block * each;
    return {begin < job.rows ? begin : job.rows, begin + each < job.rows ? begin + each : job.rows};
  }

  // A row's partial sums become `lanes` ones, in place: each thread writes only where it alone has read.
  VK_GPU static void fold_rows(const RowSums& s, Range rows, int thread) {
    if (s.lanes == s.pieces) return;
    const int64_t end = rows.end < s.rows ? rows.end : s.rows;
    for (int64_t i = rows.begin * s.lanes + thread; i < end * s.lanes; i += kThreads) {
      const int64_t row = i / s.lanes, lane = i - row * s.lanes;
      double* partial = s.partial + row * s.pieces;
      double sum = 0;
#pragma unroll 4
      for (int64_t j = lane; j < s.pieces; j += s.lanes) sum += partial[j];
      partial[lane] = sum;
    }
  }

  VK_GPU static double rows(const Job& job, Range rows, int thread) {
    const double rec_weight = job.rec_weight(0), beta = job.beta(0);
    double of_units = 0;  // of all units of free bits that are means over the batch
    if (job.floor.means.data && job.loss_stride)
      of_units = job.floor.cost ? *job.floor.cost : cost_of_units(job.floor, 0, 1);
    double total = 0;
    for (int64_t row = rows.begin + thread; row < rows.end; row += kThreads) {
      double loss = 0;
      if (row < job.nll.rows) {
        const double nll = row_sum(job.nll, row);
        loss += rec_weight * nll;
        if (job.nll.out) put(job, job.nll.out, row, nll);
      }
      if (row < job.kl.rows) {
        const double kl = row_sum(job.kl, row);
        double cost = row < job.weighted.rows ? row_sum(job.weighted, row) : kl;
        if (job.floor.by_row) cost = cost_of(job.floor, kl);
        if (job.floor.means.data) cost = of_units;
        loss += beta * cost;
        if (job.kl.out) put(job, job.kl.out, row, kl);
      }
#pragma unroll 1
      for (int k = 1; k < kMaxParameters; ++k)
        if (row < job.samples[k].rows) put(job, job.samples[k].out, row, row_sum(job.samples[k], row));
      if (job.loss && job.loss_stride) put(job, job.loss, row, loss);
      total += loss;
    }
    return total;
  }

  // Where no row has a loss, the threads share the units. A thread has added up the means of its units itself, if a
  // unit is one dimension.
  VK_GPU static double units(const Job& job, Place at) {
    if (!job.floor.means.data || job.loss_stride || !job.loss || job.floor.rows == 0) return 0;
    const double all = cost_of_units(job.floor, at.block * kThreads + at.thread, at.blocks * kThreads);
    return job.beta(0) * double(job.floor.rows) * all;
  }

  template <class T>
  VK_GPU static void columns(const Job& job, int k, Place at) {
    const ColumnSums& s = job.columns[k];
    if (!s.out) return;
    for (int64_t c = at.block * kThreads + at.thread; c < s.cols; c += at.blocks * kThreads)
      static_cast<T*>(s.out)[c] = column_sum<T>(s, 0, s.row_blocks, c);
  }

  VK_GPU static void put(const Job& job, void* out, int64_t i, double v) {
    if (job.float64)
      static_cast<double*>(out)[i] = v;
    else
      static_cast<float*>(out)[i] = float(v);
  }

  VK_GPU static void write(const Job& job, int k, double total) {
    if (k == 0 && job.loss && !job.loss_stride) put(job, job.loss, 0, total * job.loss_factor);
    if (k == 0 && job.loss_of_all) put(job, job.loss_of_all, 0, total * job.loss_factor);
    if (k > 0 && job.number_out[k]) put(job, job.number_out[k], 0, total);
  }
};

}  // namespace vk::cuda
