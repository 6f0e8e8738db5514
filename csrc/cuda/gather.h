// V elements of a row that lie `lanes` apart: read and written one by one, so that any alignment will do.
#pragma once
#include "vector.h"

namespace vk::cuda {

template <class S, class I, class T, int V, class Convert>
VK_GPU void gather_as(const char* p, I lanes, I n, T (&out)[V], Convert convert) {
#pragma unroll
  for (int j = 0; j < V; ++j) out[j] = j * lanes < n ? convert(load<S>(p + j * lanes * int(sizeof(S)))) : T(0);
}

template <Ints INTS, class I, class T, int V>
VK_GPU void gather_integers(const char* p, DType type, I lanes, I n, T (&out)[V]) {
  if (INTS == Ints::mask || type == DType::boolean)
    return gather_as<uint8_t>(p, lanes, n, out, [](uint8_t v) { return T(v); });
  switch (type) {
    case DType::int16:
      return gather_as<uint16_t>(p, lanes, n, out, [](uint16_t v) { return T(int16_t(v)); });
    case DType::int32:
      return gather_as<uint32_t>(p, lanes, n, out, [](uint32_t v) { return T(int32_t(v)); });
    case DType::int64:
      return gather_as<int64_t>(p, lanes, n, out, [](int64_t v) { return T(v); });
    default:
      return gather_as<uint8_t>(p, lanes, n, out, [](uint8_t v) { return byte_value<INTS, T>(v); });
  }
}

// Elements first, first + lanes, ...; those not before first + n are 0. I: an integer that holds n.
template <class T, Ints INTS = Ints::none, class I, int V>
VK_GPU void gather(const void* data, int64_t first, DType type, I lanes, I n, T (&out)[V]) {
  const char* p = static_cast<const char*>(data) + first * size_of(type);
  switch (type) {
    case DType::float32:
      return gather_as<float>(p, lanes, n, out, [](float v) { return T(v); });
    case DType::float64:
      return gather_as<double>(p, lanes, n, out, [](double v) { return T(v); });
    case DType::bfloat16:
      return gather_as<uint16_t>(p, lanes, n, out, [](uint16_t v) { return T(bits_to_float(uint32_t(v) << 16)); });
    case DType::float16:
      return gather_as<uint16_t>(p, lanes, n, out, [](uint16_t v) { return T(half_to_float(v)); });
    default:
      if constexpr (INTS != Ints::none) gather_integers<INTS>(p, type, lanes, n, out);
  }
}

// The weight of the element (row, col): 1 where there are no weights.
template <class T>
VK_GPU T weight_at(const ElementWeights& w, int64_t row, int64_t col) {
  if (!w.data) return 1;
  const int64_t element = row_of<RowNumber>(row, w.rows) * w.row_stride + col * w.col_stride;
  return load_one<T, Ints::mask>(static_cast<const char*>(w.data) + element * size_of(w.dtype), w.dtype);
}

template <class T, class I, int V>
VK_GPU void scatter(void* data, int64_t first, DType type, I lanes, I n, const T (&v)[V]) {
  char* p = static_cast<char*>(data) + first * size_of(type);
#pragma unroll
  for (int j = 0; j < V; ++j)
    if (j * lanes < n) store_one(p + j * lanes * size_of(type), type, v[j]);
}

}  // namespace vk::cuda
