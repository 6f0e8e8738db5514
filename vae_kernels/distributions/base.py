"""What all distributions share: the parameters in several forms, log_prob by the kernels, and the rest by torch.

A family states its forms, and a rule for each parameter that may not be given:

    forms = ((("loc",),), (("scale",), ("logvar",)))    # loc, and either scale or logvar

    @parameter
    def logvar(given: Any):
        return 2 * torch.log(given.scale)

A parameter is computed only when somebody reads it, and it is not kept. So two losses of one distribution have two
graphs, and each graph has its own backward pass.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch.distributions import Distribution, constraints, register_kl
from torch.distributions.kl import kl_divergence
from torch.distributions.utils import lazy_property
from typing_extensions import Self

from ..core import checks
from ..densities import log_prob
from ..formulas import Formula
from ..likelihoods import formula_of
from ..typing import Backend, LikelihoodLike

Value = torch.Tensor | float
"""The type of a parameter: a tensor, or a number."""

Form = tuple[str, ...]
"""The names of parameters that are given together."""


class parameter(lazy_property):  # torch does not check a lazy_property as an argument: it may not have been given
    """A parameter that is read as an attribute of a distribution, in its batch shape.

    The rule is used if the parameter was not given. The rule computes the parameter from the given ones.
    """

    def __get__(self, instance: Any, obj_type: Any = None) -> Any:
        if instance is None:
            return self
        value, name = getattr(_Given(instance), self.wrapped.__name__), self.wrapped.__name__
        dims = instance.arg_constraints[name].event_dim
        return value.expand(instance._batch_shape + value.shape[value.dim() - dims :])


def always_given(name: str) -> parameter:
    """A parameter without a rule: every form has it."""

    def rule(_):
        raise AttributeError(f"{name} is always given")

    rule.__name__ = name
    return parameter(rule)


class _Given:
    """The parameters of a distribution in the shapes in which they were given: one number for each gene stays one
    number for each gene, and its gradient is summed in the kernel."""

    def __init__(self, of: "FusedDistribution") -> None:
        self._of = of

    def __contains__(self, name: str) -> bool:
        return name in self._of._tensors

    def __getattr__(self, name: str) -> torch.Tensor:
        tensors = self._of._tensors
        return tensors[name] if name in tensors else getattr(type(self._of), name).wrapped(self)


class FusedDistribution(Distribution):
    """The base class of the distributions: log_prob is vk.log_prob.

    The parameters and the value broadcast against each other, as in torch.distributions. A parameter is a tensor or a
    number. validate_args=True (the default of torch) checks the parameters and the values. This check reads all of
    them. validate_args=False is faster, does not wait for a device, and works with torch.compile. `backend` is that of
    vk.log_prob.

    log_prob is float32, or float64 if a parameter is float64. A value of uint8 is a number, as in torch: vk.log_prob
    reads it as x / 255. Samples are drawn as torch draws them: the same seed gives the samples of torch.distributions.
    """

    likelihood: LikelihoodLike  # of the class; an instance with options of its own has another one
    arg_constraints: ClassVar[dict[str, Any]]  # type: ignore[assignment, misc]  # torch declares two properties here,
    support: ClassVar[Any]  # type: ignore[assignment, misc]  # and its own classes have plain attributes
    forms: ClassVar[tuple[tuple[Form, ...], ...]]
    """Groups of forms: exactly one form of each group is given."""
    torch_class: ClassVar[Callable[..., Distribution] | None] = None
    torch_forms: ClassVar[tuple[Form, ...]] = ()
    """The class in torch.distributions, and the forms that the class takes; the first is the default."""

    _given_together: ClassVar[set[frozenset[str]]] = set()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "forms"):
            cls._given_together = {frozenset().union(*choice) for choice in itertools.product(*cls.forms)}

    def __init__(self, given: Mapping[str, Value | None], backend: Backend, validate_args: bool | None) -> None:
        name = type(self).__name__
        found = {key: value for key, value in given.items() if value is not None}
        if frozenset(found) not in self._given_together:
            expected = "; ".join(" | ".join(" and ".join(form) for form in group) for group in self.forms)
            raise ValueError(f"{name}: got {', '.join(found) or 'no parameter'}, expected one of each: {expected}")
        self._tensors = _as_tensors(found)
        self.backend: Backend = backend
        shapes = {k: t.shape[: t.dim() - self.arg_constraints[k].event_dim] for k, t in self._tensors.items()}
        try:
            shape = _broadcast(*shapes.values())
        except RuntimeError as error:
            came = ", ".join(f"{key} {tuple(shape)}" for key, shape in shapes.items())
            raise ValueError(f"{name}: got the batch shapes {came}, expected shapes that broadcast") from error
        super().__init__(shape, validate_args=validate_args)
        if self._validate_args:
            for key, t in self._tensors.items():
                check_values(key, t, self.arg_constraints[key])

    @classmethod
    def from_recon(cls, parameters: Mapping[str, Any], **options: Any) -> Self:
        """The distribution of the parameters that a decoder gives for a likelihood, by their names."""
        return cls(**parameters, **options)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = type(self).__new__(type(self)) if _instance is None else _instance
        new.__dict__.update(self.__dict__)
        new._batch_shape = torch.Size(batch_shape)
        checks.broadcasts("the batch shape", self._batch_shape, "batch_shape", new._batch_shape)
        return new

    def __repr__(self) -> str:
        tensors = {name: getattr(self, name) for name in self._tensors}
        shown = (f"{k}: {t if t.numel() == 1 else t.size()}" for k, t in tensors.items())
        return f"{type(self).__name__}({', '.join(shown)})"

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """log p(value) in nats, of the broadcast shape of value and batch_shape."""
        if self._validate_args:
            self._validate_sample(value)
        return self._log_prob(value)

    def _log_prob(self, value):
        if not isinstance(value, torch.Tensor):  # without checks torch takes a number too
            value = torch.as_tensor(value, device=self._device)
        if value.dtype == torch.uint8 and self._formula.SUPPORT not in ("counts", "levels"):
            value = value.to(self._dtype)
        shape = _broadcast(value.shape, self._batch_shape)
        first, *others = self._kernel_parameters()
        sizes = shape or (1,)
        recon = (first.expand(sizes), *others)
        terms = log_prob(recon, value.expand(sizes), likelihood=self.likelihood, backend=self.backend)
        return terms if shape else terms.reshape(())

    @property
    def _formula(self) -> Formula:
        return formula_of(self.likelihood)

    @property
    def _dtype(self) -> torch.dtype:
        return next(iter(self._tensors.values())).dtype

    @property
    def _device(self) -> torch.device:
        return next(iter(self._tensors.values())).device

    def _kernel_parameters(self):
        """The parameters of the formula, not expanded."""
        given = _Given(self)
        return [getattr(given, name) for name in self._formula.PARAMETERS]

    def as_torch(self) -> Distribution:
        """The same distribution as an object of torch.distributions. NotImplementedError if torch has no such class."""
        made = type(self).torch_class
        if made is None:
            raise NotImplementedError(f"{type(self).__name__}: torch.distributions has no such class")
        given = [form for form in self.torch_forms if all(name in self._tensors for name in form)]
        names = (given or self.torch_forms)[0]
        return made(**{name: getattr(self, name) for name in names}, validate_args=False)

    @property
    def mean(self) -> torch.Tensor:
        return self._formula.mean(*(getattr(self, name) for name in self._formula.PARAMETERS))

    @property
    def mode(self) -> torch.Tensor:
        return self.as_torch().mode

    @property
    def variance(self) -> torch.Tensor:
        return self.as_torch().variance

    def sample(self, sample_shape: Any = torch.Size()) -> torch.Tensor:  # noqa: B008 - torch's default, which is immutable
        with torch.no_grad():
            return self.rsample(sample_shape) if self.has_rsample else self.as_torch().sample(sample_shape)

    def rsample(self, sample_shape: Any = torch.Size()) -> torch.Tensor:  # noqa: B008
        return self.as_torch().rsample(sample_shape)

    def entropy(self) -> torch.Tensor:
        return self.as_torch().entropy()

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        return self.as_torch().cdf(value)

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        return self.as_torch().icdf(value)

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        return self.as_torch().enumerate_support(expand)


def register_torch(made: type[FusedDistribution]) -> None:
    """Let kl_divergence take the classes of torch beside ours. torch has the formulas."""
    if made.torch_class is not None:
        register_kl(FusedDistribution, made.torch_class)(lambda p, q: kl_divergence(p.as_torch(), q))
        register_kl(made.torch_class, FusedDistribution)(lambda p, q: kl_divergence(p, q.as_torch()))


@register_kl(FusedDistribution, FusedDistribution)
def _kl_of_torch(p, q):
    return kl_divergence(p.as_torch(), q.as_torch())


def log_of(t: torch.Tensor) -> torch.Tensor:
    """log(t) for t >= 0. The logarithm of 0 is the most negative finite number, with a gradient of 0.

    The kernels take finite numbers. With -inf, a count of 0 beside a rate of 0 would be 0 * inf; and torch's own
    logarithm has the gradient 0 * inf there.
    """
    zero = t == 0
    return torch.where(zero, torch.finfo(t.dtype).min, torch.log(torch.where(zero, 1, t)))


def logit_of(probs: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)), without an eps. For p = 0 and p = 1 the largest finite numbers, with a gradient of 0."""
    edge = (probs == 0) | (probs == 1)
    largest = torch.where(probs == 1, 1.0, -1.0).to(probs.dtype) * torch.finfo(probs.dtype).max
    return torch.where(edge, largest, torch.logit(torch.where(edge, 0.5, probs)))


def _broadcast(first, *others):
    """torch.broadcast_shapes, which takes longer. Most shapes are equal."""
    return first if all(shape == first for shape in others) else torch.broadcast_shapes(first, *others)


def _as_tensors(found):
    """The parameters as floating tensors. A number gets the dtype and device of the first tensor. Integers become the
    default dtype."""
    tensors = [value for value in found.values() if isinstance(value, torch.Tensor)]
    like = tensors[0] if tensors else torch.zeros(())
    dtype = like.dtype if like.dtype.is_floating_point else torch.get_default_dtype()
    out = {}
    for name, value in found.items():
        if isinstance(value, torch.Tensor):
            out[name] = value if value.dtype.is_floating_point else value.to(dtype)
        elif isinstance(value, (int, float)):
            out[name] = torch.full((), value, dtype=dtype, device=like.device)
        else:
            raise TypeError(f"{name}: got {type(value).__name__}, expected a tensor or a number")
    return out


def check_values(name: str, t: torch.Tensor, constraint: Any) -> None:
    """ValueError if a value of the parameter `name` does not satisfy the constraint."""
    if t.numel() == 0:
        return
    valid = constraint.check(t)
    if not valid.all():
        raise ValueError(f"{name}: got {t[~valid][:5].tolist()}, expected values that satisfy {constraint}")


real, positive, nonnegative = constraints.real, constraints.positive, constraints.nonnegative
