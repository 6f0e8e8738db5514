// The kernel of a table of columns.
#include "segments.h"

namespace vk::cuda {

Launched segments_kernel(const SegmentsJob& job, bool float64, int64_t blocks, void* stream) {
  return float64 ? launch<Segments<double>>(job, blocks, stream) : launch<Segments<float>>(job, blocks, stream);
}

}  // namespace vk::cuda
