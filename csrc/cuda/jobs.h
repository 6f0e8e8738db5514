// What the ops (elbo.cpp, sample.cpp) hand to the kernels. No CUDA and no torch in it. Pointers are to device memory.
#pragma once
#include "matrix.h"
#include "scalar.h"

#ifndef VK_MOST_BLOCKS  // fewer in tests/support/cuda_host.py
#define VK_MOST_BLOCKS 0x7fffffff
#endif

namespace vk::cuda {

constexpr int64_t kMostBlocks = VK_MOST_BLOCKS;  // of a grid

// Of a row of x that is repeated: a division of 64 bits takes so many registers that some kernels would spill.
using RowNumber = uint32_t;

// A number on the device, or one a row (stride apart), times a factor that the host knows.
struct Weight {
  const void* data;  // null: the factor alone
  int64_t stride;
  bool float64;
  double factor;
  VK_INLINE double operator()(int64_t i) const {
    if (!data) return factor;
    return factor *
           (float64 ? static_cast<const double*>(data)[i * stride] : static_cast<const float*>(data)[i * stride]);
  }
};

// The incoming gradients of the rows. With `corrects` the gradients are there already, for the incoming gradient
// `expected`: only the rows where another one came are computed.
struct Incoming : Weight {
  bool corrects;
  double expected;
  VK_INLINE bool as_expected(int64_t i) const { return corrects && (*this)(i) == expected; }
};

// How blocks of threads cover [rows, cols]. A row is cut into pieces of `piece` columns, one block each. In a block,
// `lanes` threads side by side share a row, and each thread takes `rows_each` rows. A tiling follows from the shape
// alone, and sums are added up in the order of the blocks: results are the same on every GPU, run after run.
struct Tiling {
  int64_t rows, cols, pieces, row_blocks;
  int32_t piece, lanes, rows_each, block_rows;
  int32_t missing;  // columns that the last row lacks: not 0 where all rows are one run of elements
  VK_INLINE int64_t blocks() const { return row_blocks * pieces; }
  VK_INLINE int missing_in(int64_t row) const { return row == rows - 1 ? missing : 0; }
};

struct Parameter {
  Source in;
  Layout layout;
  bool wanted;    // its gradient
  Sink grad;      // Layout::full: [rows, cols]
  void* columns;  // Layout::per_feature: [row_blocks, cols] sums, of the compute type
  double* sums;   // Layout::number: [blocks]; Layout::per_sample: [rows, pieces]
  VK_INLINE bool by_column() const { return layout == Layout::full || layout == Layout::per_feature; }
};

// The soft-max over each row of the logits: row.h. Numbers of the rows, [rows], of the compute type.
struct Softmax {
  const void *top, *shift;     // null: the first parameter has no logits of shares
  const void *number, *slope;  // null: the formula has none
  double* sums;                // [rows, pieces] of the derivatives by log_total; null: not wanted
};

struct LikelihoodJob {
  Tiling tiling;
  Source x;
  ElementWeights weights;
  Parameter p[kMaxParameters];
  Incoming incoming;  // the gradient is multiplied by both
  Weight weight;
  bool grad;
  double* nll;  // [rows, pieces] or null
  Softmax softmax;
};

// log p of each element
struct LogProbJob {
  Tiling tiling;
  Source x;
  Parameter p[kMaxParameters];  // no gradient is wanted
  Sink out;                     // [rows, cols] of the compute type
};

struct KlJob {
  Tiling tiling;  // no rows: nothing to do
  bool given;     // p[0] is the KL itself
  Source p[4];    // mu, logvar, prior_mu, prior_logvar; the prior null for N(0, I)
  Sink grad[4];
  ElementWeights weights;
  Incoming incoming;
  Weight weight;
  Weight beta;       // by column
  double* kl;        // [rows, pieces] or null
  double* weighted;  // the same of beta * kl; null without beta by column
  void* columns;     // [row_blocks, cols] sums over rows, of the compute type; or null
};

// From the blocks' partial sums to the results. The last block of the launch that made the partial sums does this work,
// or a second launch.
struct RowSums {
  double* partial;  // [rows, pieces]
  int64_t rows, pieces;
  int32_t lanes;  // threads that add up a row
  void* out;      // [rows], of the compute type; null: not wanted
};
struct ColumnSums {
  const void* partial;  // [row_blocks, cols], or null
  int64_t row_blocks, cols;
  double factor;
  void* out;
};
// Free bits: a unit of the KL costs at least `nats`.
struct FloorJob {
  bool by_row;          // the unit is the KL of a sample
  Weight means;         // else: the mean over the batch of the KL of each dimension; or no data
  int64_t units, cols;  // a unit is the sum of so many dimensions,
  bool summed;          // whose means are added up already: one number a unit
  const double* cost;   // what all units cost, or null: the reader adds up
  double* scratch;      // [units + 1], where both are made
  int64_t rows;         // of the batch
  Weight nats;
};
struct FinishJob {
  bool float64;  // what is computed, and so the type of all that is not double
  int64_t rows;  // the most that any of the RowSums has
  RowSums nll, kl, weighted;
  RowSums samples[kMaxParameters];  // of the parameters 1, 2, ...
  Weight rec_weight, beta;
  FloorJob floor;                            // of the KL in the losses, not of the KL that is a result
  int64_t loss_stride;                       // 1: a loss a row; 0: their sum
  double loss_factor;                        // of the sum
  void* loss;                                // of the compute type; null: not wanted
  void* loss_of_all;                         // their sum once more, whatever loss_stride is; null: not wanted
  ColumnSums columns[kMaxParameters];        // of the parameters 1, 2, ..., and of the KL
  const double* block_sums[kMaxParameters];  // of the parameters 1, 2, ..., [n_blocks]; null: not wanted
  int64_t n_blocks;
  void* number_out[kMaxParameters];
  double* totals;    // [kMaxParameters, blocks of the finish]
  unsigned* ticket;  // 0 when the kernel starts and when it ends; null: nobody finishes here
};

// Columns of partial sums that are added up before the finish, so many row blocks each: out [groups, cols].
struct ColumnsJob {
  ColumnSums sums;
  int64_t each, groups;
};
// Writes 0 to the gradients of the units of the KL that cost no more than `nats`.
struct CloseJob {
  FloorJob floor;
  Tiling tiling;
  RowSums kl;  // by row: the KL of the samples
  Incoming incoming;
  Sink grad[4];
};

struct SampleJob {
  int64_t rows, cols, draws;
  const int64_t* rng;  // seed, offset, and of a shard: the first row, and the rows of a draw
  bool shard;
  Source mu, logvar;
  Sink z;  // [draws * rows, cols]
  int64_t blocks;
};

template <class MainJob>
struct ElboJob {
  KlJob kl;
  MainJob main;
  FinishJob finish;
};

struct SampleBackwardJob {
  int64_t rows, cols, draws;
  const int64_t* rng;
  bool shard;
  Source p[4];             // as in KlJob
  Source grad_z;           // [draws * rows, cols], contiguous; null: none
  ElementWeights weights;  // of the KL
  Weight weight;           // likewise, by row
  bool with_kl;
  Sink grad[4];
};

// [rows, cols] positions, each with a logit for each level. The levels of a position lie side by side where they are
// inner, else `cols` apart. A block has `across` positions, with `along` threads each.
struct PositionJob {
  int64_t rows, cols, levels;
  bool inner;
  int32_t across, along;
  Source x, logits;
  ElementWeights weights;
  void *top, *total;  // [rows, cols] of the compute type, written forward and read backward
  double* values;     // [rows, cols]
  Weight incoming;    // by row
  Sink grad;
};
// [rows, cols] pixels of `channels` channels. The `numbers` of a pixel, and its channels, lie side by side where they
// are inner, else `cols` apart.
struct PixelJob {
  int64_t rows, cols, channels, numbers;
  bool inner;
  double options[4];  // of the formula
  Source x, packed;
  ElementWeights weights;
  double* values;  // [rows, cols]; or null
  void* terms;     // [rows, cols] of the compute type: log p; or null
  Incoming incoming;
  Sink grad;  // or null
};
// out[row] = the sum of values [rows, cols]
struct RowsJob {
  Weight values;
  int64_t cols;
  void* out;
};

// A mixture goes through its samples and components in tiles: kSide threads a side, each with kVector<T> of both.
constexpr int kSide = 16;
// What one side of a mixture receives from the other, which `splits` blocks share: sums [splits, dims or dims + 1,
// wide]
struct Moments {
  int64_t splits;
  void *first, *second;
};
// Packed, samples and components go dimension by dimension, as many as whole tiles have (`wide`): those that are not
// there have no weight. A dimension more, where each sample is one deviation from each component, makes the sum of the
// responsibilities the first moment there. void*: of the compute type.
struct MixtureJob {
  int64_t samples, components, dims, wide_samples, wide_components;
  const void *z, *loc, *logvar, *log_weight;  // [samples, dims], [components, dims] twice, [components]; contiguous
  void *points, *pairs;                       // [dims + 1, wide_samples]; [dims + 1, wide_components, 2]: loc and root
  void* constants;                            // [wide_components]
  int64_t constant_blocks;                    // of the launch that packs: those that make the constants,
  int32_t along;                              // with so many threads for each
  int64_t splits;                             // forward: blocks that share the components of a tile of samples
  void *top, *total;                          // [splits, samples], where there are several
  void* log_p;                                // [samples], and the two numbers whose sum it is
  double *peak, *log_sum;
  Weight incoming;  // by sample
  Moments of_samples, of_components;
  void* grads[4];  // of z, loc, logvar and log_weight; null: not wanted
};

// data[i] *= factor for n elements; at once done if the factor is 1
struct RescaleJob {
  void* data;
  DType dtype;
  int64_t n;
  Weight factor;
};

// Each launches one kernel and returns null, or what went wrong.
using Launched = const char*;

// The variants of a likelihood's kernel. float32: x and all parameters are stored as float32. any: any storage type.
// columns: a thread goes down its columns, which is for a parameter per feature, whose gradient is a sum over samples,
// for weights of the elements, and for all that is computed in float64. (float64 is there to be right and not fast, and
// each variant takes seconds to compile.)
enum class Variant { float32, any, columns };
using PositionLaunch = Launched(const PositionJob&, bool backward, bool float64, int64_t blocks, void* stream);
using PixelLaunch = Launched(const PixelJob&, bool float64, int64_t blocks, void* stream);
using LogProbLaunch = Launched(const LogProbJob&, bool float64, int64_t blocks, void* stream);
using LikelihoodLaunch = Launched(const ElboJob<LikelihoodJob>&, Variant, bool float64, int64_t blocks, void* stream);

Launched latent_kernel(const ElboJob<SampleJob>&, bool float64, int64_t blocks, void* stream);
Launched sample_backward_kernel(const SampleBackwardJob&, bool float64, int64_t blocks, void* stream);
Launched columns_kernel(const ColumnsJob&, bool float64, int64_t blocks, void* stream);
Launched finish_kernel(const FinishJob&, int64_t blocks, void* stream);
Launched costs_kernel(const FloorJob&, void* stream);
Launched close_kernel(const CloseJob&, int64_t blocks, void* stream);
Launched rows_sum_kernel(const RowsJob&, bool float64, int64_t blocks, void* stream);
Launched mixture_pack_kernel(const MixtureJob&, bool float64, int64_t blocks, void* stream);
Launched mixture_forward_kernel(const MixtureJob&, bool float64, int64_t blocks, void* stream);
Launched mixture_join_kernel(const MixtureJob&, bool float64, int64_t blocks, void* stream);
Launched mixture_backward_kernel(const MixtureJob&, bool float64, int64_t blocks, void* stream);
Launched mixture_finish_kernel(const MixtureJob&, bool float64, int64_t blocks, void* stream);
Launched rescale_kernel(const RescaleJob&, int64_t blocks, void* stream);

// A counter on this device that is 0, and that no kernel has which runs beside this one; null if none is left.
unsigned* ticket(int device, void* stream);

constexpr int kRowsEach = 4;   // of a thread in Variant::columns
constexpr int kColumns = 4;    // of a thread that keeps to its columns
constexpr int kColumns64 = 1;  // the same in float64, where speed is not what it is for

}  // namespace vk::cuda
