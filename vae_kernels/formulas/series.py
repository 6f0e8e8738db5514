"""A series that several formulas need near the point where their closed form is 0 / 0."""

import torch

# B_2n / (2n)! for n = 1 to 12; B_2n are the Bernoulli numbers
_COEFFICIENTS = (
    1 / 12,
    -1 / 720,
    3.3068783068783068783e-05,
    -8.2671957671957671958e-07,
    2.0876756987868098979e-08,
    -5.2841901386874931848e-10,
    1.3382536530684678833e-11,
    -3.3896802963225828668e-13,
    8.5860620562778445641e-15,
    -2.174868698558061873e-16,
    5.5090028283602295152e-18,
    -1.3954464685812523341e-19,
)


def truncated_mean(a):
    """1 / (1 - e^-a) - 1 / a for |a| <= 1: the mean of the density on [0, 1] that is proportional to e^{at}.

        1/2 + sum_n B_2n / (2n)! a^{2n-1}        (Abramowitz & Stegun 4.5.67, at a / 2, halved)

    The series converges for |a| < 2 pi. For |a| <= 1 each term is at most 1/39 of the term before, so twelve terms
    reach 1e-20.
    """
    square = a * a
    p = _COEFFICIENTS[-1]
    for c in _COEFFICIENTS[-2::-1]:
        p = p * square + c
    return a * p + 0.5


def truncated_variance(a):
    """1 / a^2 - e^a / (e^a - 1)^2: the variance of the density on [0, 1] that is proportional to e^{at}, for any a.

    It is the derivative of the mean. For |a| <= 1 the series of truncated_mean is differentiated term by term.
    """
    near = a.abs() <= 1
    square = torch.where(near, a, 0).square()
    p = 0.0
    for n in range(len(_COEFFICIENTS), 0, -1):
        p = p * square + (2 * n - 1) * _COEFFICIENTS[n - 1]
    size = torch.where(near, 1, a.abs())
    return torch.where(near, p, 1 / size.square() - torch.exp(-size) / torch.expm1(-size).square())
