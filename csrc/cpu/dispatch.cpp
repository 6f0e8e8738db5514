// Chooses the loops' instruction set once, at the first call, and finds a likelihood's loops by its name. Compiled for
// the base instruction set.
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "decomposition.h"
#include "formulas/all.h"
#include "kernels.h"
#include "mixture.h"
#include "request.h"
#include "segments.h"

namespace vk {

// What the objects of one instruction set define
#define VK_DECLARE(name) extern const LikelihoodLoops likelihood_##name[2];
#define VK_DECLARE_POSITION(name) extern const PositionLoops position_##name[2];
#define VK_DECLARE_PIXEL(name) extern const PixelLoop pixel_##name[2];
#define VK_ENTRY(name) {#name, likelihood_##name},
#define VK_ENTRY_OF_ROWS(name, element) {#name, likelihood_##element},
#define VK_POSITION_ENTRY(name) {#name, position_##name},
#define VK_PIXEL_ENTRY(name) {#name, pixel_##name},
#define VK_NAMESPACE(isa)                                                                                          \
  namespace isa {                                                                                                  \
  VK_LIKELIHOODS(VK_DECLARE)                                                                                       \
  VK_POSITIONS(VK_DECLARE_POSITION)                                                                                \
  VK_PIXELS(VK_DECLARE_PIXEL)                                                                                      \
  extern const RowLoop row_loops[2];                                                                               \
  extern const LatentLoops latent_loops[2];                                                                        \
  extern const MixtureLoops mixture_loops[2];                                                                      \
  extern const DecompositionLoops decomposition_loops[2];                                                          \
  extern const SegmentsLoops segments_loops[2];                                                                    \
  static const LikelihoodLoops* likelihood(const char* name) {                                                     \
    static constexpr Named<const LikelihoodLoops*> table[] = {VK_LIKELIHOODS(VK_ENTRY) VK_ROWS(VK_ENTRY_OF_ROWS)}; \
    return of_likelihood(table, name);                                                                             \
  }                                                                                                                \
  static const PositionLoops* position(const char* name) {                                                         \
    static constexpr Named<const PositionLoops*> table[] = {VK_POSITIONS(VK_POSITION_ENTRY)};                      \
    return of_likelihood(table, name);                                                                             \
  }                                                                                                                \
  static const PixelLoop* pixel(const char* name) {                                                                \
    static constexpr Named<const PixelLoop*> table[] = {VK_PIXELS(VK_PIXEL_ENTRY)};                                \
    return of_likelihood(table, name);                                                                             \
  }                                                                                                                \
  constexpr Kernels kernels = {#isa,          likelihood,          position,      pixel, row_loops, latent_loops,  \
                               mixture_loops, decomposition_loops, segments_loops};                                \
  }
VK_NAMESPACE(base)
#if defined(__x86_64__)
VK_NAMESPACE(avx2)
VK_NAMESPACE(avx512)
#endif

static Kernels choose() {
  const char* asked = std::getenv("VAE_KERNELS_ISA");
  auto wanted = [&](const char* isa, bool runs) { return runs && (!asked || !*asked || !std::strcmp(asked, isa)); };
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (wanted("avx512", avx512)) return avx512::kernels;
  if (wanted("avx2", avx2)) return avx2::kernels;
#endif
  if (wanted("base", true)) return base::kernels;
  throw std::runtime_error(std::string("VAE_KERNELS_ISA=") + asked +
                           " is not base, avx2 or avx512, or this processor does not run it");
}

const Kernels& kernels() {
  static const Kernels chosen = choose();
  return chosen;
}

bool is_row(const std::string& likelihood) {
#define VK_NAME(name, element) #name,
  for (const char* name : {VK_ROWS(VK_NAME)})
    if (likelihood == name) return true;
  return false;
}

const MixtureLoops& mixture_loops(bool float64) { return kernels().mixtures[float64]; }
const DecompositionLoops& decomposition_loops(bool float64) { return kernels().decompositions[float64]; }
const SegmentsLoops& segments_loops(bool float64) { return kernels().segments[float64]; }

}  // namespace vk
