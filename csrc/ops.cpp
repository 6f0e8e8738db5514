// Registration and nothing else: the schemas are defined in backends/compiled/schemas.py, the work in cpu/ and cuda/.
#include "cpu/ops.h"
#include "cpu/pool.h"
#include "torch_library.h"
#ifdef VK_CUDA
#include "cuda/ops.h"
#endif

namespace {
const vk::Library cpu = vk::Library("vae_kernels", "CPU", __FILE__, __LINE__)
                            .impl<&vk::elbo>("elbo")
                            .impl<&vk::elbo_backward>("elbo_backward")
                            .impl<&vk::sample>("sample")
                            .impl<&vk::sample_backward>("sample_backward")
                            .impl<&vk::levels>("levels")
                            .impl<&vk::levels_backward>("levels_backward")
                            .impl<&vk::mixture>("mixture")
                            .impl<&vk::mixture_backward>("mixture_backward");
const vk::Library any = vk::Library("vae_kernels", "CompositeExplicitAutograd", __FILE__, __LINE__)
                            .impl<&vk::set_pool_limit>("set_pool_limit")
                            .impl<&vk::pool_bytes>("pool_bytes");
#ifdef VK_CUDA
const vk::Library cuda = vk::Library("vae_kernels", "CUDA", __FILE__, __LINE__)
                             .impl<&vk::cuda::elbo>("elbo")
                             .impl<&vk::cuda::elbo_backward>("elbo_backward")
                             .impl<&vk::cuda::sample>("sample")
                             .impl<&vk::cuda::sample_backward>("sample_backward")
                             .impl<&vk::cuda::levels>("levels")
                             .impl<&vk::cuda::levels_backward>("levels_backward")
                             .impl<&vk::cuda::mixture>("mixture")
                             .impl<&vk::cuda::mixture_backward>("mixture_backward")
                             .impl<&vk::cuda::rescale_>("rescale_");
const vk::Library any_with_cuda = vk::Library("vae_kernels", "CompositeExplicitAutograd", __FILE__, __LINE__)
                                      .impl<&vk::cuda::check_device>("check_device");
#endif
}  // namespace
