// The conversions between storage types and compute types, for all loops. Compiled once per instruction set: a unit of
// their own, because every loop would take a second of the compiler's time for its own copy.
#include "block.h"

namespace vk::VK_ISA {
namespace {  // as in likelihood.cpp: nothing here is for the linker to share

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

VK_FN float widen(float v) { return v; }
VK_FN double widen(double v) { return v; }
VK_FN uint8_t widen(uint8_t v) { return v; }
VK_FN int16_t widen(int16_t v) { return v; }
VK_FN int32_t widen(int32_t v) { return v; }
VK_FN int64_t widen(int64_t v) { return v; }
VK_FN float widen(bfloat16 v) { return bits_to_float(uint32_t(v.bits) << 16); }
// In integers, as GCC 12 has no vector conversion. A half's exponent is 112 less than a float's; its denormals are the
// difference of two normal floats, so that they survive the flushing of float's own.
VK_FN float widen(float16 v) {
  const uint32_t magnitude = v.bits & 0x7fffu, shifted = magnitude << 13;
  const float tiny = bits_to_float(shifted + (113u << 23)) - bits_to_float(113u << 23);
  const float other = bits_to_float(shifted + (magnitude < 0x7c00u ? 112u << 23 : 224u << 23));  // else: inf and NaN
  const float value = magnitude < 0x400u ? tiny : other;
  return bits_to_float(float_to_bits(value) | uint32_t(v.bits & 0x8000u) << 16);
}

VK_FN void narrow(float v, float& out) { out = v; }
VK_FN void narrow(double v, double& out) { out = v; }
VK_FN void narrow(double v, float& out) { out = float(v); }
VK_FN void narrow(float v, double& out) { out = v; }
template <class T>
VK_FN void narrow(T v, float16& out) {  // round to nearest, ties to even; from 65520 on infinite; NaN stays NaN
  const uint32_t u = float_to_bits(float(v)), magnitude = u & 0x7fffffffu;
  const uint32_t tiny = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;  // the sum is rounded to 2^-24
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  const uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t bits = magnitude < 113u << 23 ? tiny : magnitude < 143u << 23 ? normal : large;
  out.bits = uint16_t(bits | (u >> 16 & 0x8000u));
}
template <class T>
VK_FN void narrow(T v, bfloat16& out) {  // round to nearest, ties to even; NaN stays NaN
  uint32_t u = float_to_bits(float(v));
  uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  out.bits = uint16_t((u & 0x7fffffff) > 0x7f800000 ? (u >> 16) | 0x40 : rounded);
}

template <class S, class T>
static void convert_in(const void* from, int64_t at, int n, T* to) {
  const S* p = static_cast<const S*>(from) + at;
#pragma omp simd
  for (int i = 0; i < n; ++i) to[i] = T(widen(p[i]));
}
template <class T>
static void convert_bytes(const void* from, int64_t at, int n, T* to) {  // of an image: x / 255
  const uint8_t* p = static_cast<const uint8_t*>(from) + at;
#pragma omp simd
  for (int i = 0; i < n; ++i) to[i] = divided_by_255(T(p[i]));
}
template <class S, class T>
static void convert_out(const T* from, int n, void* to, int64_t at) {
  S* p = static_cast<S*>(to) + at;
#pragma omp simd
  for (int i = 0; i < n; ++i) narrow(from[i], p[i]);
}

template <class T>
static void read_as(const Source& s, int64_t at, int n, bool counts, T* to) {
  switch (s.dtype) {
    case DType::float32:
      return convert_in<float>(s.data, at, n, to);
    case DType::float64:
      return convert_in<double>(s.data, at, n, to);
    case DType::bfloat16:
      return convert_in<bfloat16>(s.data, at, n, to);
    case DType::float16:
      return convert_in<float16>(s.data, at, n, to);
    case DType::uint8:
      return counts ? convert_in<uint8_t>(s.data, at, n, to) : convert_bytes(s.data, at, n, to);
    case DType::boolean:
      return convert_in<uint8_t>(s.data, at, n, to);
    case DType::int16:
      return convert_in<int16_t>(s.data, at, n, to);
    case DType::int32:
      return convert_in<int32_t>(s.data, at, n, to);
    case DType::int64:
      return convert_in<int64_t>(s.data, at, n, to);
  }
}
template <class T>
static void write_as(const T* from, int n, const Sink& s, int64_t at) {
  switch (s.dtype) {
    case DType::float32:
      return convert_out<float>(from, n, s.data, at);
    case DType::float64:
      return convert_out<double>(from, n, s.data, at);
    case DType::bfloat16:
      return convert_out<bfloat16>(from, n, s.data, at);
    case DType::float16:
      return convert_out<float16>(from, n, s.data, at);
    default:
      return;  // no gradient is an integer
  }
}

}  // namespace

void read(const Source& s, int64_t at, int n, bool counts, float* to) { read_as(s, at, n, counts, to); }
void read(const Source& s, int64_t at, int n, bool counts, double* to) { read_as(s, at, n, counts, to); }
void write(const float* from, int n, const Sink& s, int64_t at) { write_as(from, n, s, at); }
void write(const double* from, int n, const Sink& s, int64_t at) { write_as(from, n, s, at); }

}  // namespace vk::VK_ISA
