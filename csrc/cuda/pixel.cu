// The kernels of a formula of the pixel kind. Compiled once for each (VK_PIXEL); the maths is in formulas/<name>.h.
#include "per_formula.h"
#include VK_HEADER(VK_PIXEL)

#include "pixel.h"

namespace vk::cuda {

template <int C>
static Launched of_channels(const PixelJob& job, bool float64, int64_t blocks, void* stream) {
  using F = VK_PIXEL;
  if (float64) return launch<Pixel<F, double, C, false>>(job, blocks, stream);
  return job.packed.dtype == DType::float32 ? launch<Pixel<F, float, C, true>>(job, blocks, stream)
                                            : launch<Pixel<F, float, C, false>>(job, blocks, stream);
}

Launched VK_SYMBOL(pixel_kernel_, VK_PIXEL)(const PixelJob& job, bool float64, int64_t blocks, void* stream) {
  return job.channels == 1 ? of_channels<1>(job, float64, blocks, stream)
                           : of_channels<3>(job, float64, blocks, stream);
}

}  // namespace vk::cuda
