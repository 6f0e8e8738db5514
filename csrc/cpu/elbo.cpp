// The objective on the CPU: loss_b = rec_weight * nll_b + sum_d beta_d * kl_bd, its terms and its gradients. request.h
// says what is asked for; the arguments were checked in vae_kernels/functional.py.
#include <algorithm>
#include <cstring>
#include <limits>

#include "one_run.h"
#include "ops.h"
#include "tensors.h"

namespace vk {
namespace {

// The evaluation of an objective: first the jobs are made, then all of their tasks run side by side, then the sums of
// the tasks are added up.
struct Evaluation {
  const Objective& o;
  Weights weight;  // of a row in the loss that is differentiated
  bool by_row;     // whether results are wanted row by row: the losses, or the terms
  bool per_dim;    // whether the sums of the KL by dimension are wanted
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

  Evaluation(const Objective& o, Weights weight, bool by_row, bool per_dim);
  void make(const LikelihoodTerm& term);
  void make(const LatentTerm& term);
  template <class T>
  void read_given(const LatentTerm& term);
  void add_up_likelihood();
  void add_up_latent();
  void take_floor(const LatentTerm& term);
  double loss(int64_t row) const;
  double total() const;
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
  const bool one_run = !by_row && !weight.stride && is_one_run(term);
  const int64_t rows = one_run ? 1 : o.rows, cols = one_run ? o.rows * term.cols : term.cols;
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
  if (by_row) nll = add_up(std::move(nll), grid.rows, grid.col_tasks());
  for (size_t k = 0; k < kMaxParameters; ++k) {
    if (!sums[k]) continue;
    if (likelihood_job.p[k].layout == Layout::per_feature) {
      const auto add = o.float64 ? add_rows<double> : add_rows<float>;
      add(column_sums[k], grid.row_tasks(), grid.cols, sums[k]);
    } else if (likelihood_job.p[k].layout == Layout::per_sample) {
      copy_to(sums[k], o.float64, add_up(std::move(row_sums[k]), grid.rows, grid.col_tasks()));
    } else {
      copy_to(sums[k], o.float64, std::vector<double>{sum_of(row_sums[k])});
    }
  }
}

void Evaluation::make(const LatentTerm& term) {
  const bool one_run = !by_row && !per_dim && !weight.stride && beta_dims.empty() && is_one_run(term);
  const int64_t rows = one_run ? 1 : o.rows, cols = one_run ? o.rows * term.cols : term.cols;
  KlJob& job = kl_job;
  job.grid = latent_grid(rows, cols);
  job.weight = o.floor_of_batch() ? Weights{&mean_weight, 0, weight.factor} : weight;
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
  if (by_row) {
    kl = add_up(std::move(kl), grid.rows, grid.col_tasks());
    if (!weighted_kl.empty()) weighted_kl = add_up(std::move(weighted_kl), grid.rows, grid.col_tasks());
  }
  if (per_dim) {
    kl_per_dim.assign(grid.cols, 0.);
    for (int64_t t = 0; t < grid.row_tasks(); ++t)
      for (int64_t c = 0; c < grid.cols; ++c) kl_per_dim[c] += dim_sums[t * grid.cols + c];
  }
}

// A KL that is given has no job: there is nothing to compute but sums.
template <class T>
void Evaluation::read_given(const LatentTerm& term) {
  const int64_t rows = by_row ? o.rows : 1, cols = by_row ? term.cols : o.rows * term.cols;
  VK_CHECK(is_one_run(term), "a KL that is given is not contiguous");
  const T* const values = static_cast<const T*>(term.inputs[0].data);
  T* const grad = static_cast<T*>(term.grads[0].data);
  kl.resize(rows);
  for (int64_t r = 0; r < rows; ++r) kl[r] = sum_of(values + r * cols, cols);
  if (per_dim) kl_per_dim.assign(term.cols, 0.);
  if (!beta_dims.empty()) weighted_kl.assign(o.rows, 0.);
  for (int64_t r = 0; r < o.rows && (per_dim || !beta_dims.empty()); ++r)
    for (int64_t c = 0; c < term.cols; ++c) {
      const double v = values[r * term.cols + c];
      if (per_dim) kl_per_dim[c] += v;
      if (!beta_dims.empty()) weighted_kl[r] += beta_dims[c] * v;
    }
  for (int64_t r = 0; grad && r < o.rows; ++r) {
    const double w = (o.floor_of_batch() ? mean_weight * weight.factor : weight[r]) * beta;
    for (int64_t c = 0; c < term.cols; ++c) grad[r * term.cols + c] = T(beta_dims.empty() ? w : w * beta_dims[c]);
  }
}

// Free bits: a unit of the KL costs at least so many nats. Below that the unit has no gradient.
void Evaluation::take_floor(const LatentTerm& term) {
  const double nats = o.nats_factor * (o.nats ? doubles(*o.nats)[0] : 1);
  const auto close = [&](int64_t row, int64_t rows, int64_t col, int64_t cols) {
    for (const Sink& g : term.grads)
      for (int64_t r = row; g.data && r < row + rows; ++r)
        std::memset(static_cast<char*>(g.data) + (r * g.stride + col) * bytes_of(g.dtype), 0, cols * bytes_of(g.dtype));
  };
  // a NaN costs NaN
  const auto cost = [&](double kl, int64_t row, int64_t rows, int64_t col, int64_t cols) {
    if (!(kl <= nats)) return kl;
    close(row, rows, col, cols);
    return nats;
  };
  if (o.floor == KlFloor::per_sample) {
    costs.resize(o.rows);
    for (int64_t r = 0; r < o.rows; ++r) costs[r] = cost(kl[r], r, 1, 0, term.cols);
    return;
  }
  double all = 0;
  const int64_t cols = o.floor_cols(), units = o.floor == KlFloor::per_batch_mean ? 1 : term.cols / cols;
  for (int64_t unit = 0; unit < units; ++unit) {
    double sum = 0;
    for (int64_t c = unit * cols; c < (unit + 1) * cols && c < term.cols; ++c) sum += kl_per_dim[c];
    all += cost(sum / double(o.rows), 0, o.rows, unit * cols, cols);
  }
  costs.assign(1, all);
}

Evaluation::Evaluation(const Objective& o, Weights weight, bool by_row, bool per_dim)
    : o(o),
      weight(weight),
      by_row(by_row || o.floor == KlFloor::per_sample),
      per_dim(per_dim || o.floor_of_batch()),
      rec_weight(o.rec_weight_factor),
      beta(o.beta_factor) {
  if (o.rec_weight) rec_weight *= doubles(*o.rec_weight)[0];
  if (o.beta_by_dim())
    beta_dims = doubles(*o.beta);
  else if (o.beta)
    beta *= doubles(*o.beta)[0];
  if (o.floor_of_batch()) {
    for (int64_t r = 0; r < o.rows; ++r) mean_weight += weight.data[r * weight.stride];
    mean_weight /= double(o.rows);
  }
  const LikelihoodLoop* loops = nullptr;
  if (o.has_likelihood()) {
    loops = kernels().likelihood(o.likelihood.c_str());
    make(LikelihoodTerm(o, grads, empty_pooled));
  }
  std::optional<LatentTerm> latent;
  if (o.has_latent()) latent.emplace(o, grads, empty_pooled);
  if (latent && !o.kl_is_given()) make(*latent);
  run(kernels().latents[o.float64].kl, kl_job, loops ? loops[o.float64] : nullptr, likelihood_job);
  if (o.has_likelihood()) add_up_likelihood();
  if (!latent) return;
  if (!o.kl_is_given())
    add_up_latent();
  else
    is_float64(o.latent[0]) ? read_given<double>(*latent) : read_given<float>(*latent);
  if (o.floor != KlFloor::none) take_floor(*latent);
}

// The loss of a row, where results are wanted row by row
double Evaluation::loss(int64_t row) const {
  double loss = nll.empty() ? 0 : rec_weight * nll[row];
  if (!costs.empty()) return loss + beta * (costs.size() == 1 ? costs[0] : costs[row]);
  if (!kl.empty()) loss += beta * (weighted_kl.empty() ? kl[row] : weighted_kl[row]);
  return loss;
}

// The sum of the losses of all rows
double Evaluation::total() const {
  double of_kl = sum_of(weighted_kl.empty() ? kl : weighted_kl);
  if (!costs.empty()) of_kl = o.floor_of_batch() ? double(o.rows) * costs[0] : sum_of(costs);
  return rec_weight * sum_of(nll) + beta * of_kl;
}

}  // namespace

Tensors elbo(const Objective& o, bool terms, double expected) {
  const bool each = o.reduction == Reduction::none;
  // the incoming gradient of a loss has the type of the loss
  const double scale = o.scale() * (each && !o.float64 ? double(float(expected)) : expected);
  Evaluation e(o, {&scale, 0, 1}, each || terms, terms && o.has_kl_dims());
  Tensors out;
  const double total = each && !terms ? 0 : e.total() / o.divisor();
  if (each) {
    out.push_back(empty_contiguous(&o.rows, 1, o.dtype, o.like));
    void* const loss = out.back().mut<void>();
    for (int64_t r = 0; r < o.rows; ++r)
      o.float64 ? static_cast<double*>(loss)[r] = e.loss(r) : static_cast<float*>(loss)[r] = float(e.loss(r));
  } else {
    out.push_back(tensor(std::vector<double>{total}, 0, o.float64, o.like));
  }
  if (terms) {
    const PackedTerms at(o);
    std::vector<double> all(at.size);
    all[at.loss] = total;
    std::copy(e.nll.begin(), e.nll.end(), all.begin() + at.nll);
    std::copy(e.kl.begin(), e.kl.end(), all.begin() + at.kl);
    for (int64_t d = 0; d < at.size - at.kl_per_dim; ++d) all[at.kl_per_dim + d] = e.kl_per_dim[d] / double(o.rows);
    out.push_back(tensor(all, 1, o.float64, o.like));
  }
  for (Tensor& g : e.grads) out.push_back(std::move(g));
  return out;
}

Tensors elbo_backward(const Tensor& grad, const Objective& o) {
  const std::vector<double> incoming = doubles(grad);
  const bool each = grad.dim() > 0;
  return std::move(Evaluation(o, {incoming.data(), each, o.scale()}, each, false).grads);
}

double one_number(const Tensor& t) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto same = [&](const auto* values) {
    const int64_t stride = t.dim() ? t.stride(0) : 0;
    for (int64_t i = 1; stride && i < t.numel(); ++i)
      if (values[i * stride] != values[0]) return nan;
    return double(values[0]);
  };
  if (t.numel() == 0) return nan;
  return is_float64(t) ? same(t.data<double>()) : same(t.data<float>());
}

}  // namespace vk
