// The kernels of one likelihood. Compiled once per likelihood (VK_LIKELIHOOD); the maths is in formulas/<name>.h.
// clang-format off: a path is not a division
#define VK_TEXT(x) #x
#define VK_HEADER(name) VK_TEXT(formulas/name.h)
// clang-format on
#include VK_HEADER(VK_LIKELIHOOD)

#include "elbo.h"
#include "likelihood.h"

namespace vk::cuda {

#define VK_JOIN(a, b) a##b
#define VK_NAME(name) VK_JOIN(elbo_kernel_, name)
Launched VK_NAME(VK_LIKELIHOOD)(const ElboJob<LikelihoodJob>& job, Variant variant, bool float64, int64_t blocks,
                                void* stream) {
  using F = VK_LIKELIHOOD;
  if (float64) return launch<Elbo<LikelihoodColumns<F, double>, double>>(job, blocks, stream);
  if constexpr (F::parameters > 1)
    if (variant == Variant::columns) return launch<Elbo<LikelihoodColumns<F, float>, float>>(job, blocks, stream);
  if constexpr (is_counts<F>)  // so long a formula that how its arguments are stored is nothing beside it
    return launch<Elbo<Likelihood<F, float, 4, false>, float>>(job, blocks, stream);
  else
    return variant == Variant::float32 ? launch<Elbo<Likelihood<F, float, 4, true>, float>>(job, blocks, stream)
                                       : launch<Elbo<Likelihood<F, float, 8, false>, float>>(job, blocks, stream);
}
#undef VK_NAME
#undef VK_JOIN

}  // namespace vk::cuda
