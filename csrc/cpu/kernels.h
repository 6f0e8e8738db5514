// What the ops (elbo.cpp, sample.cpp) and the loops (kernels/, compiled once per instruction set) agree on.
// The loops know rows, columns and formulas; nothing here knows a likelihood's maths or a tensor.
#pragma once
#include "matrix.h"

namespace vk {

// The unit of work. The size of a task is a function of the shapes alone, and the sums of the tasks are added up in the
// order of the tasks: results are the same for any number of threads.
struct Task {
  int64_t row, rows, col, cols;
};
struct Grid {
  int64_t rows = 0, cols = 0, task_rows = 1, task_cols = 1;
  int64_t row_tasks() const { return (rows + task_rows - 1) / task_rows; }
  int64_t col_tasks() const { return (cols + task_cols - 1) / task_cols; }
  int64_t tasks() const { return row_tasks() * col_tasks(); }
  int64_t elements() const { return rows * cols; }
  Task operator[](int64_t i) const {
    int64_t row = i / col_tasks() * task_rows, col = i % col_tasks() * task_cols;
    return {row, rows - row < task_rows ? rows - row : task_rows, col, cols - col < task_cols ? cols - col : task_cols};
  }
};

// One weight for each row, times a factor. The gradients of the row are multiplied by both.
struct Weights {
  const double* data = nullptr;
  int64_t stride = 0;  // 0: the same for all rows
  double factor = 1;
  double operator[](int64_t row) const { return data[row * stride] * factor; }
};

constexpr int kBlock = 1024;     // elements that a loop holds in its buffers
constexpr int64_t kTask = 4096;  // elements of a task, about

struct Parameter {
  Source in;
  Layout layout = Layout::full;
  Sink grad;                 // Layout::full: [rows, cols]
  void* row_sums = nullptr;  // Layout::per_feature: [row_tasks, cols] of the compute type, zeroed
  double* sums = nullptr;    // Layout::number and per_sample: [rows, col_tasks]
};

// What is taken from and added to the first parameter of each element of a row: p + shift as (p - peak) + rest. The sum
// of both numbers would lose the digits of large logits.
struct Shift {
  double peak, rest;
};

struct LikelihoodJob {
  Grid grid;
  Source x;
  Parameter p[kMaxParameters];
  Weights weight;
  double* nll;  // [rows, col_tasks]; null: not wanted
  bool grad;
  ElementWeights element_weights;
  void* losses;                  // [rows] of the compute type: the nll of each row times `factor`; or null
  double factor;                 // beside losses there is one task for the columns
  const Shift* shift = nullptr;  // [rows]; or null
};

// Rows of logits of shares (csrc/formula.h), around the loop of an element formula. A task has whole rows.
struct RowJob {
  Grid grid;
  LikelihoodJob each;  // p[0] has the logits, without a gradient; `shift` is written for each row
  void (*sums)(const LikelihoodJob&, const Task&);
  double (*of_total)(double n, double log_total, double& by_total);  // LikelihoodLoops
  bool given_n;          // the row is computed given its sum n, and of_total tells the rest
  Source log_total;      // [rows]; null: n is given
  Shift* shift;          // [rows]
  Sink grad;             // of the logits
  double* of_log_total;  // [rows]: its gradient; or null
};

// log p of each element
struct LogProbJob {
  Grid grid;
  Source x, p[kMaxParameters];
  Layout layout[kMaxParameters];
  Sink out;  // [rows, cols] of the compute type
};

// KL of [rows, cols] latents, and z = mu + sd * eps with `draws` samples each. Tasks hold whole rows, or part of one.
struct KlJob {
  Grid grid;
  Source p[4];  // mu, logvar, prior_mu, prior_logvar; the prior null for N(0, I)
  Sink grad[4];
  Weights weight;
  const double* beta;  // [cols] or null
  double* kl;          // [rows, col_tasks]; null: not wanted
  void* values;        // [rows, cols] of the compute type: the KL of each element times `factor`; or null
  double factor;
  double* weighted;  // [rows, col_tasks], sum of beta * kl; null without beta
  double* per_dim;   // [row_tasks, cols], zeroed; or null
  ElementWeights element_weights;
};

// The noise of the rows first_row, ..., first_row + grid.rows - 1 of batches of all_rows, one batch for each draw.
struct NoiseOf {
  uint64_t seed, offset;
  int64_t draws, first_row, all_rows;
  int64_t row(int64_t draw, int64_t row) const { return draw * all_rows + first_row + row; }
};

struct SampleJob {
  Grid grid;
  NoiseOf noise;
  Source mu, logvar;
  Sink z;  // [draws * rows, cols]
};

// Gradients of the sample, and of the KL where a weight is given, written once.
struct SampleBackwardJob {
  Grid grid;
  NoiseOf noise;
  Source p[4];     // as in KlJob
  Source grad_z;   // [draws * rows, cols]; null: no sample
  Weights weight;  // of the KL; null: no KL
  Sink grad[4];
  ElementWeights element_weights;  // of the KL
};

// [rows, cols] positions, each with a logit for each level, forward and backward. The levels of a position are `cols`
// apart, or inner: side by side.
struct PositionJob {
  Grid grid;
  int64_t levels;
  bool inner;
  Source x, logits;
  Sink top, total;  // [rows, cols] of the compute type, written forward and read backward
  double* nll;      // [rows, col_tasks]
  Weights weight;
  Sink grad;
  ElementWeights element_weights;  // of the positions
};

// [rows, cols] pixels of `channels` channels, each with `numbers` of the mixture. The numbers of a pixel, and its
// channels, are `cols` apart, or inner: side by side.
struct PixelJob {
  Grid grid;
  int64_t channels, numbers;
  bool inner;
  const double* options;  // of the formula
  Source x, packed;
  ElementWeights element_weights;  // of the pixels
  double* nll;                     // [rows, col_tasks]; or null
  Sink terms;                      // [rows, cols] of the compute type: log p; or null
  Weights weight;
  Sink grad;  // of packed; or null
};

struct LikelihoodLoops {
  void (*sums)(const LikelihoodJob&, const Task&);
  void (*each)(const LogProbJob&, const Task&);
  // null; or of a formula that is_sum_alike: the value of the sum n of a row, and its derivative by log_total
  double (*of_total)(double n, double log_total, double& by_total);
};
using RowLoop = void (*)(const RowJob&, const Task&);
struct LatentLoops {
  void (*kl)(const KlJob&, const Task&);
  void (*sample)(const SampleJob&, const Task&);
  void (*sample_backward)(const SampleBackwardJob&, const Task&);
};

struct PositionLoops {
  void (*forward)(const PositionJob&, const Task&);
  void (*backward)(const PositionJob&, const Task&);
};
using PixelLoop = void (*)(const PixelJob&, const Task&);
struct MixtureLoops;        // mixture.h
struct DecompositionLoops;  // decomposition.h
struct SegmentsLoops;       // segments.h

// The loops of one instruction set; index 0: computed in float32, 1: in float64.
struct Kernels {
  const char* isa;
  const LikelihoodLoops* (*likelihood)(const char* name);  // these three throw where no formula has this name
  const PositionLoops* (*position)(const char* name);
  const PixelLoop* (*pixel)(const char* name);
  const RowLoop* rows;
  const LatentLoops* latents;
  const MixtureLoops* mixtures;
  const DecompositionLoops* decompositions;
  const SegmentsLoops* segments;
};
const Kernels& kernels();  // the best that this processor runs; VAE_KERNELS_ISA=base|avx2|avx512 asks for another

}  // namespace vk
