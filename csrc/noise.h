// The noise: standard normals as a function of (seed, offset, element) alone, the same bits in C++, CUDA, Triton and
// plain torch (vae_kernels/core/noise.py, where the whole specification stands).
// Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
// Every float operation below is one IEEE operation: compile with -ffp-contract=off.
#pragma once
#include "scalar.h"

namespace vk {

struct Words {
  uint32_t w[4];
};

VK_FN Words philox(uint64_t seed, uint64_t offset, uint64_t group) {
  uint32_t c0 = uint32_t(offset), c1 = uint32_t(offset >> 32), c2 = uint32_t(group), c3 = uint32_t(group >> 32);
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
#ifndef __CUDACC__  // nvcc unrolls it unasked
#pragma GCC unroll 10
#endif
  for (int round = 0; round < 10; ++round) {
    uint64_t a = uint64_t(c0) * 0xD2511F53u, b = uint64_t(c2) * 0xCD9E8D57u;
    uint32_t n0 = uint32_t(b >> 32) ^ c1 ^ k0, n2 = uint32_t(a >> 32) ^ c3 ^ k1;
    c0 = n0, c1 = uint32_t(b), c2 = n2, c3 = uint32_t(a);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// -log u for a normal u in (0, 1]
VK_FN float negative_log(float u) {
  int32_t i = int32_t(float_to_bits(u)), k = (i - 0x3f3504f3) >> 23;
  float t = bits_to_float(uint32_t(i) - (uint32_t(k) << 23)) - 1.f;
  float p = 0.08734836429357529f;
  p = fma_exact(p, t, -0.14307518303394318f);
  p = fma_exact(p, t, 0.14917974174022675f);
  p = fma_exact(p, t, -0.16570508480072021f);
  p = fma_exact(p, t, 0.19962072372436523f);
  p = fma_exact(p, t, -0.25001755356788635f);
  p = fma_exact(p, t, 0.33333951234817505f);
  p = fma_exact(p, t, -0.49999991059303284f);
  return -fma_exact(float(k), 0.6931471805599453f, fma_exact(p * t, t, t));
}

// two independent normals from two words: r sin a, r cos a with r = sqrt(-2 log u) (Box and Muller, 1958)
struct Pair {
  float sine, cosine;
};
VK_FN Pair box_muller(uint32_t x, uint32_t y) {
  float u = fma_exact(float(x), 2.3283064365386963e-10f, 1.1641532182693481e-10f);  // (x + 1/2) 2^-32
  float square = 2.f * negative_log(u);
  float radius = __builtin_sqrtf(square > 0.f ? square : 0.f);
  // the angle in turns is (y + 1/2) 2^-32: its nearest quarter turn is exact in integers, the rest is in [-1/8, 1/8]
  uint32_t quarter = ((y >> 29) + 1) >> 1;
  float t = fma_exact(float(int32_t(y - (quarter << 30))), 2.3283064365386963e-10f, 1.1641532182693481e-10f);
  float z = t * t;
  float s = fma_exact(-75.40206909179688f, z, 81.5925521850586f);
  s = fma_exact(s, z, -41.3416633605957f);
  s = fma_exact(s, z, 6.2831854820251465f) * t;
  float c = fma_exact(-83.59261322021484f, z, 64.92124938964844f);
  c = fma_exact(c, z, -19.739152908325195f);
  c = fma_exact(c, z, 1.f);
  bool odd = quarter & 1;
  float sine = odd ? c : s, cosine = odd ? s : c;
  sine = bits_to_float(float_to_bits(sine) ^ ((quarter & 2) << 30));
  cosine = bits_to_float(float_to_bits(cosine) ^ (((quarter + 1) & 2) << 30));
  return {radius * sine, radius * cosine};
}

}  // namespace vk
