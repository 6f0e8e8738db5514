// The likelihoods, one line each: csrc/formulas/<name>.h holds struct vk::<name>. formula.h says what a kind is.
// setup.py reads these lists too. Only cpu/dispatch.cpp and cuda/dispatch.cpp include this file, so that a new line
// rebuilds no kernel of another likelihood.
#pragma once
// the element kind
#define VK_LIKELIHOODS(X) \
  X(bernoulli)            \
  X(gaussian)             \
  X(poisson)              \
  X(negative_binomial)    \
  X(zinb)                 \
  X(laplace)              \
  X(continuous_bernoulli) \
  X(discretized_logistic) \
  X(bernoulli_product)    \
  X(negative_binomial_mixture)

// the row kind, each with the formula of an element
#define VK_ROWS(X) X(multinomial, poisson)

// the position kind
#define VK_POSITIONS(X) X(categorical)

// the pixel kind
#define VK_PIXELS(X) X(discretized_logistic_mixture)
