// The likelihoods, one line each: csrc/formulas/<name>.h holds struct vk::<name>. setup.py reads this list too. Only
// cpu/dispatch.cpp and cuda/dispatch.cpp include the list, so that a new line rebuilds no kernel of another likelihood.
#pragma once
#define VK_LIKELIHOODS(X) \
  X(bernoulli)            \
  X(gaussian)             \
  X(poisson)              \
  X(negative_binomial)    \
  X(zinb)                 \
  X(laplace)              \
  X(continuous_bernoulli) \
  X(discretized_logistic)
