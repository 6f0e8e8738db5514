// What the launches need of the device: a counter by which blocks know which of them is the last; and code for it.
// In C++ and not in runtime.cu: nvcc takes seconds for <map> and <mutex>.
#include "runtime.h"

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <utility>

#include "jobs.h"
#include "ops.h"

namespace vk::cuda {

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
  if (!first) first = counters_of_device();
  if (!first || taken == kCounters) return nullptr;
  unsigned* const counter = first + taken++;
  if (eager) of_stream[{device, stream}] = counter;
  return counter;
}

// Whether the kernels were compiled for this device, or can be by its driver.
bool runs_on(int64_t device) {
  int before;
  if (cudaGetDevice(&before) != cudaSuccess || cudaSetDevice(int(device)) != cudaSuccess) return false;
  const bool runs = has_code();
  cudaGetLastError();  // the answer is no error
  cudaSetDevice(before);
  return runs;
}

}  // namespace vk::cuda
