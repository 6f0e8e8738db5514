// The part of libtorch's stable C ABI (torch >= 2.10) that this extension uses, declared by hand, so that building
// needs no torch at all and one binary serves every torch. tests/pytorch/test_abi.py compiles this file together with
// torch's own headers: a declaration that differs is a compile error. torch_library.h attaches C++ functions to ops.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

extern "C" {
using AOTITorchError = int32_t;  // 0 is success
using StableIValue = uint64_t;   // one argument or result of an op

struct AtenTensorOpaque;
using AtenTensorHandle = AtenTensorOpaque*;
struct TorchLibraryOpaque;
using TorchLibraryHandle = TorchLibraryOpaque*;
struct DeviceGuardOpaque;
using DeviceGuardHandle = DeviceGuardOpaque*;
struct StableListOpaque;
using StableListHandle = StableListOpaque*;
struct StringOpaque;
using StringHandle = StringOpaque*;
typedef void (*ParallelFunc)(int64_t begin, int64_t end, void* ctx);

// ops
AOTITorchError aoti_torch_library_init_impl(const char* ns, const char* key, const char* file, uint32_t line,
                                            TorchLibraryHandle* ret);
AOTITorchError torch_library_impl(TorchLibraryHandle self, const char* name,
                                  void (*fn)(StableIValue*, uint64_t, uint64_t), uint64_t extension_build_version);

// tensors
AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle t);
AOTITorchError torch_get_const_data_ptr(AtenTensorHandle t, const void** ret);
AOTITorchError torch_get_mutable_data_ptr(AtenTensorHandle t, void** ret);
AOTITorchError aoti_torch_get_dim(AtenTensorHandle t, int64_t* ret);
AOTITorchError aoti_torch_get_numel(AtenTensorHandle t, int64_t* ret);
AOTITorchError aoti_torch_get_sizes(AtenTensorHandle t, int64_t** ret);
AOTITorchError aoti_torch_get_strides(AtenTensorHandle t, int64_t** ret);
AOTITorchError aoti_torch_is_contiguous(AtenTensorHandle t, bool* ret);
AOTITorchError aoti_torch_get_dtype(AtenTensorHandle t, int32_t* ret);
AOTITorchError aoti_torch_get_device_type(AtenTensorHandle t, int32_t* ret);
AOTITorchError aoti_torch_get_device_index(AtenTensorHandle t, int32_t* ret);
AOTITorchError aoti_torch_empty_strided(int64_t ndim, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                                        int32_t device_type, int32_t device_index, AtenTensorHandle* ret);
int32_t aoti_torch_dtype_float64();
int32_t aoti_torch_dtype_float32();
int32_t aoti_torch_dtype_float16();
int32_t aoti_torch_dtype_bfloat16();
int32_t aoti_torch_dtype_uint8();
int32_t aoti_torch_dtype_int16();
int32_t aoti_torch_dtype_int32();
int32_t aoti_torch_dtype_int64();
int32_t aoti_torch_dtype_bool();

// Since torch 2.11; weak, so that it is null with 2.10. The deleter is called with the data and deleter_ctx.
__attribute__((weak)) AOTITorchError torch_from_blob(void* data, int64_t ndim, const int64_t* sizes_ptr,
                                                     const int64_t* strides_ptr, int64_t storage_offset, int32_t dtype,
                                                     int32_t device_type, int32_t device_index, AtenTensorHandle* ret,
                                                     int32_t layout, const uint8_t* opaque_metadata,
                                                     int64_t opaque_metadata_size,
                                                     void (*deleter)(void* data, void* ctx), void* deleter_ctx);
int32_t aoti_torch_layout_strided();

// lists and strings
AOTITorchError torch_new_list_reserve_size(size_t size, StableListHandle* ret);
AOTITorchError torch_list_size(StableListHandle list, size_t* size);
AOTITorchError torch_list_get_item(StableListHandle list, size_t index, StableIValue* element);
AOTITorchError torch_list_push_back(StableListHandle list, StableIValue element);
AOTITorchError torch_delete_list(StableListHandle list);
AOTITorchError torch_string_length(StringHandle handle, size_t* length);
AOTITorchError torch_string_c_str(StringHandle handle, const char** data);
AOTITorchError torch_delete_string(StringHandle handle);

// threads
AOTITorchError torch_parallel_for(int64_t begin, int64_t end, int64_t grain_size, ParallelFunc func, void* ctx);
AOTITorchError torch_get_num_threads(uint32_t* ret);

// devices
AOTITorchError aoti_torch_create_device_guard(int32_t device_index, DeviceGuardHandle* ret);
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle guard);
// It lives in libtorch_cuda.so; weak, so that it is null with a CPU-only torch.
__attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);
}

namespace vk {

// ---------------------------------------------------------------- errors: a throw in an op is a RuntimeError in Python

// Static, as parallel_for below: kernels compiled for one instruction set may use both, and the linker never takes that
// copy for all. The rest of this file is for units compiled once, without instruction-set flags.
//
// A wheel must run with the libstdc++ of GCC 8 (manylinux_2_28). With the headers of GCC 12, a stream and an
// exception_ptr need a newer libstdc++, so no code here has one. tests/project/test_manylinux.py looks at the symbols.
template <class... A>
[[noreturn]] static void fail(const A&... parts) {
  std::string text = "vae_kernels: ";
  const auto add = [&text](const auto& part) {
    using Part = std::remove_cvref_t<decltype(part)>;
    if constexpr (std::is_same_v<Part, char>)
      text += part;
    else if constexpr (std::is_integral_v<Part>)
      text += std::to_string(part);
    else
      text += std::string_view(part);  // text += part would take a double as the code of a character
  };
  (add(parts), ...);
  throw std::runtime_error(text);
}

#define VK_CHECK(condition, ...)   \
  do {                             \
    if (!(condition)) [[unlikely]] \
      ::vk::fail(__VA_ARGS__);     \
  } while (0)

#define VK_TORCH(call) VK_CHECK((call) == 0, "torch call failed: " #call)

// ---------------------------------------------------------------- tensors

class Tensor {  // owns one handle; move only
 public:
  Tensor() = default;
  explicit Tensor(AtenTensorHandle handle) : handle_(handle) {}
  Tensor(Tensor&& other) noexcept : handle_(other.release()) {}
  Tensor& operator=(Tensor&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Tensor() {
    if (handle_) aoti_torch_delete_tensor_object(handle_);
  }

  explicit operator bool() const { return handle_; }
  AtenTensorHandle release() { return std::exchange(handle_, nullptr); }

  template <class T>
  const T* data() const {
    return static_cast<const T*>(read<const void*>(torch_get_const_data_ptr));
  }
  template <class T>
  T* mut() const {
    return static_cast<T*>(read<void*>(torch_get_mutable_data_ptr));
  }

  int64_t dim() const { return read<int64_t>(aoti_torch_get_dim); }
  int64_t numel() const { return read<int64_t>(aoti_torch_get_numel); }
  const int64_t* sizes() const { return read<int64_t*>(aoti_torch_get_sizes); }
  const int64_t* strides() const { return read<int64_t*>(aoti_torch_get_strides); }
  int64_t size(int64_t i) const { return sizes()[i]; }
  int64_t stride(int64_t i) const { return strides()[i]; }
  bool contiguous() const { return read<bool>(aoti_torch_is_contiguous); }
  int32_t dtype() const { return read<int32_t>(aoti_torch_get_dtype); }
  int32_t device_type() const { return read<int32_t>(aoti_torch_get_device_type); }
  int32_t device() const { return read<int32_t>(aoti_torch_get_device_index); }

 private:
  AtenTensorHandle handle_ = nullptr;

  template <class T>
  T read(AOTITorchError (*getter)(AtenTensorHandle, T*)) const {
    T value;
    VK_CHECK(handle_ && getter(handle_, &value) == 0, "torch cannot read this tensor: it is undefined, or has no data");
    return value;
  }
};

// Uninitialized, on the device of `like`.
inline Tensor empty(const int64_t* sizes, const int64_t* strides, int64_t dim, int32_t dtype, const Tensor& like) {
  AtenTensorHandle handle;
  VK_TORCH(aoti_torch_empty_strided(dim, sizes, strides, dtype, like.device_type(), like.device(), &handle));
  return Tensor(handle);
}

// The same, contiguous: empty({batch, dims}, dtype, like).
template <size_t N>
inline Tensor empty(const int64_t (&sizes)[N], int32_t dtype, const Tensor& like) {
  int64_t strides[N];
  int64_t stride = 1;
  for (size_t i = N; i-- > 0; stride *= sizes[i] > 0 ? sizes[i] : 1) strides[i] = stride;
  return empty(sizes, strides, N, dtype, like);
}

inline Tensor empty_scalar(int32_t dtype, const Tensor& like) { return empty(nullptr, nullptr, 0, dtype, like); }

inline Tensor empty_like(const Tensor& t, int32_t dtype) { return empty(t.sizes(), t.strides(), t.dim(), dtype, t); }
inline Tensor empty_like(const Tensor& t) { return empty_like(t, t.dtype()); }

// ---------------------------------------------------------------- threads and devices

// f(begin, end) on torch's own threads. What it throws is caught in the thread, and the caller throws the same text.
template <class F>
static void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& f) {
  struct Job {
    const F& f;
    std::atomic_flag failed{};
    bool no_memory = false;
    std::string error{};
  } job{f};
  auto run = [](int64_t from, int64_t to, void* context) {
    Job& job = *static_cast<Job*>(context);
    try {
      job.f(from, to);
    } catch (const std::bad_alloc&) {
      if (!job.failed.test_and_set()) job.no_memory = true;
    } catch (const std::exception& error) {
      if (!job.failed.test_and_set()) job.error = error.what();
    } catch (...) {
      if (!job.failed.test_and_set()) job.error = "vae_kernels: a thread threw what is no std::exception";
    }
  };
  VK_TORCH(torch_parallel_for(begin, end, grain, run, &job));
  if (job.no_memory) throw std::bad_alloc();
  if (job.failed.test()) throw std::runtime_error(job.error);
}

static inline int64_t num_threads() {
  uint32_t n;
  VK_TORCH(torch_get_num_threads(&n));
  return n;
}

class DeviceGuard {
 public:
  explicit DeviceGuard(int32_t device) { VK_TORCH(aoti_torch_create_device_guard(device, &guard_)); }
  ~DeviceGuard() { aoti_torch_delete_device_guard(guard_); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  DeviceGuardHandle guard_;
};

// The stream that torch uses on this device now: a cudaStream_t.
inline void* current_cuda_stream(int32_t device) {
  VK_CHECK(aoti_torch_get_current_cuda_stream, "this torch was built without CUDA");
  void* stream;
  VK_TORCH(aoti_torch_get_current_cuda_stream(device, &stream));
  return stream;
}

}  // namespace vk
