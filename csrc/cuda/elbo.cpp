// The objective on the GPU: loss_b = rec_weight * nll_b + sum_d beta_d * kl_bd, its terms and its gradients, in one
// launch where little is left to add up at its end. Free bits take one more launch, which closes gradients (floor.h).
// request.h says what is asked for.
#include "one_run.h"
#include "ops.h"
#include "plan.h"
#include "row_plan.h"

namespace vk::cuda {
namespace {

// The evaluation of an objective: the jobs of one launch, and where the results go.
struct Launch {
  const Objective& o;
  Incoming incoming;
  Weight rec_weight, beta;  // the gradients of a row are multiplied by all three
  bool by_row, per_dim;     // whether results are wanted row by row, and sums of the KL by dimension

  LikelihoodJob likelihood{};
  KlJob kl{};
  FinishJob finish{};
  std::optional<RowPlan> row;  // of the row kind
  Variant variant = Variant::any;
  Tensors grads;

  // there: the gradients where some are there already
  Launch(const Objective& o, const Incoming& incoming, bool by_row, bool per_dim, Tensors there = {});
  void make(const LikelihoodTerm& term);
  void make(const LatentTerm& term);
  void run(bool values);

 private:
  // Whether each row has a result or an incoming gradient of its own: if not, the batch may be one run.
  bool each_row() const { return by_row || (incoming.data && incoming.stride); }
  void average_incoming(double* mean);
  void close() const;
};

void Launch::make(const LikelihoodTerm& term) {
  LikelihoodJob& job = likelihood;
  job.x = beside(term.x, o.rows);
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
  const bool down = term.sums_over_rows || term.weights.data || o.float64 || o.row;
  variant = down ? Variant::columns : all_float32 ? Variant::float32 : Variant::any;
  const int columns_each = o.float64 ? kColumns64 : kColumns;
  if (each_row() || o.row || !is_one_run(term)) {
    job.tiling = down ? column_tiling(o.rows, term.cols, columns_each, kRowsEach) : walking_tiling(o.rows, term.cols);
    return;
  }
  const int64_t n = o.rows * term.cols;
  job.tiling = down ? run_tiling(n, columns_each, kRowsEach) : walking_tiling(1, n);
  job.x.stride = job.tiling.cols;
  if (job.weights.col_stride) job.weights.row_stride = job.tiling.cols;
  for (Parameter& p : job.p)
    if (p.layout == Layout::full) p.in.stride = job.tiling.cols;
}

void Launch::make(const LatentTerm& term) {
  const int rows_each = variant == Variant::columns ? kRowsEach : 1;
  kl.tiling = column_tiling(o.rows, term.cols, 1, rows_each);
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
  const bool several = o.floor == KlFloor::per_dim || o.floor == KlFloor::per_group;
  const int64_t units = several ? term.cols / o.floor_cols() : 1;
  FloorJob& floor = finish.floor;
  floor.by_row = o.floor == KlFloor::per_sample;
  floor.units = units;
  floor.cols = term.cols / at_least_one(units);
  floor.rows = o.rows;
  floor.nats = weight(o.nats, o.nats_factor);
  if (each_row() || o.floor != KlFloor::none || kl.beta.data || !is_one_run(term)) return;
  kl.tiling = run_tiling(o.rows * term.cols, 1, rows_each);
  if (kl.weights.col_stride) kl.weights.row_stride = kl.tiling.cols;
  for (Source& p : kl.p) p.stride = kl.tiling.cols;
  for (Sink& g : kl.grad) g.stride = kl.tiling.cols;
}

// Where the unit of free bits is a mean over the batch, the incoming gradient of the KL is the mean of all.
void Launch::average_incoming(double* mean) {
  Weight all = incoming;
  all.factor /= double(o.rows);
  const Stream stream(o.like);
  check(rows_sum_kernel({all, o.rows, mean}, true, 1, stream.get()));
  kl.incoming = {{mean, 0, true, 1}, false, 0};
}

void Launch::close() const {
  CloseJob job{finish.floor, column_tiling(kl.tiling.rows, kl.tiling.cols, 1, kRowsEach), finish.kl, kl.incoming, {}};
  bool any = false;
  for (int k = 0; k < 4; ++k) any |= (job.grad[k] = kl.grad[k]).data != nullptr;
  const Stream stream(o.like);
  if (any && o.rows * kl.tiling.cols > 0) check(close_kernel(job, job.tiling.blocks(), stream.get()));
}

// values: the loss and its terms are wanted, not gradients alone.
void Launch::run(bool values) {
  const bool with_likelihood = o.has_likelihood(), with_latent = o.has_latent(), on_floor = o.floor != KlFloor::none;
  const bool average = o.floor_of_batch() && incoming.data && incoming.stride && o.rows > 0;
  double* mean = nullptr;
  FloorJob& floor = finish.floor;
  const Workspace workspace(o.like, [&](Workspace& w) {
    const Tiling &a = likelihood.tiling, &b = kl.tiling;
    const auto rows = [&](double*& partial, const Tiling& t, RowSums& to, bool each) {
      partial = w.take(t.rows * t.pieces);
      to = each ? row_sums(partial, t, to.out) : piece_sums(partial, t);
    };
    const bool each_kl = by_row || floor.by_row;
    if (row) row->take(w, likelihood);
    if (values && with_likelihood) rows(likelihood.nll, a, finish.nll, by_row);
    if (with_latent && (each_kl || (values && !on_floor))) rows(kl.kl, b, finish.kl, each_kl);
    if (with_latent && values && kl.beta.data) rows(kl.weighted, b, finish.weighted, each_kl);
    for (int k = 0; k < kMaxParameters; ++k) {
      if (finish.samples[k].out) rows(likelihood.p[k].sums, a, finish.samples[k], true);
      if (finish.number_out[k]) finish.block_sums[k] = likelihood.p[k].sums = w.take(a.blocks());
      if (k == 0 || !finish.columns[k].out) continue;
      finish.columns[k].partial = likelihood.p[k].columns = w.take(a.row_blocks * a.cols);
      finish.columns[k].row_blocks = a.row_blocks;
    }
    if (per_dim) {
      void* const out = finish.columns[0].out ? finish.columns[0].out : w.take(at_least_one(b.cols));
      finish.columns[0] = {kl.columns = w.take(b.row_blocks * b.cols), b.row_blocks, b.cols, 1 / double(o.rows), out};
    }
    if (o.floor_of_batch()) floor.scratch = w.take(floor.units + 1);
    if (average) mean = w.take(1);
  });
  if (floor.by_row) finish.kl.lanes = int32_t(finish.kl.pieces);  // close() reads all pieces, in a backward pass too
  if (o.floor_of_batch()) floor.means = {finish.columns[0].out, 1, o.float64, 1};
  if (average) average_incoming(mean);
  for (const RowSums* s : {&finish.nll, &finish.kl}) finish.rows = s->rows > finish.rows ? s->rows : finish.rows;
  for (const RowSums& s : finish.samples) finish.rows = s.rows > finish.rows ? s.rows : finish.rows;
  finish.n_blocks = likelihood.tiling.blocks();
  finish.rec_weight = rec_weight;
  finish.beta = beta;
  bool wanted = values;
  for (int k = 0; k < kMaxParameters; ++k)
    wanted |= finish.number_out[k] || finish.columns[k].out || finish.samples[k].out;

  if (row) row->before();
  const int64_t blocks = likelihood.tiling.blocks() + kl.tiling.blocks();
  launch_and_finish(finish, wanted, o.float64, blocks, o.like, [&](void* stream) {
    if (!with_likelihood) return latent_kernel({kl, {}, finish}, o.float64, blocks, stream);
    return likelihood_launch(o.likelihood)({kl, likelihood, finish}, variant, o.float64, blocks, stream);
  });
  if (on_floor) close();
  if (row) row->after();
}

Launch::Launch(const Objective& o, const Incoming& incoming, bool by_row, bool per_dim, Tensors there)
    : o(o),
      incoming(incoming),
      rec_weight(weight(o.rec_weight, o.rec_weight_factor)),
      by_row(by_row),
      per_dim(per_dim || o.floor_of_batch()),
      grads(std::move(there)) {
  beta = o.beta_by_dim() ? Weight{nullptr, 0, false, o.beta_factor} : weight(o.beta, o.beta_factor);
  const Allocate none_or_new = incoming.corrects ? nullptr : allocate;
  if (o.has_likelihood()) make(LikelihoodTerm(o, grads, none_or_new));
  if (o.has_latent()) make(LatentTerm(o, grads, none_or_new));
  if (!o.row) return;
  VK_CHECK(!incoming.corrects, "the gradients of the row kind are not corrected in place");
  row.emplace(o, likelihood, grads);
  likelihood.grad |= row->any_wanted();
}

// The incoming gradient of a loss has the type of the loss.
double in_the_type_of_the_loss(const Objective& o, double gradient) { return o.float64 ? gradient : float(gradient); }

}  // namespace

Tensors elbo(const Objective& o, bool terms, double expected) {
  const bool by_row = o.reduction == Reduction::none, per_dim = terms && o.has_kl_dims();
  const double incoming = o.scale() * (by_row ? in_the_type_of_the_loss(o, expected) : expected);
  Launch launch(o, {{nullptr, 0, false, incoming}, false, 0}, by_row || terms, per_dim);
  Tensors out;
  const auto result = [&](const int64_t* sizes, int64_t dim) {
    out.push_back(empty_contiguous(sizes, dim, o.dtype, o.like));
    return out.back().mut<void>();
  };
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
    if (per_dim) launch.finish.columns[0].out = at(place.kl_per_dim);
  }
  launch.run(true);
  for (Tensor& g : launch.grads) out.push_back(std::move(g));
  return out;
}

Tensors elbo_backward(const Tensor& grad, const Objective& o) {
  Weight incoming = weight(grad);
  incoming.factor = o.scale();
  Launch launch(o, {incoming, false, 0}, false, false);
  launch.run(false);
  return std::move(launch.grads);
}

void correct_(Tensors grads, const Tensor& grad, double expected, const Objective& o) {
  VK_CHECK(o.reduction == Reduction::none && !o.floor_of_batch(),
           "only the gradients of a loss per sample are corrected");
  Launch launch(o, {weight(grad), true, in_the_type_of_the_loss(o, expected)}, false, false, std::move(grads));
  launch.run(false);
}

}  // namespace vk::cuda
