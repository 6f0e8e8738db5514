"""The formulas: element-wise maths in plain PyTorch, one file each, right in float64 and differentiable to any order.

A likelihood is a module with ``PARAMETERS`` (names, in order), ``DEFAULTS`` (values of parameters that may be left
out), ``SUPPORT`` (closed interval of valid targets, None for the whole line, or "counts" for 0, 1, 2, ..., which are
also read from integers as they are), ``nll(x, *parameters)`` and ``mean(*parameters)``.
"""

from importlib import import_module

LIKELIHOODS = {
    name: import_module(f"{__name__}.{name}")
    for name in (
        "bernoulli",
        "gaussian",
        "poisson",
        "negative_binomial",
        "zinb",
        "laplace",
        "continuous_bernoulli",
        "discretized_logistic",
    )
}
