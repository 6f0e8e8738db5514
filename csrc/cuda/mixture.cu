// The launches of a mixture.
#include "mixture_backward.h"

namespace vk::cuda {

#define VK_LAUNCH(name, Kernel)                                                                                \
  Launched name(const MixtureJob& job, bool float64, int64_t blocks, void* stream) {                           \
    return float64 ? launch<Kernel<double>>(job, blocks, stream) : launch<Kernel<float>>(job, blocks, stream); \
  }
VK_LAUNCH(mixture_pack_kernel, MixturePack)
VK_LAUNCH(mixture_forward_kernel, MixtureForward)
VK_LAUNCH(mixture_join_kernel, MixtureJoin)
VK_LAUNCH(mixture_backward_kernel, MixtureBackward)
VK_LAUNCH(mixture_finish_kernel, MixtureFinish)
#undef VK_LAUNCH

}  // namespace vk::cuda
