// The objective on the GPU: loss_b = rec_weight * nll_b + sum_d beta_d * kl_bd, its terms and its gradients, in one
// launch where little is left to add up at its end. backends/compiled/schemas.py has the schemas.
#include "ops.h"
#include "plan.h"

namespace vk::cuda {
namespace {

struct Objective {
  const Tensor& like;
  int64_t rows, need;  // bit i of need: the gradient of input i, parameters first, then latents
  bool float64;
  int32_t dtype;  // of what is computed
  Weight incoming, rec_weight, beta;
  OptionalTensor no_beta;

  LikelihoodJob likelihood{};
  KlJob kl{};
  FinishJob finish{};
  Variant variant = Variant::any;
  Tensors grads;

  Objective(const Tensors& params, const Tensors& latent, int64_t need)
      : like(params.empty() ? latent[0] : params[0]),
        rows(like.size(0)),
        need(need),
        float64(any_float64(params) || any_float64(latent)),
        dtype(torch_dtype(float64)) {}

  int rows_each() const { return variant == Variant::columns ? kRowsEach : 1; }
  void add_likelihood(const Tensor& x, const Tensors& params);
  void add_latent(const Tensors& inputs, int64_t first_bit, const OptionalTensor& beta_dims);
  void run(const std::string& name, bool values, bool per_dim, bool with_likelihood, bool with_latent);
};

void Objective::add_likelihood(const Tensor& x, const Tensors& params) {
  LikelihoodJob& job = likelihood;
  const int64_t cols = elements_after_batch(x);
  VK_CHECK(dense_after_batch(like) && same_order(x, 1, like), "recon and x are not dense in the same order");
  job.x = source(x);
  job.incoming = incoming;
  job.weight = rec_weight;
  bool all_float32 = job.x.dtype == DType::float32, sums_rows = false;
  for (size_t k = 0; k < kMaxParameters; ++k) {
    Parameter& p = job.p[k];
    if (k >= params.size()) {  // left out: 0
      p.layout = Layout::scalar;
      continue;
    }
    const Tensor& t = params[k];
    p.wanted = need >> k & 1;
    p.in = source(t);
    job.grad |= p.wanted;
    all_float32 &= p.in.dtype == DType::float32;
    if (t.dim() == x.dim()) {
      VK_CHECK(same_order(t, 1, like), "parameter ", k, " is not in the order of recon");
      if (p.wanted) grads.push_back(empty_in_order(t, cols, p.grad));
    } else if (t.dim() == 0) {
      p.layout = Layout::scalar;
      if (!p.wanted) continue;
      grads.push_back(empty_scalar(dtype, like));
      finish.number_out[k] = grads.back().mut<void>();
    } else {
      VK_CHECK(same_order(t, 0, like), "parameter ", k, " is not in the order of recon");
      p.layout = Layout::row;
      p.in.stride = 0;
      if (!p.wanted) continue;
      sums_rows = true;
      grads.push_back(empty(t.sizes(), t.strides(), t.dim(), dtype, like));
      finish.columns[k] = {nullptr, 0, cols, 1, grads.back().mut<void>()};
    }
  }
  const bool down = sums_rows || float64;
  variant = down ? Variant::columns : all_float32 ? Variant::float32 : Variant::any;
  job.tiling =
      down ? column_tiling(rows, cols, float64 ? kColumns64 : kColumns, kRowsEach) : walking_tiling(rows, cols);
}

void Objective::add_latent(const Tensors& inputs, int64_t first_bit, const OptionalTensor& beta_dims) {
  const int64_t cols = elements_after_batch(inputs[0]);
  kl.tiling = column_tiling(rows, cols, 1, rows_each());
  kl.given = inputs.size() == 1;
  kl.incoming = incoming;
  kl.weight = beta;
  kl.beta = kOne;
  if (beta_dims) {
    VK_CHECK(beta_dims->numel() == cols, "beta has ", beta_dims->numel(), " values for ", cols, " latents");
    VK_CHECK(beta_dims->contiguous(), "beta is not contiguous");
    kl.beta = weight(beta_dims, 1);
    kl.beta.stride = 1;
  }
  for (size_t k = 0; k < inputs.size(); ++k) {
    VK_CHECK(dense_after_batch(inputs[k]) && same_order(inputs[k], 1, inputs[0]), "latent ", k, " is not in order");
    kl.p[k] = source(inputs[k]);
    if (need >> (first_bit + k) & 1) grads.push_back(empty_in_order(inputs[k], cols, kl.grad[k]));
  }
}

// values: the loss and its terms are wanted, not gradients alone.
void Objective::run(const std::string& name, bool values, bool per_dim, bool with_likelihood, bool with_latent) {
  const Workspace workspace(like, [&](Workspace& w) {
    const Tiling &a = likelihood.tiling, &b = kl.tiling;
    if (values && with_likelihood) finish.nll = row_sums(likelihood.nll = w.take(a.rows * a.pieces), a);
    if (values && with_latent) finish.kl = row_sums(kl.kl = w.take(b.rows * b.pieces), b);
    if (values && with_latent && kl.beta.data) finish.weighted = row_sums(kl.weighted = w.take(b.rows * b.pieces), b);
    for (int k = 0; k < kMaxParameters; ++k) {
      if (finish.number_out[k]) finish.block_sums[k] = likelihood.p[k].block_sums = w.take(a.blocks());
      if (k == 0 || !finish.columns[k].out) continue;
      finish.columns[k].partial = likelihood.p[k].columns = w.take(a.row_blocks * a.cols);
      finish.columns[k].row_blocks = a.row_blocks;
    }
    if (per_dim) finish.columns[0].partial = kl.columns = w.take(b.row_blocks * b.cols);
  });
  finish.columns[0].row_blocks = kl.tiling.row_blocks;
  finish.rows = rows;
  finish.n_blocks = likelihood.tiling.blocks();
  finish.rec_weight = rec_weight;
  finish.beta = beta;
  bool wanted = values;
  for (int k = 0; k < kMaxParameters; ++k) wanted |= finish.number_out[k] || finish.columns[k].out;

  const int64_t blocks = likelihood.tiling.blocks() + kl.tiling.blocks();
  launch_and_finish(finish, wanted, float64, blocks, like, [&](void* stream) {
    if (!with_likelihood) return latent_kernel({kl, {}, finish}, float64, blocks, stream);
    static const LikelihoodLaunch launches[] = {
#define VK_LAUNCH(name) elbo_kernel_##name,
        VK_LIKELIHOODS(VK_LAUNCH)
#undef VK_LAUNCH
    };
    return launches[likelihood_index(name)]({kl, likelihood, finish}, variant, float64, blocks, stream);
  });
}

// rec_weight, beta and the inputs, as both ops have them
Objective objective(const Weight& incoming, const OptionalTensor& x, const Tensors& params, const Tensors& latent,
                    const OptionalTensor& rec_weight, const OptionalTensor& beta, double rec_weight_factor,
                    double beta_factor, int64_t need) {
  Objective o(params, latent, need);
  const bool by_dim = beta && beta->dim() > 0;
  o.incoming = incoming;
  o.rec_weight = weight(rec_weight, rec_weight_factor);
  o.beta = by_dim ? Weight{nullptr, 0, false, beta_factor} : weight(beta, beta_factor);
  if (!params.empty()) o.add_likelihood(*x, params);
  if (!latent.empty()) o.add_latent(latent, int64_t(params.size()), by_dim ? beta : o.no_beta);
  return o;
}

double mean_factor(int64_t reduction, int64_t rows) { return reduction == kMean ? 1 / double(rows) : 1; }

}  // namespace

Tensors elbo(const OptionalTensor& x, const Tensors& params, const std::string& likelihood, const Tensors& latent,
             const OptionalTensor& rec_weight, const OptionalTensor& beta, double rec_weight_factor, double beta_factor,
             int64_t reduction, int64_t need, bool terms) {
  const int64_t rows = (params.empty() ? latent[0] : params[0]).size(0);
  const double factor = mean_factor(reduction, rows);
  Objective o =
      objective({nullptr, 0, false, factor}, x, params, latent, rec_weight, beta, rec_weight_factor, beta_factor, need);
  Tensors out;
  const auto result = [&](const int64_t* sizes, int64_t dim) {
    out.push_back(empty_contiguous(sizes, dim, o.dtype, o.like));
    return out.back().mut<void>();
  };
  const bool by_row = reduction == kNone, per_dim = terms && !latent.empty() && latent[0].dim() > 1;
  o.finish.loss = result(&rows, by_row ? 1 : 0);
  o.finish.loss_stride = by_row;
  // of no row: infinite, and the mean 0 * inf is NaN, as torch.mean has it
  o.finish.loss_factor = reduction == kSum ? 1 : 1 / double(rows);
  if (terms) {
    const int64_t dims = per_dim ? elements_after_batch(latent[0]) : 0;
    const int64_t n = 1 + rows * (!params.empty() + !latent.empty()) + dims;
    char* next = static_cast<char*>(result(&n, 1));
    const auto part = [&](int64_t length) { return std::exchange(next, next + length * (o.float64 ? 8 : 4)); };
    o.finish.loss_of_all = part(1);
    if (!params.empty()) o.finish.nll_out = part(rows);
    if (!latent.empty()) o.finish.kl_out = part(rows);
    if (per_dim) o.finish.columns[0] = {nullptr, 0, dims, 1 / double(rows), part(dims)};
  }
  o.run(likelihood, true, per_dim, !params.empty(), !latent.empty());
  for (Tensor& g : o.grads) out.push_back(std::move(g));
  return out;
}

Tensors elbo_backward(const Tensor& grad, const OptionalTensor& x, const Tensors& params, const std::string& likelihood,
                      const Tensors& latent, const OptionalTensor& rec_weight, const OptionalTensor& beta,
                      double rec_weight_factor, double beta_factor, int64_t reduction, int64_t need) {
  Weight incoming = weight(grad);
  incoming.factor = mean_factor(reduction, (params.empty() ? latent[0] : params[0]).size(0));
  Objective o = objective(incoming, x, params, latent, rec_weight, beta, rec_weight_factor, beta_factor, need);
  o.run(likelihood, false, false, !params.empty(), !latent.empty());
  return std::move(o.grads);
}

}  // namespace vk::cuda
