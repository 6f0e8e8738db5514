// Registration and nothing else: the schemas are defined in backends/compiled/schemas.py, the work in cpu/ and cuda/.
#include "ops.h"

#include "cpu/ops.h"
#include "cpu/pool.h"
#ifdef VK_CUDA
#include "cuda/ops.h"
#endif

namespace {
const vk::Library cpu =
    vk::Library("vae_kernels", "CPU", __FILE__, __LINE__)
        .impl<&vk::elbo_op<&vk::elbo>>("elbo")
        .impl<&vk::elbo_backward_op<&vk::elbo_backward>>("elbo_backward")
        .impl<&vk::log_prob_op<&vk::log_prob>>("log_prob")
        .impl<&vk::one_number>("one_number")
        .impl<&vk::sample_op<&vk::sample>>("sample")
        .impl<&vk::sample_backward_op<&vk::sample_backward>>("sample_backward")
        .impl<&vk::position_op<&vk::position>>("position")
        .impl<&vk::position_backward_op<&vk::position_backward>>("position_backward")
        .impl<&vk::pixel_op<&vk::pixel>>("pixel")
        .impl<&vk::pixel_backward_op<&vk::pixel_backward>>("pixel_backward")
        .impl<&vk::pixel_log_prob_op<&vk::pixel_log_prob>>("pixel_log_prob")
        .impl<&vk::segments_op<&vk::segments>>("segments")
        .impl<&vk::segments_backward_op<&vk::segments_backward>>("segments_backward")
        .impl<&vk::mixture_op<&vk::mixture>>("mixture")
        .impl<&vk::mixture_backward_op<&vk::mixture_backward>>("mixture_backward")
        .impl<&vk::decomposition_op<&vk::decomposition>>("decomposition")
        .impl<&vk::decomposition_backward_op<&vk::decomposition_backward>>("decomposition_backward");
const vk::Library any = vk::Library("vae_kernels", "CompositeExplicitAutograd", __FILE__, __LINE__)
                            .impl<&vk::set_pool_limit>("set_pool_limit")
                            .impl<&vk::pool_bytes>("pool_bytes");
#ifdef VK_CUDA
const vk::Library cuda = vk::Library("vae_kernels", "CUDA", __FILE__, __LINE__)
                             .impl<&vk::elbo_op<&vk::cuda::elbo>>("elbo")
                             .impl<&vk::elbo_backward_op<&vk::cuda::elbo_backward>>("elbo_backward")
                             .impl<&vk::log_prob_op<&vk::cuda::log_prob>>("log_prob")
                             .impl<&vk::sample_op<&vk::cuda::sample>>("sample")
                             .impl<&vk::sample_backward_op<&vk::cuda::sample_backward>>("sample_backward")
                             .impl<&vk::position_op<&vk::cuda::position>>("position")
                             .impl<&vk::position_backward_op<&vk::cuda::position_backward>>("position_backward")
                             .impl<&vk::pixel_op<&vk::cuda::pixel>>("pixel")
                             .impl<&vk::pixel_backward_op<&vk::cuda::pixel_backward>>("pixel_backward")
                             .impl<&vk::pixel_correct_op<&vk::cuda::pixel_correct_>>("pixel_correct_")
                             .impl<&vk::pixel_log_prob_op<&vk::cuda::pixel_log_prob>>("pixel_log_prob")
                             .impl<&vk::segments_op<&vk::cuda::segments>>("segments")
                             .impl<&vk::segments_backward_op<&vk::cuda::segments_backward>>("segments_backward")
                             .impl<&vk::mixture_op<&vk::cuda::mixture>>("mixture")
                             .impl<&vk::mixture_backward_op<&vk::cuda::mixture_backward>>("mixture_backward")
                             .impl<&vk::cuda::rescale_>("rescale_")
                             .impl<&vk::correct_op<&vk::cuda::correct_>>("correct_");
const vk::Library any_with_cuda = vk::Library("vae_kernels", "CompositeExplicitAutograd", __FILE__, __LINE__)
                                      .impl<&vk::cuda::check_device>("check_device");
#endif
}  // namespace
