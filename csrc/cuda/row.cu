// The kernels of the row kind that no formula has a part in.
#include "row.h"

#include "row_gradients.h"

namespace vk::cuda {

Launched row_statistics_kernel(const RowJob& job, bool float64, int64_t blocks, void* stream) {
  return launch_row_statistics<void>(job, float64, blocks, stream);
}

Launched row_gradients_kernel(const RowGradientsJob& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<RowGradients<double>>(job, blocks, stream) : launch<RowGradients<float>>(job, blocks, stream);
}

}  // namespace vk::cuda
