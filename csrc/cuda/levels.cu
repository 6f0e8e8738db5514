// The launches of the likelihood over levels.
#include "levels.h"

namespace vk::cuda {

Launched levels_kernel(const LevelsJob& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<Levels<double>>(job, blocks, stream) : launch<Levels<float>>(job, blocks, stream);
}

Launched levels_backward_kernel(const LevelsJob& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<LevelsBackward<double>>(job, blocks, stream)
                 : launch<LevelsBackward<float>>(job, blocks, stream);
}

Launched rows_sum_kernel(const RowsJob& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<RowsSum<double>>(job, blocks, stream) : launch<RowsSum<float>>(job, blocks, stream);
}

}  // namespace vk::cuda
