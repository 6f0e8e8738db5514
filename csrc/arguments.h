// Between torch's tensors and the kernels' matrices, on every device.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "matrix.h"
#include "torch_abi.h"

namespace vk {

using Tensors = std::vector<Tensor>;
using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kNone = 0, kMean = 1, kSum = 2;  // reduction

inline DType dtype_of(const Tensor& t) {
  static const int32_t codes[] = {aoti_torch_dtype_float32(), aoti_torch_dtype_float64(), aoti_torch_dtype_bfloat16(),
                                  aoti_torch_dtype_float16(), aoti_torch_dtype_uint8(),   aoti_torch_dtype_int16(),
                                  aoti_torch_dtype_int32(),   aoti_torch_dtype_int64()};
  const int32_t code = t.dtype();
  for (int i = 0; i < 8; ++i)
    if (codes[i] == code) return DType(i);
  fail("a tensor of dtype code ", code, " came, which no kernel knows");
}

inline int64_t bytes_of(DType t) {
  const bool eight = t == DType::float64 || t == DType::int64, four = t == DType::float32 || t == DType::int32;
  return t == DType::uint8 ? 1 : eight ? 8 : four ? 4 : 2;
}

inline int32_t torch_dtype(bool float64) { return float64 ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32(); }

inline int64_t elements_after_batch(const Tensor& t) {
  int64_t n = 1;
  for (int64_t i = 1; i < t.dim(); ++i) n *= t.size(i);
  return n;
}

// Each sample fills one gapless run of memory, in whatever order of its dimensions.
inline bool dense_after_batch(const Tensor& t) {
  const int64_t dims = t.dim(), cols = elements_after_batch(t);
  int64_t filled = 1;
  while (filled < cols && t.numel() > 0) {  // find the dimension that continues the run
    int64_t next = 0;
    for (int64_t i = 1; i < dims; ++i)
      if (t.size(i) > 1 && t.stride(i) == filled) next = t.size(i);
    if (!next) return false;
    filled *= next;
  }
  return true;
}

// `t` without its first dimension has the order of `like` without its first dimensions
inline bool same_order(const Tensor& t, int64_t first, const Tensor& like) {
  if (t.numel() == 0 || like.numel() == 0) return true;  // strides that lead to nothing: numpy gives 0 for all
  for (int64_t i = 1; i < like.dim(); ++i)
    if (t.size(i - 1 + first) != like.size(i) || (like.size(i) > 1 && t.stride(i - 1 + first) != like.stride(i)))
      return false;
  return true;
}

// logits [B, K, ...] over levels, and x [B, ...]: each sample is dense, its levels outermost, or innermost
inline bool levels_innermost(const Tensor& logits) {
  const int64_t levels = logits.size(1);
  return levels * logits.size(0) >= logits.numel() || (levels > 1 && logits.stride(1) == 1);
}
inline void check_levels(const Tensor& x, const Tensor& logits) {
  const bool inner = levels_innermost(logits);
  const int64_t levels = logits.size(1), positions = elements_after_batch(x);
  bool same = levels == 1 || positions <= 1 || logits.stride(1) == (inner ? 1 : positions);
  for (int64_t i = 1; i < x.dim(); ++i)
    same &= x.size(i) <= 1 || logits.stride(i + 1) == x.stride(i) * (inner ? levels : 1);
  const bool empty = logits.numel() == 0;
  VK_CHECK(empty || (same && dense_after_batch(logits)), "logits and x are not dense in the same order");
}

inline void check_mixture(const Tensor* const (&inputs)[4]) {
  for (const Tensor* t : inputs)
    VK_CHECK(t->contiguous() && t->dtype() == inputs[0]->dtype(),
             "the tensors of a mixture are not contiguous, or not of one dtype");
}

inline Source source(const Tensor& t) { return {t.data<void>(), t.dim() ? t.stride(0) : 0, dtype_of(t)}; }

inline bool any_float64(const Tensors& tensors) {
  for (const Tensor& t : tensors)
    if (dtype_of(t) == DType::float64) return true;
  return false;
}

inline bool computed_in_float64(const Tensor& mu, const Tensor& logvar, const Tensors& prior) {
  return dtype_of(mu) == DType::float64 || dtype_of(logvar) == DType::float64 || any_float64(prior);
}

// A new z: [B, ...] as mu, or [n_samples, B, ...], its samples one after another in the order of mu.
inline Tensor empty_samples(const Tensor& mu, int64_t n_samples) {
  const int64_t cols = elements_after_batch(mu);
  std::vector<int64_t> sizes(mu.sizes(), mu.sizes() + mu.dim()), strides(mu.strides(), mu.strides() + mu.dim());
  strides[0] = cols;
  if (n_samples) {
    sizes.insert(sizes.begin(), n_samples);
    strides.insert(strides.begin(), mu.size(0) * cols);
  }
  return empty(sizes.data(), strides.data(), int64_t(sizes.size()), mu.dtype(), mu);
}

// The gradient of a tensor whose halves along dimension 1 are mu and logvar: new, contiguous, and written by halves.
inline Tensor empty_packed(const Tensor& mu, Sink& of_mu, Sink& of_logvar) {
  std::vector<int64_t> sizes(mu.sizes(), mu.sizes() + mu.dim()), strides(mu.strides(), mu.strides() + mu.dim());
  const int64_t cols = elements_after_batch(mu);
  sizes[1] *= 2;
  strides[0] = 2 * cols;
  Tensor out = empty(sizes.data(), strides.data(), mu.dim(), mu.dtype(), mu);
  of_mu = {out.mut<void>(), 2 * cols, dtype_of(mu)};
  of_logvar = {out.mut<char>() + cols * bytes_of(dtype_of(mu)), 2 * cols, dtype_of(mu)};
  return out;
}

inline int likelihood_index(const std::string& name) {
  static const char* const names[] = {
#define VK_NAME(name) #name,
      VK_LIKELIHOODS(VK_NAME)
#undef VK_NAME
  };
  for (int i = 0; i < kLikelihoods; ++i)
    if (name == names[i]) return i;
  fail("likelihood \"", name, "\" has no C++ formula");
}

}  // namespace vk
