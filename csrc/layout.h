// How a tensor lies in memory: what the kernels read of a tensor, and the tensors that the kernels write. The same for
// every device. vae_kernels/core/layout.py brings the arguments of a call into the layouts that are expected here.
#pragma once
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "matrix.h"
#include "torch_abi.h"

namespace vk {

using Tensors = std::vector<Tensor>;
using OptionalTensor = std::optional<Tensor>;

// ---------------------------------------------------------------- types

inline DType dtype_of(const Tensor& t) {
  static const int32_t codes[] = {aoti_torch_dtype_float32(), aoti_torch_dtype_float64(), aoti_torch_dtype_bfloat16(),
                                  aoti_torch_dtype_float16(), aoti_torch_dtype_uint8(),   aoti_torch_dtype_int16(),
                                  aoti_torch_dtype_int32(),   aoti_torch_dtype_int64(),   aoti_torch_dtype_bool()};
  const int32_t code = t.dtype();
  for (int i = 0; i < int(std::size(codes)); ++i)
    if (codes[i] == code) return DType(i);
  fail("a tensor of dtype code ", code, " came, which no kernel knows");
}

inline int64_t bytes_of(DType t) {
  const bool eight = t == DType::float64 || t == DType::int64, four = t == DType::float32 || t == DType::int32;
  return t == DType::uint8 || t == DType::boolean ? 1 : eight ? 8 : four ? 4 : 2;
}

inline int32_t torch_dtype(bool float64) { return float64 ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32(); }

inline bool is_float64(const Tensor& t) { return dtype_of(t) == DType::float64; }
inline bool any_float64(const Tensors& tensors) {
  for (const Tensor& t : tensors)
    if (is_float64(t)) return true;
  return false;
}

// ---------------------------------------------------------------- order

inline int64_t elements_after_batch(const Tensor& t) {
  int64_t n = 1;
  for (int64_t i = 1; i < t.dim(); ++i) n *= t.size(i);
  return n;
}

// Each sample fills one gapless run of memory, in any order of its dimensions.
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

// The dimensions of `t` from `first` on have the sizes and strides of the dimensions of `like` from 1 on.
inline bool same_order(const Tensor& t, int64_t first, const Tensor& like) {
  if (t.numel() == 0 || like.numel() == 0) return true;  // strides that lead to nothing: numpy gives 0 for all
  for (int64_t i = 1; i < like.dim(); ++i)
    if (t.size(i - 1 + first) != like.size(i) || (like.size(i) > 1 && t.stride(i - 1 + first) != like.stride(i)))
      return false;
  return true;
}

// ---------------------------------------------------------------- matrices of tensors

inline Source source(const Tensor& t) { return {t.data<void>(), t.dim() ? t.stride(0) : 0, dtype_of(t)}; }
inline Sink sink(const Tensor& t, int64_t cols) { return {t.mut<void>(), cols, dtype_of(t)}; }

// ---------------------------------------------------------------- new tensors

// Makes a tensor without values: empty() on a GPU, empty_pooled() on the CPU. `bytes` is its size.
using Allocate = Tensor (*)(const int64_t* sizes, const int64_t* strides, int64_t dim, int32_t dtype, int64_t bytes,
                            const Tensor& like);

// In the order of `t`, the samples one after another.
inline Tensor empty_in_order(const Tensor& t, int64_t cols, DType type, int32_t dtype, Allocate allocate, Sink& to) {
  std::vector<int64_t> strides(t.strides(), t.strides() + t.dim());
  if (t.dim()) strides[0] = cols;
  Tensor out = allocate(t.sizes(), strides.data(), t.dim(), dtype, t.numel() * bytes_of(type), t);
  to = sink(out, cols);
  return out;
}
inline Tensor empty_in_order(const Tensor& t, int64_t cols, Allocate allocate, Sink& to) {
  return empty_in_order(t, cols, dtype_of(t), t.dtype(), allocate, to);
}

// All contiguous.
inline Tensor empty_contiguous(const int64_t* sizes, int64_t dim, int32_t dtype, const Tensor& like) {
  std::vector<int64_t> strides(dim);
  int64_t stride = 1;
  for (int64_t i = dim; i-- > 0; stride *= sizes[i] > 0 ? sizes[i] : 1) strides[i] = stride;
  return empty(sizes, strides.data(), dim, dtype, like);
}

// z: [B, ...] as mu, or [n_samples, B, ...]; the samples one after another, each in the order of mu.
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

// The gradient of a tensor whose halves along dimension 1 are mu and logvar: contiguous; the kernels write the halves.
inline Tensor empty_packed(const Tensor& mu, Sink& of_mu, Sink& of_logvar) {
  std::vector<int64_t> sizes(mu.sizes(), mu.sizes() + mu.dim()), strides(mu.strides(), mu.strides() + mu.dim());
  const int64_t cols = elements_after_batch(mu);
  sizes[1] *= 2;
  strides[0] = 2 * cols;
  Tensor out = empty(sizes.data(), strides.data(), mu.dim(), mu.dtype(), mu);
  of_mu = sink(out, 2 * cols);
  of_logvar = of_mu;
  of_logvar.data = out.mut<char>() + cols * bytes_of(of_mu.dtype);
  return out;
}

}  // namespace vk
