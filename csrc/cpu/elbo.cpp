// The objective on the CPU: loss_b = rec_weight * nll_b + sum_d beta_d * kl_bd, its terms and its gradients. request.h
// says what is asked for; the arguments were checked in vae_kernels/functional.py.
#include <algorithm>

#include "ops.h"
#include "tensors.h"

namespace vk {
namespace {

// The evaluation of an objective: first the jobs are made, then all of their tasks run side by side, then the sums of
// the tasks are added up.
struct Evaluation {
  const Objective& o;
  Weights weight;  // of a row in the loss that is differentiated
  bool per_dim;    // whether the sums of the KL by dimension are wanted
  double rec_weight, beta;
  std::vector<double> beta_dims;  // one for each latent dimension, or empty

  std::vector<double> nll, kl, weighted_kl, kl_per_dim;  // [rows] or empty; kl_per_dim: summed over the batch
  Tensors grads;

  LikelihoodJob likelihood_job{};
  KlJob kl_job{};
  void* sums[kMaxParameters] = {};  // the gradients that are sums
  std::vector<double> row_sums[kMaxParameters], dim_sums;
  std::vector<char> column_sums[kMaxParameters];

  Evaluation(const Objective& o, Weights weight, bool per_dim);
  void make(const LikelihoodTerm& term);
  void make(const LatentTerm& term);
  void read_given(const LatentTerm& term);
  void add_up_likelihood();
  void add_up_latent();
};

// The gradient of a parameter per feature: the sums of the row tasks, in their order
template <class T>
void add_rows(const std::vector<char>& partial, int64_t tasks, int64_t cols, void* out) {
  const T* p = reinterpret_cast<const T*>(partial.data());
  std::vector<double> sums(cols, 0.);
  for (int64_t t = 0; t < tasks; ++t)
    for (int64_t c = 0; c < cols; ++c) sums[c] += p[t * cols + c];
  for (int64_t c = 0; c < cols; ++c) static_cast<T*>(out)[c] = T(sums[c]);
}

void Evaluation::make(const LikelihoodTerm& term) {
  const int64_t rows = o.rows, cols = term.cols;
  LikelihoodJob& job = likelihood_job;
  if (term.sums_over_rows)  // tall tasks: fewer sums of columns to keep and to add up
    job.grid = {rows, cols, 64, cols < kBlock ? cols : kBlock};
  else
    job.grid = {rows, cols, 1 + kTask / (cols + 1), cols < kTask ? cols : kTask};
  if (!job.grid.task_cols) job.grid.task_cols = 1;
  const int64_t tasks = job.grid.col_tasks();

  job.x = term.x;
  job.weight = weight;
  job.weight.factor *= rec_weight;
  job.grad = term.any_wanted;
  job.element_weights = term.weights;
  static const double zero = 0;
  for (size_t k = 0; k < kMaxParameters; ++k) {
    const ParameterOfRequest& from = term.params[k];
    Parameter& p = job.p[k];
    p.layout = from.layout;
    p.in = from.layout == Layout::number && !from.in.data ? Source{&zero, 0, DType::float64} : from.in;
    p.grad = from.grad;
    sums[k] = from.sums;
    if (!from.wanted || from.layout == Layout::full) continue;
    if (from.layout == Layout::per_feature) {
      column_sums[k].resize(job.grid.row_tasks() * cols * (o.float64 ? 8 : 4));
      p.row_sums = column_sums[k].data();
    } else {
      row_sums[k].resize(rows * tasks);
      p.sums = row_sums[k].data();
    }
  }
  nll.resize(rows * tasks);
  job.nll = nll.data();
}

void Evaluation::add_up_likelihood() {
  const Grid& grid = likelihood_job.grid;
  nll = add_up(nll, o.rows, grid.col_tasks());
  for (size_t k = 0; k < kMaxParameters; ++k) {
    if (!sums[k]) continue;
    if (likelihood_job.p[k].layout == Layout::per_feature) {
      const auto add = o.float64 ? add_rows<double> : add_rows<float>;
      add(column_sums[k], grid.row_tasks(), grid.cols, sums[k]);
    } else if (likelihood_job.p[k].layout == Layout::per_sample) {
      copy_to(sums[k], o.float64, add_up(row_sums[k], o.rows, grid.col_tasks()));
    } else {
      double sum = 0;
      for (double s : row_sums[k]) sum += s;
      copy_to(sums[k], o.float64, std::vector<double>{sum});
    }
  }
}

void Evaluation::make(const LatentTerm& term) {
  const int64_t rows = o.rows, cols = term.cols;
  KlJob& job = kl_job;
  job.grid = latent_grid(rows, cols);
  job.weight = weight;
  job.weight.factor *= beta;
  job.element_weights = term.weights;
  for (int k = 0; k < 4; ++k) {
    job.p[k] = term.inputs[k];
    job.grad[k] = term.grads[k];
  }
  const int64_t tasks = job.grid.col_tasks();
  kl.resize(rows * tasks);
  job.kl = kl.data();
  if (!beta_dims.empty()) {
    weighted_kl.resize(rows * tasks);
    job.weighted = weighted_kl.data();
    job.beta = beta_dims.data();
  }
  dim_sums.resize(per_dim ? job.grid.row_tasks() * cols : 0);
  if (per_dim) job.per_dim = dim_sums.data();
}

void Evaluation::add_up_latent() {
  const Grid& grid = kl_job.grid;
  kl = add_up(kl, o.rows, grid.col_tasks());
  weighted_kl = add_up(weighted_kl, weighted_kl.empty() ? 0 : o.rows, grid.col_tasks());
  if (per_dim) {
    kl_per_dim.assign(grid.cols, 0.);
    for (int64_t t = 0; t < grid.row_tasks(); ++t)
      for (int64_t c = 0; c < grid.cols; ++c) kl_per_dim[c] += dim_sums[t * grid.cols + c];
  }
}

// A KL that is given has no job: there is nothing to compute but sums.
void Evaluation::read_given(const LatentTerm& term) {
  const int64_t rows = o.rows, cols = term.cols;
  const std::vector<double> values = doubles(o.latent[0]);
  kl.assign(rows, 0.);
  if (!beta_dims.empty()) weighted_kl.assign(rows, 0.);
  if (per_dim) kl_per_dim.assign(cols, 0.);
  std::vector<double> grad(term.grads[0].data ? rows * cols : 0);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const double v = values[r * cols + c], b = beta_dims.empty() ? 1 : beta_dims[c];
      kl[r] += v;
      if (!weighted_kl.empty()) weighted_kl[r] += b * v;
      if (per_dim) kl_per_dim[c] += v;
      if (!grad.empty()) grad[r * cols + c] = weight[r] * beta * b;
    }
  }
  copy_to(term.grads[0].data, is_float64(o.latent[0]), grad);
}

Evaluation::Evaluation(const Objective& o, Weights weight, bool per_dim)
    : o(o), weight(weight), per_dim(per_dim), rec_weight(o.rec_weight_factor), beta(o.beta_factor) {
  if (o.rec_weight) rec_weight *= doubles(*o.rec_weight)[0];
  if (o.beta_by_dim())
    beta_dims = doubles(*o.beta);
  else if (o.beta)
    beta *= doubles(*o.beta)[0];
  const LikelihoodLoop* loops = nullptr;
  if (o.has_likelihood()) {
    loops = kernels().likelihood(o.likelihood.c_str());
    make(LikelihoodTerm(o, grads, empty_pooled));
  }
  if (o.has_latent()) {
    const LatentTerm term(o, grads, empty_pooled);
    o.kl_is_given() ? read_given(term) : make(term);
  }
  run(kernels().latents[o.float64].kl, kl_job, loops ? loops[o.float64] : nullptr, likelihood_job);
  if (o.has_likelihood()) add_up_likelihood();
  if (o.has_latent() && !o.kl_is_given()) add_up_latent();
}

}  // namespace

Tensors elbo(const Objective& o, bool terms) {
  const double scale = o.scale();
  Evaluation e(o, {&scale, 0, 1}, terms && o.has_kl_dims());
  std::vector<double> loss(o.rows, 0.);
  const std::vector<double>& kl = e.weighted_kl.empty() ? e.kl : e.weighted_kl;
  for (size_t r = 0; r < e.nll.size(); ++r) loss[r] = e.rec_weight * e.nll[r];
  for (size_t r = 0; r < kl.size(); ++r) loss[r] += e.beta * kl[r];
  double total = 0;
  for (double each : loss) total += each;
  total /= o.divisor();

  Tensors out;
  const bool by_row = o.reduction == Reduction::none;
  out.push_back(tensor(by_row ? loss : std::vector<double>{total}, by_row, o.float64, o.like));
  if (terms) {
    const PackedTerms at(o);
    std::vector<double> all(at.size);
    all[at.loss] = total;
    std::copy(e.nll.begin(), e.nll.end(), all.begin() + at.nll);
    std::copy(e.kl.begin(), e.kl.end(), all.begin() + at.kl);
    for (size_t d = 0; d < e.kl_per_dim.size(); ++d) all[at.kl_per_dim + d] = e.kl_per_dim[d] / double(o.rows);
    out.push_back(tensor(all, 1, o.float64, o.like));
  }
  for (Tensor& g : e.grads) out.push_back(std::move(g));
  return out;
}

Tensors elbo_backward(const Tensor& grad, const Objective& o) {
  const std::vector<double> incoming = doubles(grad);
  return std::move(Evaluation(o, {incoming.data(), grad.dim(), o.scale()}, false).grads);
}

}  // namespace vk
