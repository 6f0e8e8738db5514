// Runs csrc/cuda/runtime.cpp for tests/gpu/test_cuda_runtime.py; these few functions replace CUDA and torch.
// argv is the answer of the probe of the kernels, or nothing. The program prints its calls, one on each line.
#include <cuda_runtime_api.h>

#include <cstdio>

#include "cuda/jobs.h"
#include "cuda/ops.h"
#include "cuda/runtime.h"

static const char* probe_says = nullptr;

extern "C" {
cudaError_t cudaGetDevice(int* device) { return *device = 0, std::puts("cudaGetDevice"), cudaSuccess; }
cudaError_t cudaSetDevice(int) { return std::puts("cudaSetDevice"), cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 12020, cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
AOTITorchError aoti_torch_create_device_guard(int32_t device, DeviceGuardHandle* guard) {
  *guard = nullptr;
  return std::printf("guard of %d\n", device), 0;
}
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) { return std::puts("end of guard"), 0; }
}

namespace vk::cuda {
unsigned* counters_of_device() { return nullptr; }
const char* why_no_code() { return std::puts("probe"), probe_says; }
}  // namespace vk::cuda

int main(int n, char** words) {
  if (n > 1) probe_says = words[1];
  try {
    vk::cuda::check_device(3);
    std::puts("runs");
  } catch (const std::exception& error) {
    std::puts(error.what());
  }
}
