// The evaluation of an objective on the CPU: first the jobs are made, then all of their tasks run side by side, then
// the sums of the tasks are added up.
#pragma once
#include "tensors.h"

namespace vk {

struct Evaluation {
  const Objective& o;
  Weights weight;  // of a row in the loss that is differentiated
  bool values;     // whether the values are wanted, and not the gradients alone
  bool by_row;     // whether results are wanted row by row: the losses, or the terms
  bool per_dim;    // whether the sums of the KL by dimension are wanted
  void* losses;  // null; or where the losses go that need no sum of partial sums: of the likelihood alone, or of the KL
                 // alone if each row is one element
  double rec_weight, beta;
  std::vector<double> beta_dims;  // one for each latent dimension, or empty
  double mean_weight = 0;         // the mean of the weights of all rows

  // [rows], or empty, or sums of several rows where no result is wanted row by row. kl_per_dim: sums over the batch.
  // costs: the KL after the floor, of each row, or one number for every row.
  std::vector<double> nll, kl, weighted_kl, kl_per_dim, costs;
  Tensors grads;

  LikelihoodJob likelihood_job{};
  KlJob kl_job{};
  void* sums[kMaxParameters] = {};  // the gradients that are sums
  std::vector<double> row_sums[kMaxParameters], dim_sums;
  std::vector<char> column_sums[kMaxParameters];
  RowJob row_job{};
  std::vector<Shift> shifts;
  std::vector<double> of_log_total;

  Evaluation(const Objective& o, Weights weight, bool values, bool by_row, bool per_dim, void* to = nullptr);
  void make(const LikelihoodTerm& term);
  void make(const LatentTerm& term);
  void make(const RowTerm& term, const LikelihoodLoops& loops);
  template <class T>
  void read_given(const LatentTerm& term);
  void add_up_likelihood();
  void add_up_latent();
  void take_floor(const LatentTerm& term);
  template <class T>
  void write_losses(T* out) const;
  double total() const;
};

}  // namespace vk
