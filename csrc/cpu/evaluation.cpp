// The jobs of an objective, and the sums of their tasks.
#include "evaluation.h"

#include <algorithm>
#include <cstring>

#include "one_run.h"

namespace vk {
namespace {

// The gradient of a parameter per feature: the sums of the row tasks, in their order
template <class T>
void add_rows(const std::vector<char>& partial, int64_t tasks, int64_t cols, void* out) {
  const T* p = reinterpret_cast<const T*>(partial.data());
  std::vector<double> sums(cols, 0.);
  for (int64_t t = 0; t < tasks; ++t)
    for (int64_t c = 0; c < cols; ++c) sums[c] += p[t * cols + c];
  for (int64_t c = 0; c < cols; ++c) static_cast<T*>(out)[c] = T(sums[c]);
}

}  // namespace

void Evaluation::make(const LikelihoodTerm& term) {
  const bool one_run = !by_row && !weight.stride && !o.row && is_one_run(term);
  const int64_t rows = one_run ? 1 : o.rows, cols = one_run ? o.rows * term.cols : term.cols;
  LikelihoodJob& job = likelihood_job;
  if (o.row)  // whole rows, each of which stays in the cache
    job.grid = {rows, cols, term.sums_over_rows ? 8 + kTask / (cols + 1) : 1 + kTask / (cols + 1), cols};
  else if (term.sums_over_rows)  // tall tasks: fewer sums of columns to keep and to add up
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
  if (tasks != 1 || one_run || o.row) losses = nullptr;
  job.losses = losses;
  job.factor = rec_weight;
  if (!losses) nll.resize(rows * tasks);
  job.nll = nll.data();
}

void Evaluation::add_up_likelihood() {
  const Grid& grid = likelihood_job.grid;
  if (by_row && !losses) nll = add_up(std::move(nll), grid.rows, grid.col_tasks());
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
  const bool apart = (!by_row || losses) && !per_dim && !weight.stride && beta_dims.empty();
  const bool one_run = apart && is_one_run(term);
  if (!one_run) losses = nullptr;
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
  job.values = losses;
  job.factor = beta;
  if (!losses && (values || o.floor != KlFloor::none)) {
    kl.resize(rows * tasks);
    job.kl = kl.data();
  }
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
  if (by_row && !losses && (values || o.floor != KlFloor::none)) {
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
  VK_CHECK(is_one_run(term) || o.rows <= 1 || term.cols == 0, "a KL that is given is not contiguous");
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
  if (!grad) return;
  const Weights of_row = o.floor_of_batch() ? Weights{&mean_weight, 0, weight.factor} : weight;
  if (!of_row.stride && beta_dims.empty()) std::fill_n(grad, o.rows * term.cols, T(of_row[0] * beta));
  for (int64_t r = 0; (of_row.stride || !beta_dims.empty()) && r < o.rows; ++r)
    for (int64_t c = 0; c < term.cols; ++c)
      grad[r * term.cols + c] = T(of_row[r] * beta * (beta_dims.empty() ? 1 : beta_dims[c]));
}

// Free bits: a unit of the KL costs at least so many nats. Below that the unit has no gradient.
void Evaluation::take_floor(const LatentTerm& term) {
  const double nats = o.nats_factor * (o.nats ? doubles(*o.nats)[0] : 1);
  const auto is_closed = [&](double kl) { return kl <= nats; };  // a NaN is not
  const auto close = [&](int64_t row, int64_t col, int64_t cols) {
    for (const Sink& g : term.grads) {
      if (!g.data) continue;
      const int64_t size = bytes_of(g.dtype);
      std::memset(static_cast<char*>(g.data) + (row * g.stride + col) * size, 0, cols * size);
    }
  };
  if (o.floor == KlFloor::per_sample) {
    costs.assign(kl.begin(), kl.end());  // operator= needs a newer libstdc++ (torch_abi.h)
    for (int64_t r = 0; r < o.rows; ++r) {
      if (!is_closed(kl[r])) continue;
      costs[r] = nats;
      close(r, 0, term.cols);
    }
    return;
  }
  struct Columns {
    int64_t first, end;
  };
  std::vector<Columns> closed;  // of neighbouring units one entry, so that few long runs of memory are written
  double all = 0;
  const int64_t cols = o.floor_cols(), units = o.floor == KlFloor::per_batch_mean ? 1 : term.cols / cols;
  for (int64_t unit = 0; unit < units; ++unit) {
    double sum = 0;
    const int64_t first = unit * cols, end = std::min(first + cols, term.cols);
    for (int64_t c = first; c < end; ++c) sum += kl_per_dim[c];
    const double mean = sum / double(o.rows);
    all += is_closed(mean) ? nats : mean;
    if (!is_closed(mean)) continue;
    if (!closed.empty() && closed.back().end == first)
      closed.back().end = end;
    else
      closed.push_back({first, end});
  }
  for (int64_t r = 0; r < o.rows; ++r)
    for (const Columns& c : closed) close(r, c.first, c.end - c.first);
  costs.assign(1, all);
}

Evaluation::Evaluation(const Objective& o, Weights weight, bool values, bool by_row, bool per_dim, void* to)
    : o(o),
      weight(weight),
      values(values),
      by_row(by_row || o.floor == KlFloor::per_sample),
      per_dim(per_dim || o.floor_of_batch()),
      losses(to),
      rec_weight(o.rec_weight_factor),
      beta(o.beta_factor) {
  const bool of_elements = !o.has_likelihood() && !o.kl_is_given() && elements_after_batch(o.latent[0]) == 1;
  const bool alone = o.has_latent() ? of_elements && o.floor == KlFloor::none : true;
  if (!alone) losses = nullptr;
  if (o.rec_weight) rec_weight *= doubles(*o.rec_weight)[0];
  if (o.beta_by_dim())
    beta_dims = doubles(*o.beta);
  else if (o.beta)
    beta *= doubles(*o.beta)[0];
  if (o.floor_of_batch()) {
    for (int64_t r = 0; r < o.rows; ++r) mean_weight += weight.data[r * weight.stride];
    mean_weight /= double(o.rows);
  }
  const LikelihoodLoops* loops = nullptr;
  if (o.has_likelihood()) {
    loops = kernels().likelihood(o.likelihood.c_str());
    make(LikelihoodTerm(o, grads, empty_pooled));
  }
  std::optional<LatentTerm> latent;
  if (o.has_latent()) latent.emplace(o, grads, empty_pooled);
  if (latent && !o.kl_is_given()) make(*latent);
  const Loop<KlJob> kl_loop = kernels().latents[o.float64].kl;
  if (o.row) {
    const RowTerm row(o, grads);
    make(row, loops[o.float64]);
    run(kl_loop, kl_job, kernels().rows[o.float64], row_job);
    if (row.of_log_total) copy_to(row.of_log_total, o.float64, of_log_total);
  } else {
    run(kl_loop, kl_job, loops ? loops[o.float64].sums : nullptr, likelihood_job);
  }
  if (o.has_likelihood()) add_up_likelihood();
  if (!latent) return;
  if (!o.kl_is_given())
    add_up_latent();
  else
    is_float64(o.latent[0]) ? read_given<double>(*latent) : read_given<float>(*latent);
  if (o.floor != KlFloor::none) take_floor(*latent);
}

// The losses, where results are wanted row by row
template <class T>
void Evaluation::write_losses(T* out) const {
  const std::vector<double>& of_kl = weighted_kl.empty() ? kl : weighted_kl;
  if (!costs.empty()) {
    for (int64_t r = 0; r < o.rows; ++r)
      out[r] = T((nll.empty() ? 0 : rec_weight * nll[r]) + beta * (costs.size() == 1 ? costs[0] : costs[r]));
  } else if (of_kl.empty()) {
    for (int64_t r = 0; r < o.rows; ++r) out[r] = T(rec_weight * nll[r]);
  } else if (nll.empty()) {
    for (int64_t r = 0; r < o.rows; ++r) out[r] = T(beta * of_kl[r]);
  } else {
    for (int64_t r = 0; r < o.rows; ++r) out[r] = T(rec_weight * nll[r] + beta * of_kl[r]);
  }
}

// The sum of the losses of all rows
double Evaluation::total() const {
  double of_kl = sum_of(weighted_kl.empty() ? kl : weighted_kl);
  if (!costs.empty()) of_kl = !o.floor_of_batch() ? sum_of(costs) : o.rows ? double(o.rows) * costs[0] : 0;
  return rec_weight * sum_of(nll) + beta * of_kl;
}

template void Evaluation::write_losses(float*) const;
template void Evaluation::write_losses(double*) const;

}  // namespace vk
