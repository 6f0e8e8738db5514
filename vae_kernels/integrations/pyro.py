"""The classes of vae_kernels.distributions for Pyro's programs: with to_event, mask, expand_by and plates.

    import vae_kernels.integrations.pyro as dist     # in place of: import pyro.distributions as dist

    pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

The classes take the arguments of pyro.distributions, and our own (vae_kernels/distributions). Take all other
distributions from pyro.distributions. The same seed gives the samples of Pyro's own classes. This file needs Pyro
(`pip install "vae-kernels[pyro]"`). NumPyro uses JAX, and these kernels are for PyTorch: they do not work in NumPyro.
"""

from typing import TYPE_CHECKING, Any

try:
    from pyro.distributions.torch_distribution import TorchDistributionMixin
except ImportError as error:
    raise ImportError('pyro: not installed, expected pyro-ppl >= 1.9: pip install "vae-kernels[pyro]"') from error

from ..distributions import BY_LIKELIHOOD


def _with_mixin(made):
    space = {"__module__": __name__, "__doc__": made.__doc__}
    return type(made.__name__, (made, TorchDistributionMixin), space)


globals().update({made.__name__: _with_mixin(made) for made in BY_LIKELIHOOD.values()})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
