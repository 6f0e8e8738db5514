// The objective on the GPU: loss_b = rec_weight * nll_b + sum_d beta_d * kl_bd, its terms and its gradients, in one
// launch where little is left to add up at its end. request.h says what is asked for.
#include "ops.h"
#include "plan.h"

namespace vk::cuda {
namespace {

// The evaluation of an objective: the jobs of one launch, and where the results go.
struct Launch {
  const Objective& o;
  Weight incoming, rec_weight, beta;  // the gradients of a row are multiplied by all three

  LikelihoodJob likelihood{};
  KlJob kl{};
  FinishJob finish{};
  Variant variant = Variant::any;
  Tensors grads;

  Launch(const Objective& o, const Weight& incoming);
  void make(const LikelihoodTerm& term);
  void make(const LatentTerm& term);
  void run(bool values, bool per_dim);
};

void Launch::make(const LikelihoodTerm& term) {
  LikelihoodJob& job = likelihood;
  job.x = term.x;
  job.weights = term.weights;
  job.incoming = incoming;
  job.weight = rec_weight;
  job.grad = term.any_wanted;
  bool all_float32 = job.x.dtype == DType::float32;
  for (size_t k = 0; k < kMaxParameters; ++k) {
    const ParameterOfRequest& from = term.params[k];
    Parameter& p = job.p[k];
    p.in = from.in;
    p.layout = from.layout;
    p.wanted = from.wanted;
    p.grad = from.grad;
    all_float32 &= p.in.dtype == DType::float32;
    if (!from.wanted) continue;
    if (p.layout == Layout::number) finish.number_out[k] = from.sums;
    if (p.layout == Layout::per_sample) finish.samples[k].out = from.sums;
    if (p.layout == Layout::per_feature) finish.columns[k] = {nullptr, 0, term.cols, 1, from.sums};
  }
  const bool down = term.sums_over_rows || term.weights.data || o.float64;
  variant = down ? Variant::columns : all_float32 ? Variant::float32 : Variant::any;
  job.tiling = down ? column_tiling(o.rows, term.cols, o.float64 ? kColumns64 : kColumns, kRowsEach)
                    : walking_tiling(o.rows, term.cols);
}

void Launch::make(const LatentTerm& term) {
  kl.tiling = column_tiling(o.rows, term.cols, 1, variant == Variant::columns ? kRowsEach : 1);
  kl.given = o.kl_is_given();
  kl.weights = term.weights;
  kl.incoming = incoming;
  kl.weight = beta;
  kl.beta = kOne;
  if (o.beta_by_dim()) {
    VK_CHECK(o.beta->contiguous(), "beta is not contiguous");
    kl.beta = weight(o.beta, 1);
    kl.beta.stride = 1;
  }
  for (int k = 0; k < 4; ++k) {
    kl.p[k] = term.inputs[k];
    kl.grad[k] = term.grads[k];
  }
}

// values: the loss and its terms are wanted, not gradients alone.
void Launch::run(bool values, bool per_dim) {
  const bool with_likelihood = o.has_likelihood(), with_latent = o.has_latent();
  const Workspace workspace(o.like, [&](Workspace& w) {
    const Tiling &a = likelihood.tiling, &b = kl.tiling;
    const auto rows = [&](double*& partial, const Tiling& t, RowSums& to) {
      to = row_sums(partial = w.take(t.rows * t.pieces), t, to.out);
    };
    if (values && with_likelihood) rows(likelihood.nll, a, finish.nll);
    if (values && with_latent) rows(kl.kl, b, finish.kl);
    if (values && with_latent && kl.beta.data) rows(kl.weighted, b, finish.weighted);
    for (int k = 0; k < kMaxParameters; ++k) {
      if (finish.samples[k].out) rows(likelihood.p[k].sums, a, finish.samples[k]);
      if (finish.number_out[k]) finish.block_sums[k] = likelihood.p[k].sums = w.take(a.blocks());
      if (k == 0 || !finish.columns[k].out) continue;
      finish.columns[k].partial = likelihood.p[k].columns = w.take(a.row_blocks * a.cols);
      finish.columns[k].row_blocks = a.row_blocks;
    }
    if (per_dim) finish.columns[0].partial = kl.columns = w.take(b.row_blocks * b.cols);
  });
  finish.columns[0].row_blocks = kl.tiling.row_blocks;
  finish.rows = o.rows;
  finish.n_blocks = likelihood.tiling.blocks();
  finish.rec_weight = rec_weight;
  finish.beta = beta;
  bool wanted = values;
  for (int k = 0; k < kMaxParameters; ++k)
    wanted |= finish.number_out[k] || finish.columns[k].out || finish.samples[k].out;

  const int64_t blocks = likelihood.tiling.blocks() + kl.tiling.blocks();
  launch_and_finish(finish, wanted, o.float64, blocks, o.like, [&](void* stream) {
    if (!with_likelihood) return latent_kernel({kl, {}, finish}, o.float64, blocks, stream);
    return likelihood_launch(o.likelihood)({kl, likelihood, finish}, variant, o.float64, blocks, stream);
  });
}

Launch::Launch(const Objective& o, const Weight& incoming)
    : o(o), incoming(incoming), rec_weight(weight(o.rec_weight, o.rec_weight_factor)) {
  beta = o.beta_by_dim() ? Weight{nullptr, 0, false, o.beta_factor} : weight(o.beta, o.beta_factor);
  if (o.has_likelihood()) make(LikelihoodTerm(o, grads, allocate));
  if (o.has_latent()) make(LatentTerm(o, grads, allocate));
}

}  // namespace

Tensors elbo(const Objective& o, bool terms, double expected) {
  VK_CHECK(o.floor == KlFloor::none, "free bits are not there yet");
  Launch launch(o, {nullptr, 0, false, o.scale() * expected});
  Tensors out;
  const auto result = [&](const int64_t* sizes, int64_t dim) {
    out.push_back(empty_contiguous(sizes, dim, o.dtype, o.like));
    return out.back().mut<void>();
  };
  const bool by_row = o.reduction == Reduction::none, per_dim = terms && o.has_kl_dims();
  launch.finish.loss = result(&o.rows, by_row ? 1 : 0);
  launch.finish.loss_stride = by_row;
  // of no row: infinite, and the mean 0 * inf is NaN, as torch.mean has it
  launch.finish.loss_factor = 1 / o.divisor();
  if (terms) {
    const PackedTerms place(o);
    char* const all = static_cast<char*>(result(&place.size, 1));
    const auto at = [&](int64_t element) { return all + element * (o.float64 ? 8 : 4); };
    launch.finish.loss_of_all = at(place.loss);
    if (o.has_likelihood()) launch.finish.nll.out = at(place.nll);
    if (o.has_latent()) launch.finish.kl.out = at(place.kl);
    if (per_dim)
      launch.finish.columns[0] = {nullptr, 0, launch.kl.tiling.cols, 1 / double(o.rows), at(place.kl_per_dim)};
  }
  launch.run(true, per_dim);
  for (Tensor& g : launch.grads) out.push_back(std::move(g));
  return out;
}

Tensors elbo_backward(const Tensor& grad, const Objective& o) {
  Weight incoming = weight(grad);
  incoming.factor = o.scale();
  Launch launch(o, incoming);
  launch.run(false, false);
  return std::move(launch.grads);
}

}  // namespace vk::cuda
