// The host code of csrc/cuda tells the simulator (tests/ptx/cuda.py) of each tensor that it makes, and hands it each
// launch. Linked to that host code with --wrap=aoti_torch_empty_strided.
#include "cuda/launch.h"
#include "torch_abi.h"

#define VK_VISIBLE extern "C" __attribute__((visibility("default")))

namespace {
void (*on_empty)(void* data, int64_t bytes) = nullptr;
const char* (*on_launch)(const char* kernel, const void* job, int64_t bytes, int64_t blocks) = nullptr;
}  // namespace

namespace vk::cuda {
extern unsigned counter;  // of cuda_host.cpp

const char* launch_by_name(const char* kernel, const void* job, size_t bytes, int64_t blocks) {
  return on_launch(kernel, job, int64_t(bytes), blocks);
}
}  // namespace vk::cuda

extern "C" AOTITorchError aoti_torch_get_storage_size(AtenTensorHandle t, int64_t* ret);
extern "C" decltype(aoti_torch_empty_strided) __real_aoti_torch_empty_strided;
extern "C" AOTITorchError __wrap_aoti_torch_empty_strided(int64_t ndim, const int64_t* sizes, const int64_t* strides,
                                                          int32_t dtype, int32_t device_type, int32_t device_index,
                                                          AtenTensorHandle* ret) {
  const AOTITorchError error =
      __real_aoti_torch_empty_strided(ndim, sizes, strides, dtype, device_type, device_index, ret);
  if (error) return error;
  void* data = nullptr;
  int64_t bytes = 0;
  torch_get_mutable_data_ptr(*ret, &data);
  aoti_torch_get_storage_size(*ret, &bytes);
  if (bytes && on_empty) on_empty(data, bytes);
  return 0;
}

VK_VISIBLE void ptx_hooks(decltype(on_empty) empty, decltype(on_launch) launch) {
  on_empty = empty;
  on_launch = launch;
}
VK_VISIBLE unsigned* ptx_counter() { return &vk::cuda::counter; }
