// V elements at once: read and written with 16-byte instructions where their address allows it, else one by one.
// Fetched as they are stored and converted later, so that several arrays can be on their way at the same time.
#pragma once
#include "matrix.h"
#include "words.h"

namespace vk::cuda {

VK_GPU int size_of(DType t) {
  const bool one = t == DType::uint8 || t == DType::boolean, eight = t == DType::float64 || t == DType::int64;
  return one ? 1 : eight ? 8 : t == DType::float32 || t == DType::int32 ? 4 : 2;
}
template <class T>
constexpr DType dtype_of = sizeof(T) == 4 ? DType::float32 : DType::float64;
template <class T>
constexpr int kVector = 16 / int(sizeof(T));  // elements of a 16-byte instruction

VK_GPU double words_to_double(uint32_t low, uint32_t high) {
  const uint64_t u = uint64_t(high) << 32 | low;
  double d;
  memcpy(&d, &u, sizeof d);
  return d;
}
VK_GPU void to_words(float v, uint32_t* w) { w[0] = float_to_bits(v); }
VK_GPU void to_words(double v, uint32_t* w) {
  uint64_t u;
  memcpy(&u, &v, sizeof u);
  w[0] = uint32_t(u), w[1] = uint32_t(u >> 32);
}

// What an array may hold beside floating point numbers.
enum class Ints {
  none,     // a parameter, a latent
  mask,     // weights: bool
  counts,   // all integers, as they are
  targets,  // likewise, but uint8 is that of an image: x / 255
};
template <Ints INTS, class T>
VK_GPU T byte_value(uint32_t byte) {
  return INTS == Ints::targets ? divided_by_255(T(byte)) : T(byte);
}
template <class T, Ints INTS>
VK_GPU T load_integer(const char* p, DType type) {
  if constexpr (INTS == Ints::none) return 0;
  if (INTS == Ints::mask || type == DType::boolean) return T(load<uint8_t>(p));
  switch (type) {
    case DType::int16:
      return T(int16_t(load<uint16_t>(p)));
    case DType::int32:
      return T(int32_t(load<uint32_t>(p)));
    case DType::int64:
      return T(load<int64_t>(p));
    default:
      return byte_value<INTS, T>(load<uint8_t>(p));
  }
}

template <class T, Ints INTS = Ints::none>
VK_GPU T load_one(const char* p, DType type) {
  switch (type) {
    case DType::float32:
      return T(load<float>(p));
    case DType::float64:
      return T(load<double>(p));
    case DType::bfloat16:
      return T(bits_to_float(uint32_t(load<uint16_t>(p)) << 16));
    case DType::float16:
      return T(half_to_float(load<uint16_t>(p)));
    default:
      return load_integer<T, INTS>(p, type);
  }
}

// A row of an array, from some column on. V elements at `at` + i V elements are read as a vector if it is aligned.
struct Cursor {
  const char* at;
  DType type;
  bool aligned;
};

template <int V>
VK_GPU int alignment(DType type) {
  const int bytes = V * size_of(type);
  return bytes < 16 ? bytes : 16;
}

template <class T, int V>
VK_GPU Cursor cursor(const void* data, int64_t element, DType type) {
  const char* at = static_cast<const char*>(data) + element * size_of(type);
  const bool wide = size_of(type) > int(sizeof(T));  // it has no place in a Packed
  return {at, type, !wide && reinterpret_cast<uintptr_t>(at) % alignment<V>(type) == 0};
}

// V elements as they are stored, or, where they came one by one, in the compute type.
template <class T, int V>
struct Packed {
  uint32_t w[V * sizeof(T) / 4];
  DType type;
};
template <int V>
constexpr unsigned kFull = (1u << V) - 1;

// The elements whose bits in `mask` are not set are not read, and are 0. One by one they are read at once where KNOWN,
// the type being known to the compiler; else after one another, or the code for all types would be V times as long.
template <class T, int V, bool KNOWN, Ints INTS = Ints::none>
VK_GPU Packed<T, V> fetch(const Cursor& c, int64_t first, unsigned mask) {
  constexpr int each = sizeof(T) / 4, words = V * each;
  Packed<T, V> out;
  const char* p = c.at + first * size_of(c.type);
  if (c.aligned && mask == kFull<V>) {
    out.type = c.type;
    switch (c.type) {
      case DType::float64:
        if constexpr (sizeof(T) == 8) load_words<V * 8>(p, out.w);
        break;
      case DType::float32:
      case DType::int32:
        load_words<V * 4>(p, out.w);
        break;
      case DType::uint8:
      case DType::boolean:
        load_words<V>(p, out.w);
        break;
      default:
        load_words<V * 2>(p, out.w);
    }
    return out;
  }
  out.type = dtype_of<T>;
  if constexpr (KNOWN || V == 2) {
#pragma unroll
    for (int j = 0; j < V; ++j)
      to_words(mask >> j & 1 ? load_one<T, INTS>(p + j * size_of(c.type), c.type) : T(0), out.w + j * each);
  } else {
#pragma unroll
    for (int i = 0; i < words; ++i) out.w[i] = 0;
#pragma unroll 1
    for (int j = 0; j < V; ++j) {  // in at the end, while the others move up: registers have no index
#pragma unroll
      for (int i = each; i < words; ++i) out.w[i - each] = out.w[i];
      to_words(mask >> j & 1 ? load_one<T, INTS>(p + j * size_of(c.type), c.type) : T(0), out.w + words - each);
    }
  }
  return out;
}

template <Ints INTS, class T, int V>
VK_GPU void unpack_integers(const Packed<T, V>& in, T (&out)[V]) {
  const auto byte = [&](int j) { return in.w[j / 4] >> 8 * (j % 4) & 255; };
  switch (INTS == Ints::mask ? DType::boolean : in.type) {
    case DType::int16:
#pragma unroll
      for (int j = 0; j < V; ++j) out[j] = T(int16_t(in.w[j / 2] >> 16 * (j % 2)));
      break;
    case DType::int32:
#pragma unroll
      for (int j = 0; j < V; ++j) out[j] = T(int32_t(in.w[j]));
      break;
    case DType::boolean:
#pragma unroll
      for (int j = 0; j < V; ++j) out[j] = T(byte(j));
      break;
    default:
#pragma unroll
      for (int j = 0; j < V; ++j) out[j] = byte_value<INTS, T>(byte(j));
  }
}

template <Ints INTS = Ints::none, class T, int V>
VK_GPU void unpack(const Packed<T, V>& in, T (&out)[V]) {
  const uint32_t* w = in.w;
  switch (in.type) {
    case DType::float64:
      if constexpr (sizeof(T) == 8) {
#pragma unroll
        for (int j = 0; j < V; ++j) out[j] = words_to_double(w[2 * j], w[2 * j + 1]);
      }
      break;
    case DType::float32:
#pragma unroll
      for (int j = 0; j < V; ++j) out[j] = T(bits_to_float(w[j]));
      break;
    case DType::bfloat16:
#pragma unroll
      for (int j = 0; j < V; ++j) out[j] = T(bits_to_float(j % 2 ? w[j / 2] & 0xffff0000u : w[j / 2] << 16));
      break;
    case DType::float16:
#pragma unroll
      for (int j = 0; j < V; ++j) out[j] = T(half_to_float(uint16_t(w[j / 2] >> 16 * (j % 2))));
      break;
    default:
      if constexpr (INTS != Ints::none) unpack_integers<INTS>(in, out);
  }
}

template <class T>
VK_GPU void store_one(char* p, DType type, T v) {
  switch (type) {
    case DType::float32:
      return store(p, float(v));
    case DType::float64:
      return store(p, double(v));
    case DType::bfloat16:
      return store(p, uint16_t(pack_bfloats(float(v), 0)));
    default:  // no gradient is an integer
      return store(p, uint16_t(pack_halves(float(v), 0)));
  }
}

template <class T, int V, bool KNOWN>
VK_GPU void put(const Cursor& c, int64_t first, unsigned mask, T (&v)[V]) {
  char* p = const_cast<char*>(c.at) + first * size_of(c.type);
  if (c.aligned && mask == kFull<V>) {
    uint32_t w[V * sizeof(T) / 4];
    switch (c.type) {
      case DType::float64:
        if constexpr (sizeof(T) == 8) {
#pragma unroll
          for (int j = 0; j < V; ++j) to_words(v[j], w + 2 * j);
          store_words<V * 8>(p, w);
        }
        return;
      case DType::float32:
#pragma unroll
        for (int j = 0; j < V; ++j) w[j] = float_to_bits(float(v[j]));
        return store_words<V * 4>(p, w);
      default:
#pragma unroll
        for (int j = 0; j < V; j += 2) {
          const float low = float(v[j]), high = float(v[j + 1]);
          w[j / 2] = c.type == DType::bfloat16 ? pack_bfloats(low, high) : pack_halves(low, high);
        }
        return store_words<V * 2>(p, w);
    }
  }
  if constexpr (KNOWN || V == 2) {
#pragma unroll
    for (int j = 0; j < V; ++j)
      if (mask >> j & 1) store_one(p + j * size_of(c.type), c.type, v[j]);
  } else {
#pragma unroll 1
    for (int j = 0; j < V; ++j) {
      if (mask >> j & 1) store_one(p + j * size_of(c.type), c.type, v[0]);
#pragma unroll
      for (int i = 1; i < V; ++i) v[i - 1] = v[i];
    }
  }
}

}  // namespace vk::cuda
