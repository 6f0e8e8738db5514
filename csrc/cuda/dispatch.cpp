// Finds the kernels of a likelihood by its name.
#include "formulas/all.h"
#include "plan.h"

namespace vk::cuda {

#define VK_DECLARE(name) LikelihoodLaunch elbo_kernel_##name;
#define VK_ROW(name) {#name, elbo_kernel_##name},
VK_LIKELIHOODS(VK_DECLARE)

LikelihoodLaunch* likelihood_launch(const std::string& name) {
  static constexpr Named<LikelihoodLaunch*> table[] = {VK_LIKELIHOODS(VK_ROW)};
  return of_likelihood(table, name.c_str());
}

}  // namespace vk::cuda
