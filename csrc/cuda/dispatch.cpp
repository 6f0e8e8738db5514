// Finds the kernels of a formula by its name.
#include "formulas/all.h"
#include "plan.h"

namespace vk::cuda {

#define VK_DECLARE(name)               \
  LikelihoodLaunch elbo_kernel_##name; \
  LogProbLaunch log_prob_kernel_##name;
#define VK_ROW(name) {#name, elbo_kernel_##name},
#define VK_LOG_PROB_ROW(name) {#name, log_prob_kernel_##name},
VK_LIKELIHOODS(VK_DECLARE)
#define VK_DECLARE_POSITION(name) PositionLaunch position_kernel_##name;
#define VK_POSITION_ROW(name) {#name, position_kernel_##name},
VK_POSITIONS(VK_DECLARE_POSITION)

LikelihoodLaunch* likelihood_launch(const std::string& name) {
  static constexpr Named<LikelihoodLaunch*> table[] = {VK_LIKELIHOODS(VK_ROW)};
  return of_likelihood(table, name.c_str());
}

LogProbLaunch* log_prob_launch(const std::string& name) {
  static constexpr Named<LogProbLaunch*> table[] = {VK_LIKELIHOODS(VK_LOG_PROB_ROW)};
  return of_likelihood(table, name.c_str());
}

PositionLaunch* position_launch(const char* name) {
  static constexpr Named<PositionLaunch*> table[] = {VK_POSITIONS(VK_POSITION_ROW)};
  return of_likelihood(table, name);
}

}  // namespace vk::cuda
