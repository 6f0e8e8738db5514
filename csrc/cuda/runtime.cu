// What the launches need of the device: a counter by which blocks know which of them is the last; and code for it.
#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <utility>

#include "jobs.h"

namespace vk::cuda {

constexpr unsigned kCounters = 1 << 16;
static __device__ unsigned counters[kCounters];  // 0 when the module is loaded; each launch leaves its own at 0 again

static __global__ void probe() {}

// Launches on one stream run one after another and share a counter. A captured launch may be replayed on any stream,
// beside any other launch, and keeps a counter of its own for ever. When there is none left, a second launch takes its
// place.
unsigned* ticket(int device, void* stream) {
  static std::mutex mutex;
  static std::map<int, std::pair<unsigned*, unsigned>> free;  // by device: the counters, and how many are taken
  static std::map<std::pair<int, void*>, unsigned*> of_stream;

  cudaStreamCaptureStatus capture;
  if (cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &capture) != cudaSuccess) return nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  const bool eager = capture == cudaStreamCaptureStatusNone;
  if (eager)
    if (const auto found = of_stream.find({device, stream}); found != of_stream.end()) return found->second;
  auto& [first, taken] = free[device];
  if (!first && cudaGetSymbolAddress(reinterpret_cast<void**>(&first), counters) != cudaSuccess) return nullptr;
  if (taken == kCounters) return nullptr;
  unsigned* const counter = first + taken++;
  if (eager) of_stream[{device, stream}] = counter;
  return counter;
}

// Whether the kernels were compiled for this device, or can be by its driver.
bool runs_on(int64_t device) {
  int before;
  if (cudaGetDevice(&before) != cudaSuccess || cudaSetDevice(int(device)) != cudaSuccess) return false;
  cudaFuncAttributes unused;
  const bool runs = cudaFuncGetAttributes(&unused, probe) == cudaSuccess;
  cudaGetLastError();  // the answer is no error
  cudaSetDevice(before);
  return runs;
}

}  // namespace vk::cuda
