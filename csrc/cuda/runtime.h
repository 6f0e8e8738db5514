// What runtime.cu has of the current device. No CUDA in it.
#pragma once

namespace vk::cuda {

constexpr unsigned kCounters = 1 << 16;
unsigned* counters_of_device();  // null: the device has none
const char* why_no_code();       // null: the kernels were compiled for it, or its driver can compile them

}  // namespace vk::cuda
