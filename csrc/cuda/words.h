// Reads and writes of whole instructions: 2, 4, 8 or 16 bytes at an address that is aligned to them.
#pragma once
#include "launch.h"

namespace vk::cuda {

VK_GPU void check_aligned(const void* p, uintptr_t bytes) {
#ifdef __CUDACC__
  (void)p, (void)bytes;  // the GPU checks
#else
  if (reinterpret_cast<uintptr_t>(p) % bytes) throw std::logic_error("a vector was read or written at an odd address");
#endif
}

template <class W>
VK_GPU W load(const char* p) {
  check_aligned(p, sizeof(W));
  return *reinterpret_cast<const W*>(p);
}
template <class W>
VK_GPU void store(char* p, W w) {
  check_aligned(p, sizeof(W));
  *reinterpret_cast<W*>(p) = w;
}
struct alignas(8) Words2 {
  uint32_t w[2];
};
struct alignas(16) Words4 {
  uint32_t w[4];
};

template <int BYTES>
VK_GPU void load_words(const char* p, uint32_t* w) {
  if constexpr (BYTES == 2) w[0] = load<uint16_t>(p);
  if constexpr (BYTES == 4) w[0] = load<uint32_t>(p);
  if constexpr (BYTES == 8) {
    const Words2 v = load<Words2>(p);
    w[0] = v.w[0], w[1] = v.w[1];
  }
  if constexpr (BYTES >= 16) {
#pragma unroll
    for (int i = 0; i < BYTES / 16; ++i) {
      const Words4 v = load<Words4>(p + 16 * i);
      w[4 * i] = v.w[0], w[4 * i + 1] = v.w[1], w[4 * i + 2] = v.w[2], w[4 * i + 3] = v.w[3];
    }
  }
}
template <int BYTES>
VK_GPU void store_words(char* p, const uint32_t* w) {
  if constexpr (BYTES == 4) store(p, w[0]);
  if constexpr (BYTES == 8) store(p, Words2{{w[0], w[1]}});
  if constexpr (BYTES >= 16) {
#pragma unroll
    for (int i = 0; i < BYTES / 16; ++i)
      store(p + 16 * i, Words4{{w[4 * i], w[4 * i + 1], w[4 * i + 2], w[4 * i + 3]}});
  }
}

}  // namespace vk::cuda
