// The request for a likelihood of the pixel kind: the C channels of a pixel are one term.
#pragma once
#include "request.h"

namespace vk {

// x [B, C, ...] and packed [B, P, ...], P numbers for each pixel: each sample is dense, the numbers of a pixel
// outermost or innermost in both.
struct PixelRequest {
  const char* likelihood;
  const Tensor &x, &packed;
  const std::vector<double>& options;
  ElementWeights weights;                 // of the pixels
  int64_t rows, channels, numbers, cols;  // numbers: P; cols: pixels of a sample
  bool inner, float64;                    // inner: the numbers of a pixel lie side by side, else `cols` apart

  PixelRequest(const char* likelihood, const Tensor& x, const Tensor& packed, const OptionalTensor& weight,
               const std::vector<double>& options)
      : likelihood(likelihood),
        x(x),
        packed(packed),
        options(options),
        rows(packed.size(0)),
        channels(x.size(1)),
        numbers(packed.size(1)),
        cols(pixels_of(x)),
        inner(cols > 1 && packed.stride(1) == 1),
        float64(is_float64(packed)) {
    VK_CHECK(packed.numel() == 0 || (in_order(packed) && in_order(x)),
             "packed and x are no pixels in the same order, dense");
    if (weight) weights = weights_of(*weight);
    weights.rows = rows_beside(x, rows);
  }

  Source channels_of_x() const {
    Source s = source(x);
    s.rows = weights.rows;
    return s;
  }
  // The terms, [B, 1, ...], one after another in the order of the pixels
  Tensor empty_terms() const {
    std::vector<int64_t> sizes(x.sizes(), x.sizes() + x.dim()), strides = strides_of(1);
    sizes[1] = 1;
    return empty(sizes.data(), strides.data(), x.dim(), torch_dtype(float64), packed);
  }

 private:
  static int64_t pixels_of(const Tensor& t) {
    int64_t n = 1;
    for (int64_t i = 2; i < t.dim(); ++i) n *= t.size(i);
    return n;
  }
  // of a tensor with n numbers for each pixel, in the order of packed
  std::vector<int64_t> strides_of(int64_t n) const {
    std::vector<int64_t> out(packed.strides(), packed.strides() + packed.dim());
    out[0] = n * cols;
    out[1] = inner || cols == 0 ? 1 : cols;
    for (int64_t i = 2; inner && i < packed.dim(); ++i) out[i] = out[i] / numbers * n;
    return out;
  }
  bool in_order(const Tensor& t) const {
    const std::vector<int64_t> wanted = strides_of(t.size(1));
    bool same = t.dim() == packed.dim() && dense_after_batch(t);
    for (int64_t i = 1; same && i < t.dim(); ++i)
      same = (i == 1 || t.size(i) == packed.size(i)) && (t.size(i) == 1 || t.stride(i) == wanted[i]);
    return same;
  }
  ElementWeights weights_of(const Tensor& w) const {
    const int64_t dims = x.dim(), own = w.dim(), first = dims - own;
    int64_t n = 1;
    for (int64_t i = first > 1 ? 0 : 1 - first; i < own; ++i) n *= w.size(i);
    const bool by_row = own == dims, by_col = own && cols > 1 && n == cols;
    const std::vector<int64_t> wanted = strides_of(1);
    for (int64_t i = 2 - first; by_col && own && i < own; ++i)
      VK_CHECK(w.size(i) == 1 || w.stride(i) == wanted[i + first], "a weight is not in the order of its pixels");
    const DType dtype = dtype_of(w);
    VK_CHECK(dtype == DType::boolean || dtype <= DType::float16, "a weight is neither bool nor floating");
    VK_CHECK(by_col || n == 1 || cols == 0, "a weight has ", n, " numbers for ", cols, " pixels");
    return {w.data<void>(), by_row ? w.stride(0) : 0, by_col, dtype};
  }
};

}  // namespace vk
