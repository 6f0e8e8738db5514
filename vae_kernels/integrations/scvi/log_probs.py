# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Our kernels compute log p of counts inside scvi-tools, for every model that trains with scvi-tools' own
distributions.

    from vae_kernels.integrations.scvi import patch

    with patch():
        scvi.model.SCANVI(adata, ...).train()

scvi-tools' NegativeBinomial, ZeroInflatedNegativeBinomial, NegativeBinomialMixture and Poisson compute log_prob with
functions of scvi-tools. patch() puts functions with the same arguments in the place of these functions. It changes only
names inside scvi-tools' modules. attach() is faster: its kernels also sum over the genes, and do not store log p of
each gene.

scvi-tools adds `eps` to means and dispersions. Our functions add nothing: a mean of 0 counts as the smallest normal
number. So log p differs where a mean or a dispersion is as small as eps, 1e-8.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import softplus

from ...backends import available_backends
from ...core.checks import choice
from ...densities import log_prob
from ...typing import Backend, LikelihoodName

_FIRST = ("x", "mu", "theta"), ("x", "mu", "theta", "pi"), ("x", "mu_1", "mu_2", "theta_1", "theta_2", "pi_logits")
_NAMES = "log_nb_positive", "log_zinb_positive", "log_mixture_nb"
_MARK = "_vae_kernels_original"


class patch:
    """Put our log_prob of counts into scvi-tools at once. It stays there until remove(), or until the end of a with
    block.

        patched = patch()           # or: with patch() as patched:
        print(patched.replaced)     # the names that were replaced
        patched.remove()

    Args:
        backend: as in vk.log_prob.

    Raises:
        RuntimeError: if scvi-tools is patched already, or if remove() is called twice.
        ImportError: if scvi-tools is not installed, or if it has no functions with these names and arguments.
    """

    replaced: list[str]
    """The full names that were replaced."""

    def __init__(self, *, backend: Backend = "auto") -> None:
        choice("backend", backend, ("auto", *available_backends()))
        originals = _originals()
        if any(hasattr(function, _MARK) for function in originals.values()):
            raise RuntimeError("patch: scvi-tools is patched already; call remove() of the first patch before")
        makers = (_negative_binomial, _zero_inflated, _mixture, _poisson)
        self._ours = {o: _marked(o, make(backend, o)) for o, make in zip(originals.values(), makers, strict=True)}
        self.replaced = _replace(self._ours)
        self._inherited = "log_prob" not in vars(_class_of_poisson())
        if self._inherited:
            _class_of_poisson().log_prob = self._ours[originals["Poisson.log_prob"]]
            self.replaced.append("scvi.distributions.Poisson.log_prob")

    def remove(self) -> None:
        """Put scvi-tools' own functions back, also into modules that were imported after patch()."""
        if not self._ours:
            raise RuntimeError("remove: this patch was removed already")
        if self._inherited:
            del _class_of_poisson().log_prob  # it is that of torch's Poisson again
        _replace({ours: original for original, ours in self._ours.items()})
        self._ours = {}

    def __enter__(self) -> "patch":
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"patch(replaced: {', '.join(self.replaced)})" if self._ours else "patch(removed)"


def _class_of_poisson():
    from scvi.distributions import Poisson

    return Poisson


def _originals() -> dict[str, Callable[..., Any]]:
    """scvi-tools' functions by name, and the method of its Poisson."""
    try:
        from scvi.distributions import _negative_binomial
    except ImportError as error:
        raise ImportError(f'scvi-tools: {error}; expected scvi-tools: pip install "vae-kernels[scvi]"') from error
    found: dict[str, Callable[..., Any]] = {}
    for name, first in zip(_NAMES, _FIRST, strict=True):
        function = getattr(_negative_binomial, name, None)
        if function is None or tuple(inspect.signature(function).parameters)[: len(first)] != first:
            raise ImportError(f"scvi-tools: expected a function {name}{first}; this version is not known here")
        found[name] = function
    return found | {"Poisson.log_prob": _class_of_poisson().log_prob}


def _replace(new):
    """Put new[f] in the place of each function f, wherever a module of scvi-tools has f. The names of the places."""
    modules = [m for name, m in sorted(sys.modules.items()) if name == "scvi" or name.startswith("scvi.")]
    replaced = []
    for place in (*modules, _class_of_poisson()):
        for name, value in list(vars(place).items()):
            if inspect.isfunction(value) and value in new:
                setattr(place, name, new[value])
                full = f"{place.__module__}.{place.__name__}" if isinstance(place, type) else place.__name__
                replaced.append(f"{full}.{name}")
    return replaced


def _marked(original, ours):
    """ours, with the signature and the docstring of the original."""
    ours = functools.wraps(original)(ours)
    setattr(ours, _MARK, original)
    return ours


def _negative_binomial(backend, original):
    def log_nb_positive(x, mu, theta, *rest, **options):
        if not _taken(x, mu, theta):
            return original(x, mu, theta, *rest, **options)
        return _log_prob("negative_binomial", x, (_log(mu), _log(theta)), backend)

    return log_nb_positive


def _zero_inflated(backend, original):
    def log_zinb_positive(x, mu, theta, pi, *rest, **options):
        if not _taken(x, mu, theta, pi):
            return original(x, mu, theta, pi, *rest, **options)
        return _log_prob("zinb", x, (_log(mu), _log(theta), pi), backend)

    return log_zinb_positive


def _mixture(backend, original):
    def log_mixture_nb(x, mu_1, mu_2, theta_1, theta_2, pi_logits, *rest, **options):
        if not _taken(x, mu_1, mu_2, theta_1, theta_1 if theta_2 is None else theta_2, pi_logits):
            return original(x, mu_1, mu_2, theta_1, theta_2, pi_logits, *rest, **options)
        return negative_binomial_mixture(x, mu_1, mu_2, theta_1, theta_2, pi_logits, backend)

    return log_mixture_nb


def negative_binomial_mixture(x, mu_1, mu_2, theta_1, theta_2, pi_logits, backend):
    """log p of scvi-tools' NegativeBinomialMixture, element by element. theta_2 None: both have theta_1."""
    if theta_2 is None:
        params = _log(mu_1), _log(mu_2), _log(theta_1), pi_logits
        return _log_prob("negative_binomial_mixture", x, params, backend)
    first, second = (  # of two inverse dispersions, which no model of scvi-tools has
        _log_prob("negative_binomial", x, (_log(mu), _log(theta)), backend)
        for mu, theta in ((mu_1, theta_1), (mu_2, theta_2))
    )
    return torch.logaddexp(first, second - pi_logits) - softplus(-pi_logits)


def _poisson(backend, original):
    def log_prob_of_poisson(self, value):
        if not _taken(value, self.rate):
            return original(self, value)
        if self._validate_args:
            self._validate_sample(value)
        return _log_prob("poisson", value, (_log(self.rate),), backend)

    return log_prob_of_poisson


def _taken(*tensors):
    """Whether these are tensors with a dimension. scvi-tools calls some functions with arrays of JAX."""
    return all(isinstance(t, torch.Tensor) for t in tensors) and any(t.dim() for t in tensors)


def _log(t):
    """log(t); a mean that is 0 counts as the smallest normal number, and has a gradient of 0."""
    return torch.log(t.clamp(min=torch.finfo(t.dtype).tiny))


def _log_prob(likelihood: LikelihoodName, x, params, backend):
    shape = torch.broadcast_shapes(x.shape, *(p.shape for p in params))
    first, *others = params
    return log_prob((first.expand(shape), *others), x.expand(shape), likelihood=likelihood, backend=backend)
