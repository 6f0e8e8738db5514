"""The likelihoods as distributions: objects of torch.distributions, whose log_prob is vk.log_prob.

    p = vk.distributions.NegativeBinomial(mu=mu, theta=theta)
    loss = -p.log_prob(x).sum(1).mean()

A file of this folder has the class of one likelihood. The file in formulas/ with the same stem has its formula. The
class names the likelihood in its attribute `likelihood`. There is no other list. The classes work in Independent,
MixtureSameFamily and TransformedDistribution. vae_kernels.integrations.pyro has the same classes for Pyro.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from ..formulas import ALL
from .base import FusedDistribution, register_torch


def _class_in(name):
    module = import_module(f"{__name__}.{name}")
    (found,) = (
        made for made in vars(module).values() if isinstance(made, type) and vars(made).get("likelihood") == name
    )
    return found


BY_LIKELIHOOD: dict[str, type[FusedDistribution]] = {
    module.name: _class_in(module.name) for module in iter_modules(__path__) if module.name in ALL
}
"""{the name of a likelihood: its class}"""

FusedDistribution.__module__ = __name__
for _made in BY_LIKELIHOOD.values():
    _made.__module__ = __name__  # a pickle then has the public name
    register_torch(_made)
    globals()[_made.__name__] = _made

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
