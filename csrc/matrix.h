// What the kernels of the CPU and of the GPU read and write: matrices of rows (samples) and columns.
#pragma once
#include <cstdint>

namespace vk {

enum class DType : int32_t { float32, float64, bfloat16, float16, uint8, int16, int32, int64 };

// A matrix [rows, cols]: row r begins `stride` elements after row r - 1; stride 0 repeats one row for all.
struct Source {
  const void* data = nullptr;
  int64_t stride = 0;
  DType dtype = DType::float32;
};
struct Sink {
  void* data = nullptr;  // null: not wanted
  int64_t stride = 0;
  DType dtype = DType::float32;
};

constexpr int kMaxParameters = 3;  // of a likelihood

// How a parameter of a likelihood lies against x [rows, cols]. A parameter per sample, [rows, 1], comes as `full`:
// vae_kernels/core/layout.py expands it.
enum class Layout {
  full,         // [rows, cols]: one number for each element
  per_feature,  // [cols]: one row for all samples
  number,       // 0-d: one number for all
};

}  // namespace vk
