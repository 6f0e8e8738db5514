// Chooses the loops' instruction set once, at the first call. Compiled for the base instruction set.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"
#include "mixture.h"

namespace vk {

#define VK_DECLARE(name) extern const LikelihoodLoop likelihood_##name[2];
#define VK_NAMESPACE(isa)                     \
  namespace isa {                             \
  VK_LIKELIHOODS(VK_DECLARE)                  \
  extern const LatentLoops latent_loops[2];   \
  extern const LevelsLoops levels_loops[2];   \
  extern const MixtureLoops mixture_loops[2]; \
  }
VK_NAMESPACE(base)
#if defined(__x86_64__)
VK_NAMESPACE(avx2)
VK_NAMESPACE(avx512)
#endif

#define VK_LOOPS(isa) isa::latent_loops, isa::levels_loops, isa::mixture_loops
#define VK_BASE(name) base::likelihood_##name,
#define VK_AVX2(name) avx2::likelihood_##name,
#define VK_AVX512(name) avx512::likelihood_##name,

static Kernels choose() {
  const char* asked = std::getenv("VAE_KERNELS_ISA");
  auto wanted = [&](const char* isa, bool runs) { return runs && (!asked || !*asked || !std::strcmp(asked, isa)); };
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (wanted("avx512", avx512)) return {"avx512", {VK_LIKELIHOODS(VK_AVX512)}, VK_LOOPS(avx512)};
  if (wanted("avx2", avx2)) return {"avx2", {VK_LIKELIHOODS(VK_AVX2)}, VK_LOOPS(avx2)};
#endif
  if (wanted("base", true)) return {"base", {VK_LIKELIHOODS(VK_BASE)}, VK_LOOPS(base)};
  throw std::runtime_error(std::string("VAE_KERNELS_ISA=") + asked +
                           " is not base, avx2 or avx512, or this processor does not run it");
}

const Kernels& kernels() {
  static const Kernels chosen = choose();
  return chosen;
}

const MixtureLoops& mixture_loops(bool float64) { return kernels().mixtures[float64]; }

}  // namespace vk
