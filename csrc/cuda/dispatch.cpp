// Finds the kernels of a formula by its name.
#include "formulas/all.h"
#include "plan.h"

namespace vk::cuda {

#define VK_DECLARE(name)                \
  LikelihoodLaunch elbo_kernel_##name;  \
  LogProbLaunch log_prob_kernel_##name; \
  RowFormula row_formula_##name();
#define VK_ELBO(name) {#name, elbo_kernel_##name},
#define VK_LOG_PROB(name) {#name, log_prob_kernel_##name},
#define VK_ROW(name) {#name, row_formula_##name},
// a row is made of the element's kernels
#define VK_ELBO_OF_ROW(name, element) {#name, elbo_kernel_##element},
#define VK_ROW_OF_ROW(name, element) {#name, row_formula_##element},
VK_LIKELIHOODS(VK_DECLARE)
#define VK_DECLARE_POSITION(name) PositionLaunch position_kernel_##name;
#define VK_POSITION_ROW(name) {#name, position_kernel_##name},
VK_POSITIONS(VK_DECLARE_POSITION)
#define VK_DECLARE_PIXEL(name) PixelLaunch pixel_kernel_##name;
#define VK_PIXEL_ROW(name) {#name, pixel_kernel_##name},
VK_PIXELS(VK_DECLARE_PIXEL)

LikelihoodLaunch* likelihood_launch(const std::string& name) {
  static constexpr Named<LikelihoodLaunch*> table[] = {VK_LIKELIHOODS(VK_ELBO) VK_ROWS(VK_ELBO_OF_ROW)};
  return of_likelihood(table, name.c_str());
}

LogProbLaunch* log_prob_launch(const std::string& name) {
  static constexpr Named<LogProbLaunch*> table[] = {VK_LIKELIHOODS(VK_LOG_PROB)};
  return of_likelihood(table, name.c_str());
}

RowFormula row_formula(const std::string& name) {
  static constexpr Named<RowFormula (*)()> table[] = {VK_LIKELIHOODS(VK_ROW) VK_ROWS(VK_ROW_OF_ROW)};
  const RowFormula formula = of_likelihood(table, name.c_str())();
  VK_CHECK(formula.launch, "likelihood \"", name, "\" takes no log_total");
  return formula;
}

PositionLaunch* position_launch(const char* name) {
  static constexpr Named<PositionLaunch*> table[] = {VK_POSITIONS(VK_POSITION_ROW)};
  return of_likelihood(table, name);
}

PixelLaunch* pixel_launch(const char* name) {
  static constexpr Named<PixelLaunch*> table[] = {VK_PIXELS(VK_PIXEL_ROW)};
  return of_likelihood(table, name);
}

}  // namespace vk::cuda
