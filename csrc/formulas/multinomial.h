// -log Multinomial(x; softmax(logits)) of a row: vae_kernels/formulas/multinomial.py has the maths.
#pragma once
#include "formulas/poisson.h"

namespace vk {

// One element is a Poisson count whose log-rate is the logit, moved by log n - log sum e^logits. The value of the row
// is the sum of their values, less the value of the count n at its own rate n.
struct multinomial {
  using element = poisson;
};

}  // namespace vk
