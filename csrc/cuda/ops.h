// The ops on the GPU: ../ops.h makes the requests.
#pragma once
#include "mixture_request.h"
#include "pixel_request.h"
#include "request.h"
#include "segments_request.h"

namespace vk::cuda {

Tensors elbo(const Objective&, bool terms, double expected);
Tensors elbo_backward(const Tensor& grad, const Objective&);
Tensor log_prob(const Objective&);
void correct_(Tensors grads, const Tensor& grad, double expected, const Objective&);
Tensors sample(const Draw&, bool with_kl);
Tensors sample_backward(const OptionalTensor& grad_z, const OptionalTensor& grad_kl, const Draw&, Need, bool packed);
Tensors position(const PositionRequest&);
Tensor position_backward(const Tensor& grad, const PositionRequest&, const Tensor& top_and_total);
Tensors pixel(const PixelRequest&, bool ahead, double expected);
Tensor pixel_backward(const Tensor& grad, const PixelRequest&);
void pixel_correct_(const Tensor& out, const Tensor& grad, double expected, const PixelRequest&);
Tensor pixel_log_prob(const PixelRequest&);
Tensors segments(const SegmentsRequest&, Need, double expected);
Tensors segments_backward(const Tensor& grad, const SegmentsRequest&, Need);
Tensors mixture(const MixtureRequest&, Need);
Tensors mixture_backward(const Tensor& grad, const MixtureRequest&, const Tensor& peak, const Tensor& log_sum, Need);
void rescale_(const Tensors& tensors, const Tensor& factor);
void check_device(int64_t device);

}  // namespace vk::cuda
