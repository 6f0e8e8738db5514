// The kernel of the row kind that no formula has a part in: what is left of the gradients.
#include "row.h"

namespace vk::cuda {

Launched row_gradients_kernel(const RowGradientsJob& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<RowGradients<double>>(job, blocks, stream)
                 : launch<RowGradients<float>>(job, blocks, stream);
}

}  // namespace vk::cuda
