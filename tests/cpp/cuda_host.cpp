// Runs csrc/cuda without a GPU, for tests/gpu/test_cuda_host.py. A plain C++ compiler compiles the glue of the ops and
// the source of the kernels, and a launch is a loop over blocks, phases and threads. The ops are those of vae_kernels,
// registered for CPU tensors under a name of their own.
#include "cuda/launch.h"
#include "cuda/ops.h"
#include "cuda/plan.h"
#include "formulas/all.h"
#include "ops.h"

namespace vk {

// cpu/dispatch.cpp has this function too, which is not in this library.
bool is_row(const std::string& likelihood) {
#define VK_NAME(name, element) #name,
  for (const std::string name : {"", VK_ROWS(VK_NAME)})
    if (likelihood == name && name != "") return true;
  return false;
}

}  // namespace vk

namespace vk::cuda {

bool backwards = false;
static bool tickets = true;

// One counter is enough, because only one launch runs at a time. The counter must be 0 between two launches.
unsigned counter = 0;

unsigned* ticket(int, void*) {
  VK_CHECK(counter == 0, "the last block of an earlier launch has left ", counter, " in the counter");
  return tickets ? &counter : nullptr;
}

// Sets how all later launches run: in which order, and whether there are tickets.
static void set_mode(bool run_backwards, bool with_tickets) {
  backwards = run_backwards;
  tickets = with_tickets;
}

}  // namespace vk::cuda

namespace {
const vk::Library library = vk::Library("vae_kernels_cuda_host", "CPU", __FILE__, __LINE__)
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
                                .impl<&vk::correct_op<&vk::cuda::correct_>>("correct_")
                                .impl<&vk::cuda::rescale_>("rescale_");
const vk::Library any = vk::Library("vae_kernels_cuda_host", "CompositeExplicitAutograd", __FILE__, __LINE__)
                            .impl<&vk::cuda::set_mode>("set_mode");
}  // namespace
