// What runtime.cu has of the current device. No CUDA in it.
#pragma once

namespace vk::cuda {

constexpr unsigned kCounters = 1 << 16;
unsigned* counters_of_device();  // null: the device has none
bool has_code();                 // whether the kernels were compiled for it, or can be by its driver

}  // namespace vk::cuda
