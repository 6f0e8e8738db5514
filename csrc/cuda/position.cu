// The kernels of a formula of the position kind. Compiled once for each (VK_POSITION); the maths is in
// formulas/<name>.h.
#include "per_formula.h"
#include VK_HEADER(VK_POSITION)

#include "position.h"

namespace vk::cuda {

Launched VK_SYMBOL(position_kernel_, VK_POSITION)(const PositionJob& job, bool backward, bool float64, int64_t blocks,
                                                  void* stream) {
  using F = VK_POSITION;
  if (backward)
    return float64 ? launch<PositionBackward<F, double>>(job, blocks, stream)
                   : launch<PositionBackward<F, float>>(job, blocks, stream);
  return float64 ? launch<Position<F, double>>(job, blocks, stream) : launch<Position<F, float>>(job, blocks, stream);
}

}  // namespace vk::cuda
