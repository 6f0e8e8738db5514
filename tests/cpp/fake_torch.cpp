// Replaces the functions of csrc/torch_abi.h that the ops call, so tests/cpp/sanitized.cpp needs no torch. A tensor has
// exactly the memory that its strides reach. So a sanitizer finds an access to the element behind the last one.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "fake_torch.h"
#include "torch_abi.h"

struct AtenTensorOpaque {
  void* data;
  std::vector<int64_t> sizes, strides;
  int32_t dtype;
  void (*deleter)(void*, void*);
  void* context;
};

int fake_threads = 1;
bool fake_poison = true;

static int64_t bytes_of(int32_t dtype) { return std::vector<int64_t>{4, 8, 2, 2, 1, 2, 4, 8, 1}[dtype]; }

extern "C" {
AOTITorchError aoti_torch_empty_strided(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                                        int32_t, int32_t, AtenTensorHandle* out) {
  int64_t elements = 1;
  for (int64_t i = 0; i < dim; ++i) elements += (sizes[i] - 1) * strides[i];
  for (int64_t i = 0; i < dim; ++i)
    if (!sizes[i]) elements = 0;
  const int64_t bytes = elements * bytes_of(dtype);
  void* data = bytes ? std::malloc(bytes) : nullptr;
  if (bytes && fake_poison) std::memset(data, 0xff, bytes);  // NaN: an element that nobody writes is found
  const auto release = [](void* p, void*) { std::free(p); };
  *out = new AtenTensorOpaque{data, {sizes, sizes + dim}, {strides, strides + dim}, dtype, release, nullptr};
  return 0;
}
AOTITorchError torch_from_blob(void* data, int64_t dim, const int64_t* sizes, const int64_t* strides, int64_t,
                               int32_t dtype, int32_t, int32_t, AtenTensorHandle* out, int32_t, const uint8_t*, int64_t,
                               void (*deleter)(void*, void*), void* context) {
  *out = new AtenTensorOpaque{data, {sizes, sizes + dim}, {strides, strides + dim}, dtype, deleter, context};
  return 0;
}
AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle t) {
  t->deleter(t->data, t->context);
  delete t;
  return 0;
}
AOTITorchError torch_get_const_data_ptr(AtenTensorHandle t, const void** out) { return *out = t->data, 0; }
AOTITorchError torch_get_mutable_data_ptr(AtenTensorHandle t, void** out) { return *out = t->data, 0; }
AOTITorchError aoti_torch_get_dim(AtenTensorHandle t, int64_t* out) { return *out = int64_t(t->sizes.size()), 0; }
AOTITorchError aoti_torch_get_numel(AtenTensorHandle t, int64_t* out) {
  *out = 1;
  for (int64_t n : t->sizes) *out *= n;
  return 0;
}
AOTITorchError aoti_torch_get_sizes(AtenTensorHandle t, int64_t** out) { return *out = t->sizes.data(), 0; }
AOTITorchError aoti_torch_get_strides(AtenTensorHandle t, int64_t** out) { return *out = t->strides.data(), 0; }
AOTITorchError aoti_torch_is_contiguous(AtenTensorHandle t, bool* out) {
  int64_t expected = 1;
  *out = true;
  for (size_t i = t->sizes.size(); i-- > 0; expected *= t->sizes[i])
    *out &= t->sizes[i] <= 1 || t->strides[i] == expected;
  return 0;
}
AOTITorchError aoti_torch_get_dtype(AtenTensorHandle t, int32_t* out) { return *out = t->dtype, 0; }
AOTITorchError aoti_torch_get_device_type(AtenTensorHandle, int32_t* out) { return *out = 0, 0; }
AOTITorchError aoti_torch_get_device_index(AtenTensorHandle, int32_t* out) { return *out = 0, 0; }
AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* out) { return *out = nullptr, 0; }
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) { return 0; }
int32_t aoti_torch_dtype_float32() { return 0; }  // the numbers follow the order of vk::DType
int32_t aoti_torch_dtype_float64() { return 1; }
int32_t aoti_torch_dtype_bfloat16() { return 2; }
int32_t aoti_torch_dtype_float16() { return 3; }
int32_t aoti_torch_dtype_uint8() { return 4; }
int32_t aoti_torch_dtype_int16() { return 5; }
int32_t aoti_torch_dtype_int32() { return 6; }
int32_t aoti_torch_dtype_int64() { return 7; }
int32_t aoti_torch_dtype_bool() { return 8; }
int32_t aoti_torch_layout_strided() { return 0; }

AOTITorchError torch_get_num_threads(uint32_t* out) { return *out = uint32_t(fake_threads), 0; }
AOTITorchError torch_parallel_for(int64_t begin, int64_t end, int64_t, ParallelFunc f, void* context) {
  const int64_t threads = std::min<int64_t>(fake_threads, end - begin),
                each = threads ? (end - begin + threads - 1) / threads : 0;
  std::vector<std::thread> running;
  for (int64_t i = 0; i < threads; ++i)
    running.emplace_back([=] { f(std::min(end, begin + i * each), std::min(end, begin + (i + 1) * each), context); });
  for (std::thread& one : running) one.join();
  return 0;
}
}
