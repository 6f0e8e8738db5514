// What the kernels of the CPU and of the GPU read and write: matrices of rows (samples) and columns.
#pragma once
#include <cstdint>

#include "formulas/all.h"

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

constexpr int kMaxParameters = 3;
#define VK_COUNT(name) +1
constexpr int kLikelihoods = 0 VK_LIKELIHOODS(VK_COUNT);
#undef VK_COUNT

// How a likelihood's parameter lies against x [rows, cols]
enum class Layout { element, row, scalar };  // one a element, one row for all samples, one number

}  // namespace vk
