// The kernels of a formula of the position kind. Compiled once for each (VK_POSITION); the maths is in
// formulas/<name>.h.
// clang-format off: a path is not a division
#define VK_TEXT(x) #x
#define VK_HEADER(name) VK_TEXT(formulas/name.h)
// clang-format on
#include VK_HEADER(VK_POSITION)

#include "position.h"

namespace vk::cuda {

#define VK_JOIN(a, b) a##b
#define VK_NAME(name) VK_JOIN(position_kernel_, name)
Launched VK_NAME(VK_POSITION)(const PositionJob& job, bool backward, bool float64, int64_t blocks, void* stream) {
  using F = VK_POSITION;
  if (backward)
    return float64 ? launch<PositionBackward<F, double>>(job, blocks, stream)
                   : launch<PositionBackward<F, float>>(job, blocks, stream);
  return float64 ? launch<Position<F, double>>(job, blocks, stream) : launch<Position<F, float>>(job, blocks, stream);
}
#undef VK_NAME
#undef VK_JOIN

}  // namespace vk::cuda
