// The objective on the CPU: loss_b = rec_weight * nll_b + sum_d beta_d * kl_bd, its terms and its gradients. request.h
// says what is asked for; the arguments were checked in vae_kernels/functional.py.
#include <algorithm>
#include <limits>

#include "evaluation.h"
#include "ops.h"

namespace vk {

Tensors elbo(const Objective& o, bool terms, double expected) {
  const bool each = o.reduction == Reduction::none;
  // the incoming gradient of a loss has the type of the loss
  const double scale = o.scale() * (each && !o.float64 ? double(float(expected)) : expected);
  Tensors out;
  out.push_back(empty_contiguous(&o.rows, each ? 1 : 0, o.dtype, o.like));
  const Tensor& loss = out[0];
  Evaluation e(o, {&scale, 0, 1}, true, each || terms, terms && o.has_kl_dims(),
               each && !terms ? loss.mut<void>() : nullptr);
  const double total = each && !terms ? 0 : e.total() / o.divisor();
  if (!each)
    copy_to(loss.mut<void>(), o.float64, std::vector<double>{total});
  else if (!e.losses)
    o.float64 ? e.write_losses(loss.mut<double>()) : e.write_losses(loss.mut<float>());
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
  const bool each = grad.dim() > 0;
  const std::vector<double> incoming = doubles(grad);
  return std::move(Evaluation(o, {incoming.data(), each, o.scale()}, false, each, false).grads);
}

double one_number(const Tensor& t) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto same = [&](const auto* values) {
    const auto first = values[0];
    const int64_t n = t.numel(), stride = t.dim() ? t.stride(0) : 0;
    int others = 0;  // found without a branch: nearly always there are none
    if (stride == 1)
      for (int64_t i = 1; i < n; ++i) others |= values[i] != first;
    else if (stride)
      for (int64_t i = 1; i < n; ++i) others |= values[i * stride] != first;
    return others ? nan : double(first);
  };
  if (t.numel() == 0) return nan;
  return is_float64(t) ? same(t.data<double>()) : same(t.data<float>());
}

}  // namespace vk
