// What the ops of the mixture and of the decomposition share: whether Gaussians need the loops of float64, and the
// tensors in that type.
#pragma once
#include <algorithm>

#include "formulas/mixture.h"
#include "tensors.h"

namespace vk {

// The smallest and the largest number, and 0
struct Range {
  double low, high;
};
inline Range range(const Tensor& t) {
  float low = 0, high = 0;
  const float* p = t.data<float>();
  const int64_t n = t.numel();
#pragma omp simd reduction(min : low) reduction(max : high)
  for (int64_t i = 0; i < n; ++i) {
    low = p[i] < low ? p[i] : low;
    high = p[i] > high ? p[i] : high;
  }
  return {low, high};
}

inline bool beyond_float(const Tensor& z, const Tensor& loc, const Tensor& logvar) {
  const Range of_z = range(z), of_loc = range(loc), of_logvar = range(logvar);
  const double farthest = std::max(of_z.high - of_loc.low, of_loc.high - of_z.low);
  return gaussian_mixture::beyond_float(farthest, of_logvar.low, of_logvar.high);
}

template <class To, class From>
Tensor convert(const Tensor& t, bool float64) {
  Tensor out = empty_like(t, torch_dtype(float64));
  std::copy_n(t.data<From>(), t.numel(), out.mut<To>());
  return out;
}

}  // namespace vk
