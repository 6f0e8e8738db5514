// What the op of the decomposition (decomposition.cpp) and its loops (kernels/decomposition.cpp, compiled once per
// instruction set) agree on.
#pragma once
#include "kernels.h"

namespace vk {

// Samples z and posteriors, [batch, dims]; all matrices are dense, row after row, and of the loops' type. A score is
// log q(z_i|x_j). There are 1 + dims kinds of scores: the joint score of all dimensions, and the score of each one.
struct DecompositionJob {
  int64_t batch, dims;
  int64_t width;  // batch, rounded up to whole vectors
  Grid grid;
  const void *z, *mu, *logvar;  // [batch, dims]
  void* packed;                 // [dims, 3, width]: mean, precision and constant of each posterior
  double log_own;               // log of the weight of a sample's own posterior over the weight of every other one
  double* own;                  // [batch, kinds]: the score of the sample's own posterior
  double *peak, *log_sum;  // [batch, kinds]: the largest score, and the log of the weighted sum of e^{score - peak}
  // backward: the incoming gradients of the joint own score, and of peak + log_sum
  const double *by_own, *by_joint;  // [batch]
  const double* by_each;            // [batch, dims]
  double* grad_z;                   // [col_tasks, batch, dims], zeroed
  double* grad_posterior;           // [dims, 2, width], zeroed: of mu, and twice the gradient of logvar

  int64_t kinds() const { return 1 + dims; }
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
