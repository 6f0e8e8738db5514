// How a kernel is written and run. A kernel is a struct K with
//   Job            the arguments of the kernel, passed by value
//   Shared, Local  the memory of a block; the memory that a thread keeps from phase to phase
//   phases         the number of phases
//   blocks_per_sm  bounds the registers of a thread to 65536 / (256 blocks_per_sm)
//   phase<P>       a static function of (const Job&, Place, Local&, Shared&)
//   turns          optional: a static function of (const Job&, Place) that says how often the block goes through its
//                  phases; Place has the turn
//
// Between two phases, and between two turns, all threads of a block wait for each other. So the same source also runs
// without a GPU: for a plain C++ compiler launch() below is a loop over the blocks, the phases and the threads
// (tests/cpp/cuda_host.cpp).
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "jobs.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define VK_GPU __device__ __forceinline__
#define VK_GPU_ONCE __device__ __noinline__  // for code that takes little of the time: it is compiled once
#else
#include <memory>
#include <stdexcept>
#include <typeinfo>
#define VK_GPU inline
#define VK_GPU_ONCE inline
#endif

namespace vk::cuda {

constexpr int kThreads = 256;

struct Place {
  int64_t block, blocks;
  int thread;
  int64_t turn;
};

template <class K, class = void>
constexpr bool has_turns = false;
template <class K>
constexpr bool has_turns<K, std::void_t<decltype(&K::turns)>> = true;

#ifdef __CUDACC__

template <class K, int P>
VK_GPU void run_phases(const typename K::Job& job, Place at, typename K::Local& local, typename K::Shared& shared) {
  K::template phase<P>(job, at, local, shared);
  if constexpr (P + 1 < K::phases) {
    __syncthreads();
    run_phases<K, P + 1>(job, at, local, shared);
  }
}

template <class K>
__global__ void __launch_bounds__(kThreads, K::blocks_per_sm) kernel(const __grid_constant__ typename K::Job job) {
  __shared__ typename K::Shared shared;
  typename K::Local local;
  Place at{int64_t(blockIdx.x), int64_t(gridDim.x), int(threadIdx.x), 0};
  if constexpr (has_turns<K>) {
    const int64_t turns = K::turns(job, at);
    for (; at.turn < turns; ++at.turn) {
      if (at.turn > 0) __syncthreads();
      run_phases<K, 0>(job, at, local, shared);
    }
  } else {
    run_phases<K, 0>(job, at, local, shared);
  }
}

// Null, or what went wrong.
template <class K>
const char* launch_grid(const typename K::Job& job, int64_t blocks, void* stream) {
  void* arguments[] = {const_cast<typename K::Job*>(&job)};
  const cudaError_t error = cudaLaunchKernel(reinterpret_cast<const void*>(kernel<K>), dim3(unsigned(blocks)),
                                             dim3(kThreads), arguments, 0, static_cast<cudaStream_t>(stream));
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// Adds 1 to the counter, and returns the number that was there before. A block that takes a later number sees all that
// this block has written before the call: the first fence is for the writes before it, the second for the reads after
// it. One thread of the block calls this function, after a phase in which the others have written.
VK_GPU unsigned take_ticket(unsigned* counter) {
  __threadfence();
  const unsigned number = atomicAdd(counter, 1u);
  __threadfence();
  return number;
}

VK_GPU float half_to_float(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
VK_GPU uint32_t pack_halves(float low, float high) {
  const __half2 both = __floats2half2_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &both, sizeof bits);
  return bits;
}
VK_GPU uint32_t pack_bfloats(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &both, sizeof bits);
  return bits;
}

#else

#ifdef VK_LAUNCH_BY_NAME  // tests/ptx: this is the host code, and nvcc has compiled the kernels

// Null, or what went wrong.
const char* launch_by_name(const char* kernel, const void* job, size_t bytes, int64_t blocks);

template <class K>
const char* launch_grid(const typename K::Job& job, int64_t blocks, void*) {
  return launch_by_name(typeid(K).name(), &job, sizeof job, blocks);
}

#else

extern bool
    backwards;  // run the last block first, and in each phase the last thread: no result may depend on the order

template <class K, int P>
void run_phases(const typename K::Job& job, Place at, typename K::Local* locals, typename K::Shared& shared) {
  for (int i = 0; i < kThreads; ++i) {
    at.thread = backwards ? kThreads - 1 - i : i;
    K::template phase<P>(job, at, locals[at.thread], shared);
  }
  if constexpr (P + 1 < K::phases) run_phases<K, P + 1>(job, at, locals, shared);
}

template <class K>
const char* launch_grid(const typename K::Job& job, int64_t blocks, void*) {
  struct Memory {
    typename K::Shared shared;
    typename K::Local locals[kThreads];
  };
  const auto memory = std::make_unique<char[]>(sizeof(Memory) + alignof(Memory));
  void* aligned = memory.get();
  size_t space = sizeof(Memory) + alignof(Memory);
  Memory* m = static_cast<Memory*>(std::align(alignof(Memory), sizeof(Memory), aligned, space));
  for (int64_t i = 0; i < blocks; ++i) {
    std::memset(static_cast<void*>(m), 0xff,
                sizeof(Memory));  // NaN, or a negative number: memory that nobody wrote shows
    Place at{backwards ? blocks - 1 - i : i, blocks, 0, 0};
    int64_t turns = 1;
    if constexpr (has_turns<K>) turns = K::turns(job, at);
    for (; at.turn < turns; ++at.turn) run_phases<K, 0>(job, at, m->locals, m->shared);
  }
  return nullptr;
}

#endif

inline unsigned take_ticket(unsigned* counter) { return (*counter)++; }

inline float half_to_float(uint16_t bits) {
  _Float16 v;
  std::memcpy(&v, &bits, sizeof v);
  return float(v);
}
inline uint32_t pack_halves(float low, float high) {
  const _Float16 both[] = {_Float16(low), _Float16(high)};
  uint32_t bits;
  std::memcpy(&bits, both, sizeof bits);
  return bits;
}
inline uint32_t bfloat_bits(float v) {  // to nearest, ties to even
  const uint32_t u = float_to_bits(v);
  return (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (u + 0x7fff + ((u >> 16) & 1)) >> 16;
}
inline uint32_t pack_bfloats(float low, float high) { return bfloat_bits(low) | bfloat_bits(high) << 16; }

#endif

// Null, or what went wrong.
template <class K>
const char* launch(const typename K::Job& job, int64_t blocks, void* stream) {
  if (blocks > kMostBlocks) return "it takes more blocks than a grid has: split the batch";
  return launch_grid<K>(job, blocks, stream);
}

}  // namespace vk::cuda
