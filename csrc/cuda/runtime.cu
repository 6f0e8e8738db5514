// What the launches need on the device itself: counters, and a kernel to ask for.
#include "runtime.h"

#include <cuda_runtime.h>

namespace vk::cuda {

static __device__ unsigned counters[kCounters];  // 0 when the module is loaded; each launch leaves its own at 0 again

static __global__ void probe() {}

unsigned* counters_of_device() {
  void* first = nullptr;
  return cudaGetSymbolAddress(&first, counters) == cudaSuccess ? static_cast<unsigned*>(first) : nullptr;
}

const char* why_no_code() {
  cudaFuncAttributes unused;
  const cudaError_t error = cudaFuncGetAttributes(&unused, probe);
  cudaGetLastError();  // the error was asked for: the next launch must not find it
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace vk::cuda
