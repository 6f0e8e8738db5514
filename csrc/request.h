// The request: what an op is asked for. Here tensors become what the kernels read and write: this is done once, for
// every device. The ops of cpu/ and cuda/ add how the work is cut into tasks or blocks. vae_kernels/core/objective.py
// has the request in Python.
#pragma once
#include <bit>
#include <cstring>

#include "layout.h"

namespace vk {

// What becomes of the losses of the samples: the numbers of `Reduction` in vae_kernels/core/objective.py.
enum class Reduction : int64_t { none = 0, mean = 1, sum = 2 };

// The unit of the KL that costs at least so many nats: the numbers of `KlFloor` in vae_kernels/core/objective.py.
enum class KlFloor : int64_t { none = 0, per_dim = 1, per_group = 2, per_sample = 3, per_batch_mean = 4 };

// The gradient mask: bit i says whether input i of the op needs a gradient.
struct Need {
  int64_t bits = 0;
  bool operator[](size_t i) const { return bits >> i & 1; }
  size_t before(size_t i) const { return std::popcount(uint64_t(bits) & ((uint64_t(1) << i) - 1)); }
};

// What a device has for each likelihood, by the name that the op takes.
template <class F>
struct Named {
  const char* name;
  F function;
};
template <class F, size_t N>
F of_likelihood(const Named<F> (&table)[N], const char* name) {
  for (const Named<F>& row : table)
    if (!std::strcmp(name, row.name)) return row.function;
  fail("likelihood \"", name, "\" has no C++ formula");
}

// Whether a likelihood is of the row kind (cpu/dispatch.cpp).
bool is_row(const std::string& likelihood);

// How a tensor lies against `like`, x or mu.
inline Layout layout_of(const Tensor& t, const Tensor& like) {
  if (t.dim() < like.dim()) return t.dim() == 0 ? Layout::number : Layout::per_feature;
  for (int64_t i = 0; i < like.dim(); ++i)
    if (t.size(i) != like.size(i)) return Layout::per_sample;
  return Layout::full;
}

// The weights of the elements of `like`, x or mu.
inline ElementWeights element_weights(const OptionalTensor& w, const Tensor& like) {
  if (!w) return {};
  const Layout layout = layout_of(*w, like);
  const bool full = layout == Layout::full, by_row = full || layout == Layout::per_sample;
  const bool by_col = full || layout == Layout::per_feature;
  const DType dtype = dtype_of(*w);
  VK_CHECK(!by_col || same_order(*w, full, like), "a weight is not in the order of its tensor");
  VK_CHECK(dtype == DType::boolean || dtype <= DType::float16, "a weight is neither bool nor floating");
  return {w->data<void>(), by_row && w->dim() ? w->stride(0) : 0, by_col, dtype};
}

// `rows` of a Source of x, or of the weights of x, beside so many samples of the parameters: x may have fewer samples.
inline int64_t rows_beside(const Tensor& x, int64_t samples) {
  const int64_t own = x.size(0);
  VK_CHECK(own == samples || (own > 0 && samples % own == 0), "x has ", own, " samples beside ", samples);
  return own == samples ? kAllRows : own;
}

// ---------------------------------------------------------------- the objective

// The loss of a batch: rec_weight * nll_b + sum_d beta_d * kl_bd for each sample b, reduced.
// backends/compiled/schemas.py says what each field is.
struct Objective {
  const OptionalTensor& x;
  const Tensors& params;
  const std::string& likelihood;
  const Tensors& latent;
  const OptionalTensor &rec_weight, &beta, &weight, &latent_weight, &nats, &log_total;
  double rec_weight_factor, beta_factor, nats_factor;
  KlFloor floor;
  Reduction reduction;
  Need need;  // of the parameters, then of the latents, then of log_total

  const Tensor& like = params.empty() ? latent[0] : params[0];  // all tensors are on its device
  int64_t rows = like.size(0);
  bool float64 = any_float64(params) || any_float64(latent);  // computed in float64, or else in float32
  int32_t dtype = torch_dtype(float64);

  bool row = log_total || is_row(likelihood);  // params[0] has logits of shares (formula.h)

  bool has_likelihood() const { return !params.empty(); }
  bool has_latent() const { return !latent.empty(); }
  bool kl_is_given() const { return latent.size() == 1; }
  bool has_kl_dims() const { return has_latent() && latent[0].dim() > 1; }
  bool beta_by_dim() const { return beta && beta->dim() > 0; }
  // Whether the unit of the floor is a mean over the batch; and how many columns of the latents such a unit has.
  bool floor_of_batch() const { return floor != KlFloor::none && floor != KlFloor::per_sample; }
  int64_t floor_cols() const {
    const int64_t cols = elements_after_batch(latent[0]);
    if (floor == KlFloor::per_dim || cols == 0) return 1;
    return floor == KlFloor::per_batch_mean ? cols : cols / latent[0].size(1);
  }

  // What is differentiated is the loss of each sample times this factor.
  double scale() const { return reduction == Reduction::mean ? 1 / double(rows) : 1; }
  // The loss of the batch is the sum of the losses divided by this. The mean of an empty batch is 0 / 0, as in
  // torch.mean.
  double divisor() const { return reduction == Reduction::sum ? 1 : double(rows); }
};

// The terms of an objective in one flat tensor: where each part begins. A part that is not there is empty.
struct PackedTerms {
  int64_t loss, nll, kl, kl_per_dim, size;

  explicit PackedTerms(const Objective& o)
      : loss(0),
        nll(loss + 1),
        kl(nll + (o.has_likelihood() ? o.rows : 0)),
        kl_per_dim(kl + (o.has_latent() ? o.rows : 0)),
        size(kl_per_dim + (o.has_kl_dims() ? elements_after_batch(o.latent[0]) : 0)) {}
};

// The gradient of input i of the op, whose samples have `cols` elements: a new tensor, which is added to `grads`; or,
// without `allocate`, the tensor that `grads` has already.
inline void gradient_in_order(const Objective& o, size_t i, int64_t cols, Tensors& grads, Allocate allocate, Sink& to) {
  const Tensor& t = i < o.params.size() ? o.params[i] : o.latent[i - o.params.size()];
  if (allocate) return grads.push_back(empty_in_order(t, cols, allocate, to));
  const size_t place = o.need.before(i);
  VK_CHECK(place < grads.size() && grads[place].dtype() == t.dtype() && grads[place].numel() == t.numel(),
           "the gradient of input ", i, " is missing, or is not of the type and size of the input");
  to = sink(grads[place], cols);
}

// A parameter of a likelihood.
struct ParameterOfRequest {
  Source in;  // null: the parameter was left out, and is the number 0
  Layout layout = Layout::number;
  bool wanted = false;   // whether its gradient is needed
  Sink grad;             // where the gradient of a full parameter goes
  void* sums = nullptr;  // where the gradient of another one goes: contiguous sums, of the compute type
};

// The likelihood term. For each gradient that is needed, a new tensor is added to `grads`.
struct LikelihoodTerm {
  int64_t cols;
  Source x;
  ElementWeights weights;
  ParameterOfRequest params[kMaxParameters];
  bool any_wanted = false, sums_over_rows = false;  // sums_over_rows: for a gradient per feature

  LikelihoodTerm(const Objective& o, Tensors& grads, Allocate allocate)
      : cols(elements_after_batch(*o.x)), x(source(*o.x)), weights(element_weights(o.weight, *o.x)) {
    const Tensor& like = o.params[0];
    VK_CHECK(dense_after_batch(like) && same_order(*o.x, 1, like), "recon and x are not dense in the same order");
    x.rows = weights.rows = rows_beside(*o.x, o.rows);
    VK_CHECK(o.params.size() <= kMaxParameters, "a likelihood has at most ", kMaxParameters, " parameters");
    for (size_t k = 0; k < o.params.size(); ++k) {
      const Tensor& t = o.params[k];
      ParameterOfRequest& p = params[k];
      p.in = source(t);
      p.layout = layout_of(t, like);
      p.wanted = o.need[k];
      const bool full = p.layout == Layout::full;
      if (p.layout == Layout::per_feature) p.in.stride = 0;
      VK_CHECK(p.layout == Layout::number || p.layout == Layout::per_sample || same_order(t, full, like), "parameter ",
               k, " is not in the order of recon");
      if (!p.wanted) continue;
      any_wanted = true;
      sums_over_rows |= p.layout == Layout::per_feature;
      if (full) {
        gradient_in_order(o, k, cols, grads, allocate, p.grad);
        continue;
      }
      VK_CHECK(allocate, "the gradient of parameter ", k, " is a sum, which is not corrected in place");
      grads.push_back(p.layout == Layout::per_sample ? empty_contiguous(t.sizes(), t.dim(), o.dtype, like)
                                                     : empty(t.sizes(), t.strides(), t.dim(), o.dtype, like));
      p.sums = grads.back().mut<void>();
    }
  }
};

// The latent term: of mu, logvar and the prior, or of a KL that is given. For each gradient that is needed, a new
// tensor is added to `new_grads`, or `new_grads` has them already.
struct LatentTerm {
  int64_t cols;
  Source inputs[4];  // mu, logvar, prior_mu, prior_logvar, the prior null for N(0, I); or the KL
  Sink grads[4];
  ElementWeights weights;

  LatentTerm(const Objective& o, Tensors& new_grads, Allocate allocate)
      : cols(elements_after_batch(o.latent[0])), weights(element_weights(o.latent_weight, o.latent[0])) {
    VK_CHECK(!o.kl_is_given() || !weights.data, "a KL that is given takes no latent_weight");
    VK_CHECK(!o.beta_by_dim() || o.beta->numel() == cols, "beta has ", o.beta->numel(), " values for ", cols,
             " latents");
    for (size_t k = 0; k < o.latent.size(); ++k) {
      const Tensor& t = o.latent[k];
      VK_CHECK(dense_after_batch(t) && same_order(t, 1, o.latent[0]), "latent ", k, " is not in order");
      inputs[k] = source(t);
      const size_t input = o.params.size() + k;
      if (o.need[input]) gradient_in_order(o, input, cols, new_grads, allocate, grads[k]);
    }
  }
};

// log_total of a row. If the gradient of log_total is needed, a new tensor is added to `grads`.
struct RowTerm {
  Source log_total;              // [rows]; null: the likelihood takes the total from x
  void* of_log_total = nullptr;  // where its gradient goes: [rows] of the compute type

  RowTerm(const Objective& o, Tensors& grads) {
    if (!o.log_total) return;
    const Tensor& t = *o.log_total;
    VK_CHECK(t.dim() == o.like.dim() && t.numel() == o.rows, "log_total has ", t.numel(), " values for ", o.rows,
             " samples");
    log_total = source(t);
    if (!o.need[o.params.size() + o.latent.size()]) return;
    grads.push_back(empty_contiguous(t.sizes(), t.dim(), o.dtype, o.like));
    of_log_total = grads.back().mut<void>();
  }
};

// ---------------------------------------------------------------- the sample

// Samples of the posterior: `Draw` in vae_kernels/core/objective.py.
struct Draw {
  const Tensor &mu, &logvar;
  const Tensors& prior;
  const OptionalTensor& latent_weight;  // of the KL
  const Tensor& rng;
  int64_t n_samples;  // 0: one sample, without a dimension of its own

  int64_t rows = mu.size(0), cols = elements_after_batch(mu), draws = n_samples ? n_samples : 1;
  bool float64 = is_float64(mu) || is_float64(logvar) || any_float64(prior);
  bool shard = rng.numel() == 4;

  size_t inputs() const { return 2 + prior.size(); }
  const Tensor& input(size_t k) const { return k == 0 ? mu : k == 1 ? logvar : prior[k - 2]; }
  // seed, offset, and of a shard: the first row, and the rows of a draw
  const int64_t* words() const {
    VK_CHECK(rng.contiguous(), "rng is not contiguous");
    return rng.data<int64_t>();
  }
  Source source_of(size_t k) const {
    VK_CHECK(dense_after_batch(input(k)), "latent ", k, " is not dense");
    return source(input(k));
  }
  // The gradients that are needed; packed: those of mu and logvar are the halves of one tensor.
  Tensors gradients(Need need, bool packed, Allocate allocate, Sink (&to)[4]) const {
    Tensors grads;
    if (packed) grads.push_back(empty_packed(mu, to[0], to[1]));
    for (size_t k = packed ? 2 : 0; k < inputs(); ++k)
      if (need[k]) grads.push_back(empty_in_order(input(k), cols, allocate, to[k]));
    return grads;
  }
};

// ---------------------------------------------------------------- a likelihood of the position kind

// x [B, ...] and logits [B, K, ...]: each sample is dense, its levels (K) outermost or innermost.
struct PositionRequest {
  const char* likelihood;
  const Tensor &x, &logits;
  ElementWeights weights;      // of the positions
  int64_t rows, cols, levels;  // cols: positions of a sample
  bool inner, float64;         // inner: the levels of a position lie side by side, else `cols` apart

  PositionRequest(const char* likelihood, const Tensor& x, const Tensor& logits, const OptionalTensor& weight)
      : likelihood(likelihood),
        x(x),
        logits(logits),
        weights(element_weights(weight, x)),
        rows(logits.size(0)),
        cols(elements_after_batch(x)),
        levels(logits.size(1)),
        inner(levels * logits.size(0) >= logits.numel() || (levels > 1 && logits.stride(1) == 1)),
        float64(is_float64(logits)) {
    weights.rows = rows_beside(x, rows);
    bool same = levels == 1 || cols <= 1 || logits.stride(1) == (inner ? 1 : cols);
    for (int64_t i = 1; i < x.dim(); ++i)
      same &= x.size(i) == logits.size(i + 1) &&
              (x.size(i) <= 1 || logits.stride(i + 1) == x.stride(i) * (inner ? levels : 1));
    VK_CHECK(logits.numel() == 0 || (same && dense_after_batch(logits)),
             "logits and x are not positions in the same order, dense");
  }
  Source levels_of_x() const {
    Source s = source(x);
    s.rows = weights.rows;
    return s;
  }
  // What the forward pass keeps for the backward pass, [2, rows, cols]: the largest logit of each position, and the
  // sum of e^(logit - largest)
  Tensor empty_top_and_total() const { return empty({2, rows, cols}, torch_dtype(float64), logits); }
  void* top(const Tensor& kept) const { return kept.mut<void>(); }
  void* total(const Tensor& kept) const { return kept.mut<char>() + rows * cols * (float64 ? 8 : 4); }
};

}  // namespace vk
