// What the launches need of the device: a counter by which blocks know which of them is the last; and code for it.
// In C++ and not in runtime.cu: nvcc takes seconds for <map> and <mutex>.
#include "runtime.h"

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <string>
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

static std::string version(int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); }

// Throws, with what CUDA says, where the kernels do not run on this device. The device is set by torch's guard and
// never here: this library has a CUDA runtime of its own, and the two runtimes must agree on the device.
void check_device(int64_t device) {
  const DeviceGuard guard(static_cast<int32_t>(device));
  const char* const error = why_no_code();
  int compiled = 0, driver = 0;
  cudaRuntimeGetVersion(&compiled);
  cudaDriverGetVersion(&driver);
  VK_CHECK(!error, error, " (compiled by CUDA ", version(compiled), ", and the driver is of CUDA ", version(driver),
           ")");
}

}  // namespace vk::cuda
