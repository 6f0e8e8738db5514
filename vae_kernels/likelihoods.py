"""The likelihoods as objects, for `likelihood=`: Gaussian() means the same as the name "gaussian".

    vk.fused_elbo((loc, logvar), x, mu, logvar_z, likelihood=vk.likelihoods.Gaussian())

The classes are made here, one for each formula of formulas/, so there is no second list of likelihoods. A class has the
name of its formula in CamelCase, or the name that the formula gives as CLASS. A class has the options that its formula
gives as OPTIONS, {name: default}.

The parameters that a decoder predicts are not options: they are `recon`, and by_name() reads these parameters.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from typing_extensions import Self

from .formulas import ALL, SEGMENTS, Formula, mixed
from .formulas.columns import Column, Columns, parsed
from .typing import LikelihoodLike, Recon

if TYPE_CHECKING:
    from .distributions import FusedDistribution


@dataclasses.dataclass(frozen=True, repr=False)
class Likelihood:
    """One likelihood and its options: the base class of the objects that `likelihood=` takes.

    Two objects are equal if they have the same class and equal options. Equal objects have equal hashes. An object
    cannot be changed. An object holds no tensor: a learned scale is part of `recon`, or is `obs_logvar`. An object can
    be pickled, and is a constant to torch.compile. repr() gives the text that makes the object again.
    """

    name: ClassVar[str] = ""
    """The name that `likelihood=` takes in place of the object with default options."""
    options: ClassVar[tuple[str, ...]] = ()
    """The names of the options."""

    def __post_init__(self) -> None:
        checked = getattr(ALL.get(self.name), "checked", None)
        for option, value in (checked(**options_by_name(self)) if checked else {}).items():
            object.__setattr__(self, option, value)

    def __repr__(self) -> str:
        options = ", ".join(f"{option}={value!r}" for option, value in dataclasses.asdict(self).items())
        return f"vk.likelihoods.{type(self).__name__}({options})"

    def to_dict(self) -> dict[str, Any]:
        """The name and the options, {"name": "gaussian"}: a dict for json. from_dict() makes the object again."""
        return {"name": self.name, **dataclasses.asdict(self)}

    @classmethod
    def from_options(cls, *options: Any) -> Self:
        """The object with the options that options_of() gave."""
        return cls(*options)

    def distribution(self, recon: Recon, **settings: Any) -> "FusedDistribution":
        """The distribution of x as an object of vae_kernels.distributions: a torch.distributions.Distribution.

        recon is that of fused_elbo: a tensor, a tuple or a mapping. batch_shape is the shape of x. settings are
        validate_args and backend of the class. ValueError as in fused_elbo.
        """
        from .distributions import BY_LIKELIHOOD  # the classes there need this module

        if self.name not in BY_LIKELIHOOD:
            raise ValueError(f"likelihood: {self.name!r} has no distribution, expected one of {_listed(BY_LIKELIHOOD)}")
        parameters = {**ALL[self.name].DEFAULTS, **by_name(recon, self)}
        return BY_LIKELIHOOD[self.name].from_recon(parameters, **dataclasses.asdict(self), **settings)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """The object of a dict that to_dict() gave: Likelihood.from_dict({"name": "gaussian"}) is Gaussian().

        ValueError for an unknown name and for an unknown option. The class of one likelihood takes the dicts of this
        likelihood only.
        """
        classes = {made.name: made for made in _CLASSES if issubclass(made, cls)}
        if not isinstance(state, Mapping) or state.get("name") not in classes:
            expected = f'a dict whose "name" is one of {", ".join(map(repr, classes))}'
            raise ValueError(f"state: got {state!r}, expected {expected}")
        options = {key: value for key, value in state.items() if key != "name"}
        made = classes[state["name"]]
        known = [field.name for field in dataclasses.fields(made)]
        if not options.keys() <= set(known):
            expected = f"those of {made.__name__}: {_listed(known) or None}"
            raise ValueError(f"state: got the options {_listed(options)}, expected {expected}")
        return made(**options)


def _listed(names):
    return ", ".join(map(repr, names))


def _class_of(name, formula):
    """The class of the likelihood with this name and formula."""
    title = getattr(formula, "CLASS", None) or "".join(part.capitalize() for part in name.split("_"))
    options = getattr(formula, "OPTIONS", {}).items()
    fields = [(option, type(default), dataclasses.field(default=default)) for option, default in options]
    text = f'The likelihood "{name}" of the parameters {", ".join(formula.PARAMETERS)}.\n\n{formula.__doc__}'
    space = {"name": name, "options": tuple(dict(options)), "__doc__": text, "__module__": __name__}
    return dataclasses.make_dataclass(title, fields, bases=(Likelihood,), namespace=space, frozen=True, repr=False)


@dataclasses.dataclass(frozen=True, repr=False)
class Mixed(Likelihood):
    """The likelihood of a table whose columns are of different kinds: formulas/mixed.py has the formula.

        table = vk.likelihoods.Mixed(["gaussian", ("gaussian", "tanh"), ("categorical", 5), "bernoulli", "poisson"])
        loss = vk.fused_elbo((packed, logscale), x, mu, logvar, likelihood=table)

    columns: a sequence. Each column is "gaussian", "laplace", "poisson", "negative_binomial", "bernoulli",
             ("categorical", K), or ("gaussian", "tanh") or ("laplace", "tanh"), whose location is the tanh of the
             decoder's number.
    codes:   False: x [B, width] is one-hot, K numbers for a categorical column, of which one is 1 and the others are 0.
             True: x [B, columns] has the code 0..K-1 of the category. All other columns are one number in both forms.

    recon is (packed, logscale): packed [B, width] has K logits for each categorical column and one number for each
    other column; logscale is [columns], [B, columns], or broadcasts to [B, columns], and may be left out (0). The terms
    are [B, columns], and so is the weight: False where a cell is missing. uint8 is not scaled.
    """

    columns: tuple[Column, ...]
    codes: bool = False

    name: ClassVar[str] = "mixed"
    options: ClassVar[tuple[str, ...]] = ("plan",)  # what the formula takes

    def __post_init__(self) -> None:
        if not isinstance(self.codes, bool):
            raise TypeError(f"codes: got {self.codes!r}, expected True or False")
        object.__setattr__(self, "columns", parsed(self.columns))
        object.__setattr__(self, "plan", Columns(self.columns, self.codes))

    plan: ClassVar[Columns]  # of the instance, and no field: two equal objects have two plans

    @classmethod
    def from_options(cls, plan: Columns) -> Self:
        return cls(plan.given, plan.codes)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.columns, self.codes)

    @property
    def width(self) -> int:
        """How many numbers the decoder gives for a row: the second size of `packed`."""
        return self.plan.width

    def join(self, numbers: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Make x [B, columns] from two tensors: numbers [B, .] holds the columns without categories, and codes [B, .],
        of any integer type, holds the codes of the columns with categories. Each tensor has its columns in the order of
        the table.

        x is float64 if numbers is float64, else float32, which holds every code. ValueError or TypeError if a tensor
        does not fit the columns."""
        from .core import segments  # core needs this module

        return segments.joined(numbers, codes, self.plan)

    def mean(self, recon: Recon) -> torch.Tensor:
        """E[x], in the shape of x. A categorical column has the probabilities of its categories. With codes, it has the
        code of the most probable category."""
        packed, _ = self._parts(recon)
        return mixed.mean(packed, self.plan)

    def sample(self, recon: Recon, generator: torch.Generator | None = None) -> torch.Tensor:
        """One draw of x for each row of recon, in the shape of x. The draw has no gradient."""
        packed, logscale = self._parts(recon)
        with torch.no_grad():
            return mixed.sample(packed, logscale, self.plan, generator)

    def _parts(self, recon):
        """packed, and logscale [C] or [B, C], in the type that they are computed in."""
        from .core import segments  # core needs this module

        packed, logscale = segments.parameters(recon, self)
        dtype = torch.promote_types(torch.promote_types(packed.dtype, logscale.dtype), torch.float32)
        return packed.to(dtype), logscale.to(dtype)

    def distribution(self, recon: Recon, **settings: Any) -> "FusedDistribution":
        """ValueError: a table has no distribution. mean() and sample() give what a distribution would."""
        raise ValueError("likelihood: 'mixed' has no distribution; its mean(recon) and sample(recon) give tables")


_CLASSES = (*(_class_of(name, formula) for name, formula in ALL.items()), Mixed)
globals().update({made.__name__: made for made in _CLASSES})

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[Likelihood]: ...


def name_of(likelihood: LikelihoodLike) -> str:
    """The name of a likelihood that is a name or an object."""
    return likelihood if isinstance(likelihood, str) else likelihood.name


def options_of(likelihood: LikelihoodLike) -> tuple[Any, ...]:
    """The options of a likelihood, in the order in which its formula takes the options. () for a name."""
    return tuple(options_by_name(likelihood).values())


def options_by_name(likelihood: LikelihoodLike) -> dict[str, Any]:
    """{option: value} of a likelihood. {} for a name."""
    return {} if isinstance(likelihood, str) else {name: getattr(likelihood, name) for name in likelihood.options}


def with_options(name: Any, options: tuple[Any, ...]) -> LikelihoodLike:
    """The object of the likelihood with this name and these options_of(), or the name if there are no options."""
    return next(made for made in _CLASSES if made.name == name).from_options(*options) if options else name


def formula_of(likelihood: LikelihoodLike) -> Formula:
    """The module in formulas/ of a likelihood that is a name or an object."""
    name = name_of(likelihood)
    return ALL[name] if name in ALL else cast(Formula, SEGMENTS[name])


def by_name(recon: Recon, likelihood: LikelihoodLike) -> dict[str, Any]:
    """{parameter: value} for the parameters in recon, in the likelihood's order of parameters.

    recon is the first parameter, a tuple of parameters in the likelihood's order, or a mapping {parameter: value}. A
    mapping may leave out any parameter that has a default. A tuple may leave out the last parameters, if they have
    defaults. A parameter that is left out is not in the result. ValueError for an unknown parameter, for too many
    parameters, and for a missing parameter.
    """
    name = name_of(likelihood)
    formula = formula_of(likelihood)
    names = formula.PARAMETERS
    if isinstance(recon, (tuple, list)):
        if not 1 <= len(recon) <= len(names):
            raise ValueError(f"recon: got {len(recon)} tensors, expected the {name} parameters {', '.join(names)}")
        found = dict(zip(names, recon))  # noqa: B905 - there are fewer values than names if the last are left out
    elif isinstance(recon, Mapping):
        if not recon or any(key not in names for key in recon):
            came = f"the keys {_listed(recon)}" if recon else "a mapping without keys"
            raise ValueError(f"recon: got {came}, expected the {name} parameters {', '.join(names)}")
        found = {parameter: recon[parameter] for parameter in names if parameter in recon}
    else:
        found = {names[0]: recon}
    if len(found) < len(names):
        for parameter in names:
            if parameter not in found and parameter not in formula.DEFAULTS:
                came = f": got {_listed(recon)}" if isinstance(recon, Mapping) else ""
                expected = f"expected {', '.join(names)}"
                raise ValueError(f"recon: the {name} parameter {parameter} is missing{came}; {expected}")
    return found


def labels_of(recon: Recon, names: Iterable[str]) -> dict[str, str]:
    """{parameter: the label of this parameter in an error}. names: the parameters that by_name() found in recon."""
    if isinstance(recon, (tuple, list)):
        if len(recon) > 1:
            return {name: f"recon[{i}] ({name})" for i, name in enumerate(names)}
    elif isinstance(recon, Mapping):
        return {name: f"recon[{name!r}]" for name in names}
    return dict.fromkeys(names, "recon")
