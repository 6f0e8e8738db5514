// Value and gradient of one likelihood in one pass over [rows, cols]; the maths is in formulas/<name>.h.
#pragma once
#include "formula.h"
#include "tile.h"

namespace vk::cuda {

// V elements are worked on one after another, each at index 0: unrolled, the turning costs nothing, and a formula of
// hundreds of instructions need not be there V times.
template <class F, int V>
constexpr int kUnrolled = is_counts<F> ? 1 : V;
template <class F>
constexpr Ints kTarget = is_counts<F> ? Ints::counts : Ints::targets;
// A formula of counts holds more than 64 numbers at a time, and more than 128 registers' worth in float64.
template <class T>
constexpr int kBlocksOfCounts = sizeof(T) == 8 ? 1 : 2;
template <class T, int V>
VK_GPU void turn(T (&a)[V]) {
  const T first = a[0];
#pragma unroll
  for (int i = 1; i < V; ++i) a[i - 1] = a[i];
  a[V - 1] = first;
}

// What the two ways over a matrix have in common: the sums of a row, and those of all for a parameter that is a number.
// ROW: and those of the derivatives by log_total.
template <class F, class T, int ROWS, bool ROW = false>
struct LikelihoodSums {
  using Job = LikelihoodJob;
  static constexpr int N = F::parameters, rows_each = ROWS;
  static_assert(!ROW || N < kMaxParameters, "the sums of log_total have the last place");

  // a parameter that is one number for all columns of row i; left out: 0
  VK_GPU static T read_number(const Parameter& p, int64_t i) {
    if (p.by_column() || !p.in.data) return 0;
    return load_one<T>(static_cast<const char*>(p.in.data) + i * p.in.stride * size_of(p.in.dtype), p.in.dtype);
  }

  VK_GPU static void fold_sums(const Job& job, int64_t, int thread, Sums<ROWS>& shared) {
    if (job.nll) fold(shared.of[0], job.tiling.block_rows, job.tiling.lanes, thread);
    if (ROW && job.softmax.sums) fold(shared.of[N], job.tiling.block_rows, job.tiling.lanes, thread);
#pragma unroll
    for (int k = 1; k < N; ++k) {
      const bool by_row = job.p[k].layout == Layout::per_sample;
      if (job.p[k].sums)
        fold(shared.of[k], by_row ? job.tiling.block_rows : 1, by_row ? job.tiling.lanes : kThreads * ROWS, thread);
    }
  }
  VK_GPU static void write_sums(const Job& job, int64_t block, int thread, Sums<ROWS>& shared) {
    const Tile tile = tile_of(job.tiling, block, thread);
    if (job.nll) write_rows(job.tiling, tile, shared.of[0], job.nll, thread);
    if (ROW && job.softmax.sums) write_rows(job.tiling, tile, shared.of[N], job.softmax.sums, thread);
#pragma unroll
    for (int k = 1; k < N; ++k) {
      if (!job.p[k].sums) continue;
      if (job.p[k].layout == Layout::per_sample)
        write_rows(job.tiling, tile, shared.of[k], job.p[k].sums, thread);
      else if (thread == 0)
        job.p[k].sums[block] = folded(shared.of[k], 0, kThreads * ROWS);
    }
  }
};

// Along the rows. F32: x, parameters and gradients are stored as float32. A row begins with a part of a vector, so that
// the vectors of the first parameter are aligned; an array that is not aligned like it is read one by one.
template <class F, class T, int V, bool F32>
struct Likelihood : LikelihoodSums<F, T, 1> {
  using Base = LikelihoodSums<F, T, 1>;
  using Job = LikelihoodJob;
  static constexpr int N = F::parameters;
  static constexpr int float32_blocks = N > 2 ? 3 : 4;
  static constexpr int blocks_per_sm = is_counts<F> ? kBlocksOfCounts<T> : F32 ? float32_blocks : N > 1 ? 2 : 3;
  static constexpr int unroll = N == 1 && V == 4 ? 2 : 1;  // vectors of each array that are on their way
  struct Local {};

  struct Row {
    Cursor x, p[N];
    int64_t grad_at;  // the same in all gradients: they lie row after row
    T number[N], weight, d[N];
    PlusLog1p<T> nll;  // a thread has at most 64 elements of a row
  };
  VK_GPU static DType type(DType t) { return F32 ? DType::float32 : t; }

  VK_GPU static void walk(const Job& job, int64_t block, int thread, Local&, Sums<1>& shared) {
    const Tile tile = tile_of(job.tiling, block, thread);
    const int64_t i = tile.row_block * job.tiling.block_rows + tile.group;
    Row row;
    row.nll = {0, 0};
    row.weight = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) row.d[k] = 0;
    if (i < job.tiling.rows && !job.incoming.as_expected(i)) {
      if (job.grad) row.weight = T(job.incoming(i) * job.weight(0));
      pass(job, tile, i, row);
    }
    shared.of[0][thread] = row.nll.value + log1p(row.nll.e);
#pragma unroll
    for (int k = 1; k < N; ++k) shared.of[k][thread] = row.weight * row.d[k];
  }

  // over the columns of row i
  VK_GPU static void pass(const Job& job, const Tile& tile, int64_t i, Row& row) {
    const int64_t col = tile.first_col;
    const DType leader = type(job.p[0].in.dtype);
    const char* begin = static_cast<const char*>(job.p[0].in.data) + (i * job.p[0].in.stride + col) * size_of(leader);
    const int shift = int(reinterpret_cast<uintptr_t>(begin) % alignment<V>(leader)) / size_of(leader);
    const auto at = [&](const Source& s, int64_t r) {
      return cursor<T, V>(s.data, r * s.stride + col - shift, type(s.dtype));
    };
    row.x = at(job.x, row_of<RowNumber>(i, job.x.rows));
#pragma unroll
    for (int k = 0; k < N; ++k) {
      row.p[k] = at(job.p[k].in, i);
      row.number[k] = Base::read_number(job.p[k], i);
    }
    row.grad_at = i * job.tiling.cols + col - shift;

    const int vectors = (tile.cols + shift + V - 1) / V, lanes = job.tiling.lanes;
    for (int v = tile.lane; v < vectors; v += lanes * unroll) {
      Packed<T, V> x[unroll], p[unroll][N];
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        const int first = (v + u * lanes) * V;
        const unsigned mask = inside<V>(first - shift, tile.cols);
        if (!mask) continue;
        x[u] = fetch<T, V, F32, kTarget<F>>(row.x, first, mask);
#pragma unroll
        for (int k = 0; k < N; ++k)
          if (job.p[k].by_column()) p[u][k] = fetch<T, V, F32>(row.p[k], first, mask);
      }
#pragma unroll
      for (int u = 0; u < unroll; ++u) {
        const int first = (v + u * lanes) * V;
        const unsigned mask = inside<V>(first - shift, tile.cols);
        if (mask) elements(job, x[u], p[u], first, mask, row);
      }
    }
  }

  VK_GPU static void elements(const Job& job, const Packed<T, V>& packed_x, const Packed<T, V> (&packed_p)[N],
                              int first, unsigned mask, Row& row) {
    T x[V], p[N][V], g[N][V];
    unpack<kTarget<F>>(packed_x, x);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (job.p[k].by_column()) {
        unpack(packed_p[k], p[k]);
      } else {
#pragma unroll
        for (int j = 0; j < V; ++j) p[k][j] = row.number[k];
      }
    }
#pragma unroll(kUnrolled<F, V>)
    for (int j = 0; j < V; ++j) {
      T q[N], d[N];
#pragma unroll
      for (int k = 0; k < N; ++k) q[k] = p[k][0];
      const PlusLog1p<T> nll = parts(F::nll(x[0], q, d));
      const bool here = mask >> j & 1;
      row.nll.value += here ? nll.value : T(0);
      row.nll.e = join_log1p(row.nll.e, here ? nll.e : T(0));
#pragma unroll
      for (int k = 0; k < N; ++k) {
        row.d[k] += here ? d[k] : T(0);
        g[k][0] = row.weight * d[k];
        turn(p[k]);
        turn(g[k]);
      }
      turn(x);
    }
#pragma unroll
    for (int k = 0; k < N; ++k)
      if (job.p[k].grad.data)
        put<T, V, F32>(cursor<T, V>(job.p[k].grad.data, row.grad_at, type(job.p[k].grad.dtype)), first, mask, g[k]);
  }

  template <int>
  VK_GPU static void share(const Job&, int64_t, int, const Local&, Sums<1>&) {}
  template <int>
  VK_GPU static void write(const Job&, int64_t, int, Sums<1>&) {}
};

}  // namespace vk::cuda
