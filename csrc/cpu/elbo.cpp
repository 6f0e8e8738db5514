// The objective on the CPU: loss_b = rec_weight * nll_b + sum_d beta_d * kl_bd, its terms and its gradients.
// backends/compiled/schemas.py has the schemas and says what each argument is; arguments were checked in functional.py.
#include "ops.h"

#include "tensors.h"

namespace vk {
namespace {

struct Objective {
  int64_t rows = 0;
  bool float64 = false;  // the compute type: float64 if a parameter or latent is
  Weights weight;        // of a row in the loss that is differentiated
  double rec_weight = 1, beta = 1;
  std::vector<double> beta_dims;  // one a latent dimension, or empty
  int64_t need = 0;               // bit i: the gradient of input i, parameters first, then latents
  bool per_dim = false;

  std::vector<double> nll, kl, weighted_kl, kl_per_dim;  // [rows] or empty; kl_per_dim: summed over the batch
  std::vector<Tensor> grads;

  // First the jobs are made, then all of their tasks run side by side, then the tasks' sums are added up.
  LikelihoodJob likelihood_job{};
  KlJob kl_job{};
  std::vector<double> number_sums[kMaxParameters], dim_sums;
  std::vector<char> column_sums[kMaxParameters];

  void make_likelihood(const Tensor& x, const Tensors& params);
  void make_latent(const Tensors& inputs, int64_t first_bit);
  void given_kl(const Tensor& input, int64_t bit);
  void add_up_likelihood(const Tensors& params);
  void add_up_latent();
};

// the gradient of a parameter that is one row for all samples: the row tasks' sums, in their order
template <class T>
std::vector<double> add_rows(const std::vector<char>& partial, int64_t tasks, int64_t cols) {
  const T* p = reinterpret_cast<const T*>(partial.data());
  std::vector<double> out(cols, 0.);
  for (int64_t t = 0; t < tasks; ++t)
    for (int64_t c = 0; c < cols; ++c) out[c] += p[t * cols + c];
  return out;
}

void Objective::make_likelihood(const Tensor& x, const Tensors& params) {
  const int64_t cols = elements_after_batch(x);
  const Tensor& like = params[0];
  VK_CHECK(dense_after_batch(like) && same_order(x, 1, like), "recon and x are not dense in the same order");

  bool row_sums = false;
  for (size_t k = 0; k < params.size(); ++k)
    row_sums |= (need >> k & 1) && params[k].dim() > 0 && params[k].dim() == x.dim() - 1;
  LikelihoodJob& job = likelihood_job;
  if (row_sums)  // tall tasks: fewer sums of columns to keep and to add up
    job.grid = {rows, cols, 64, cols < kBlock ? cols : kBlock};
  else
    job.grid = {rows, cols, 1 + kTask / (cols + 1), cols < kTask ? cols : kTask};
  if (!job.grid.task_cols) job.grid.task_cols = 1;
  const int64_t tasks = job.grid.col_tasks();

  job.x = source(x);
  job.weight = weight;
  job.weight.factor *= rec_weight;
  static const double zero = 0;
  for (size_t k = 0; k < kMaxParameters; ++k) {
    Parameter& p = job.p[k];
    if (k >= params.size()) {  // left out: 0
      p.in = {&zero, 0, DType::float64};
      p.layout = Layout::scalar;
      continue;
    }
    const bool wanted = need >> k & 1;
    job.grad |= wanted;
    p.in = source(params[k]);
    if (params[k].dim() == x.dim()) {
      VK_CHECK(same_order(params[k], 1, like), "parameter ", k, " is not in the order of recon");
      if (wanted) grads.push_back(empty_in_order(params[k], cols, p.grad));
    } else if (params[k].dim() == 0) {
      p.layout = Layout::scalar;
      if (wanted) {
        number_sums[k].resize(rows * tasks);
        p.sums = number_sums[k].data();
        grads.emplace_back();  // its place; filled below
      }
    } else {
      VK_CHECK(same_order(params[k], 0, like), "parameter ", k, " is not in the order of recon");
      p.layout = Layout::row;
      p.in.stride = 0;
      if (wanted) {
        column_sums[k].resize(job.grid.row_tasks() * cols * (float64 ? 8 : 4));
        p.row_sums = column_sums[k].data();
        grads.emplace_back();
      }
    }
  }
  nll.resize(rows * tasks);
  job.nll = nll.data();
}

void Objective::add_up_likelihood(const Tensors& params) {
  const LikelihoodJob& job = likelihood_job;
  const int64_t cols = job.grid.cols;
  const Tensor& like = params[0];
  nll = add_up(nll, rows, job.grid.col_tasks());
  for (size_t k = 0, i = 0; k < params.size(); ++k) {
    if (!(need >> k & 1)) continue;
    Tensor& grad = grads[i++];
    // by the layout, not by the pointer, which is null where no sample has a sum
    if (job.p[k].layout == Layout::scalar) {
      double sum = 0;
      for (double s : number_sums[k]) sum += s;
      grad = tensor(std::vector<double>{sum}, nullptr, 0, float64, like);
    } else if (job.p[k].layout == Layout::row) {
      const int64_t n = job.grid.row_tasks();
      const auto total = float64 ? add_rows<double>(column_sums[k], n, cols) : add_rows<float>(column_sums[k], n, cols);
      grad = empty(params[k].sizes(), params[k].strides(), params[k].dim(), torch_dtype(float64), like);
      for (int64_t c = 0; c < cols; ++c)
        float64 ? grad.mut<double>()[c] = total[c] : grad.mut<float>()[c] = float(total[c]);
    }
  }
}

void Objective::make_latent(const Tensors& inputs, int64_t first_bit) {
  const int64_t cols = elements_after_batch(inputs[0]);
  KlJob& job = kl_job;
  job.grid = latent_grid(rows, cols);
  job.weight = weight;
  job.weight.factor *= beta;
  for (size_t k = 0; k < inputs.size(); ++k) {
    VK_CHECK(dense_after_batch(inputs[k]) && same_order(inputs[k], 1, inputs[0]), "latent ", k, " is not in order");
    job.p[k] = source(inputs[k]);
    if (need >> (first_bit + k) & 1) grads.push_back(empty_in_order(inputs[k], cols, job.grad[k]));
  }
  const int64_t tasks = job.grid.col_tasks();
  kl.resize(rows * tasks);
  job.kl = kl.data();
  if (!beta_dims.empty()) {
    VK_CHECK(int64_t(beta_dims.size()) == cols, "beta has ", beta_dims.size(), " values for ", cols, " latents");
    weighted_kl.resize(rows * tasks);
    job.weighted = weighted_kl.data();
    job.beta = beta_dims.data();
  }
  dim_sums.resize(per_dim ? job.grid.row_tasks() * cols : 0);
  if (per_dim) job.per_dim = dim_sums.data();
}

void Objective::add_up_latent() {
  const Grid& grid = kl_job.grid;
  kl = add_up(kl, rows, grid.col_tasks());
  weighted_kl = add_up(weighted_kl, weighted_kl.empty() ? 0 : rows, grid.col_tasks());
  if (per_dim) {
    kl_per_dim.assign(grid.cols, 0.);
    for (int64_t t = 0; t < grid.row_tasks(); ++t)
      for (int64_t c = 0; c < grid.cols; ++c) kl_per_dim[c] += dim_sums[t * grid.cols + c];
  }
}

void Objective::given_kl(const Tensor& input, int64_t bit) {
  const int64_t cols = elements_after_batch(input);
  const std::vector<double> values = doubles(input);
  kl.assign(rows, 0.);
  if (!beta_dims.empty()) weighted_kl.assign(rows, 0.);
  if (per_dim) kl_per_dim.assign(cols, 0.);
  std::vector<double> grad(need >> bit & 1 ? rows * cols : 0);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const double v = values[r * cols + c], b = beta_dims.empty() ? 1 : beta_dims[c];
      kl[r] += v;
      if (!weighted_kl.empty()) weighted_kl[r] += b * v;
      if (per_dim) kl_per_dim[c] += v;
      if (!grad.empty()) grad[r * cols + c] = weight[r] * beta * b;
    }
  }
  if (need >> bit & 1)
    grads.push_back(tensor(grad, input.sizes(), input.dim(), dtype_of(input) == DType::float64, input));
}

void evaluate(Objective& o, const OptionalTensor& x, const Tensors& params, const std::string& likelihood,
              const Tensors& latent, const OptionalTensor& rec_weight, const OptionalTensor& beta) {
  o.float64 = any_float64(params) || any_float64(latent);
  o.rows = (params.empty() ? latent[0] : params[0]).size(0);
  if (rec_weight) o.rec_weight *= doubles(*rec_weight)[0];
  if (beta && beta->dim() == 0) o.beta *= doubles(*beta)[0];
  if (beta && beta->dim() > 0) o.beta_dims = doubles(*beta);
  const LikelihoodLoop* loops = nullptr;
  if (!params.empty()) {
    loops = kernels().likelihoods[likelihood_index(likelihood)];
    o.make_likelihood(*x, params);
  }
  if (latent.size() == 1) o.given_kl(latent[0], params.size());
  if (latent.size() > 1) o.make_latent(latent, params.size());
  run(kernels().latents[o.float64].kl, o.kl_job, loops ? loops[o.float64] : nullptr, o.likelihood_job);
  if (!params.empty()) o.add_up_likelihood(params);
  if (latent.size() > 1) o.add_up_latent();
}

}  // namespace

Tensors elbo(const OptionalTensor& x, const Tensors& params, const std::string& likelihood, const Tensors& latent,
             const OptionalTensor& rec_weight, const OptionalTensor& beta, double rec_weight_factor, double beta_factor,
             int64_t reduction, int64_t need, bool terms) {
  const Tensor& like = params.empty() ? latent[0] : params[0];
  const double rows = double(like.size(0)), scale = reduction == kMean ? 1 / rows : 1;
  Objective o;
  o.weight = {&scale, 0, 1};
  o.rec_weight = rec_weight_factor;
  o.beta = beta_factor;
  o.need = need;
  o.per_dim = terms && !latent.empty() && latent[0].dim() > 1;
  evaluate(o, x, params, likelihood, latent, rec_weight, beta);

  std::vector<double> loss(o.rows, 0.);
  double total = 0;
  const std::vector<double>& kl = o.weighted_kl.empty() ? o.kl : o.weighted_kl;
  for (size_t r = 0; r < o.nll.size(); ++r) loss[r] = o.rec_weight * o.nll[r];
  for (size_t r = 0; r < kl.size(); ++r) loss[r] += o.beta * kl[r];
  for (double each : loss) total += each;
  Tensors out;
  if (reduction == kNone)
    out.push_back(tensor(loss, &o.rows, 1, o.float64, like));
  else  // an empty batch has the mean 0/0, as torch.mean has
    out.push_back(tensor(std::vector<double>{reduction == kMean ? total / rows : total}, nullptr, 0, o.float64, like));
  if (terms) {  // the parts that are not there are empty
    std::vector<double> all{reduction == kSum ? total : total / rows};
    all.reserve(1 + o.nll.size() + o.kl.size() + o.kl_per_dim.size());
    all.insert(all.end(), o.nll.begin(), o.nll.end());
    all.insert(all.end(), o.kl.begin(), o.kl.end());
    for (double sum : o.kl_per_dim) all.push_back(sum / rows);
    const int64_t n = int64_t(all.size());
    out.push_back(tensor(all, &n, 1, o.float64, like));
  }
  for (Tensor& g : o.grads) out.push_back(std::move(g));
  return out;
}

Tensors elbo_backward(const Tensor& grad, const OptionalTensor& x, const Tensors& params, const std::string& likelihood,
                      const Tensors& latent, const OptionalTensor& rec_weight, const OptionalTensor& beta,
                      double rec_weight_factor, double beta_factor, int64_t reduction, int64_t need) {
  const std::vector<double> incoming = doubles(grad);
  const double rows = double((params.empty() ? latent[0] : params[0]).size(0));
  Objective o;
  o.weight = {incoming.data(), grad.dim(), reduction == kMean ? 1 / rows : 1};
  o.rec_weight = rec_weight_factor;
  o.beta = beta_factor;
  o.need = need;
  evaluate(o, x, params, likelihood, latent, rec_weight, beta);
  return std::move(o.grads);
}

}  // namespace vk
