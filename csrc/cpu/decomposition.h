// What the op of the decomposition (decomposition.cpp) and its loops (kernels/decomposition.cpp, compiled once per
// instruction set) agree on.
#pragma once
#include "kernels.h"

namespace vk {

// Samples z and posteriors, [batch, dims]; all matrices are dense, row after row, and of the loops' type. The scores of
// sample i are log q(z_i|x_j) of all dimensions together (joint) and of each dimension, for every posterior j.
struct DecompositionJob {
  int64_t batch, dims;
  int64_t width;                // batch, rounded up to whole vectors
  Grid grid;                    // samples by posteriors
  const void *z, *mu, *logvar;  // [batch, dims]
  void* packed;                 // [dims, 3, width]: mean, precision and constant of each posterior
  double log_own;               // log of the weight of a sample's own posterior over the weight of every other one
  double* own;                  // [batch, 1 + dims], joint first: the scores for the sample's own posterior
  double *peak, *log_sum;       // [batch, 1 + dims], joint first: log q(z_i) less the log weight of other posteriors
  // backward: the incoming gradients of own, and of the two kinds of log-sum-exp
  const double *by_own, *by_joint;  // [batch]
  const double* by_each;            // [batch, dims]
  double* grad_z;                   // [col_tasks, batch, dims], zeroed
  double* grad_posterior;           // [dims, 2, width], zeroed: of mu, and twice that of logvar
};

// pack: tasks of dimensions, as task.col; forward: of samples; backward: of posteriors
struct DecompositionLoops {
  int lanes;
  void (*pack)(const DecompositionJob&, const Task&);
  void (*forward)(const DecompositionJob&, const Task&);
  void (*backward)(const DecompositionJob&, const Task&);
};
const DecompositionLoops& decomposition_loops(bool float64);

}  // namespace vk
