"""The likelihoods as objects, for `likelihood=`: Gaussian() is what the name "gaussian" is.

    vk.fused_elbo((loc, logvar), x, mu, logvar_z, likelihood=vk.likelihoods.Gaussian())

The classes are made here, one for each formula of formulas/: the list of the formulas is the only list. A class has the
name of its formula in CamelCase, or the name that the formula gives as CLASS. A class has the options that its formula
gives as OPTIONS, {name: default}. No formula has an option yet.

What the decoder gives is no option. by_name() reads what the decoder gives, `recon`.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import Self

from .formulas import ALL
from .typing import LikelihoodLike, Recon


@dataclasses.dataclass(frozen=True, repr=False)
class Likelihood:
    """One likelihood and its options: the base class of what `likelihood=` takes besides a name.

    Two objects are equal if they are of one class and have equal options; equal objects have equal hashes. An object
    cannot be changed. An object holds no tensor: a learned scale is part of `recon`, or is `obs_logvar`. An object can
    be pickled, and is a constant to torch.compile. repr() gives the text that makes the object again.
    """

    name: ClassVar[str] = ""
    """The name that `likelihood=` takes in place of the object with default options."""

    def __repr__(self) -> str:
        options = ", ".join(f"{option}={value!r}" for option, value in dataclasses.asdict(self).items())
        return f"vk.likelihoods.{type(self).__name__}({options})"

    def to_dict(self) -> dict[str, Any]:
        """The name and the options, {"name": "gaussian"}: a dict for json, which from_dict() takes."""
        return {"name": self.name, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """The object that to_dict() was called on: Likelihood.from_dict({"name": "gaussian"}) is Gaussian().

        ValueError, which says what came and what is expected, for an unknown name and for an unknown option. A class of
        one likelihood takes the dict of this likelihood alone.
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
    space = {"name": name, "__doc__": text, "__module__": __name__}
    return dataclasses.make_dataclass(title, fields, bases=(Likelihood,), namespace=space, frozen=True, repr=False)


_CLASSES = tuple(_class_of(name, formula) for name, formula in ALL.items())
globals().update({made.__name__: made for made in _CLASSES})

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[Likelihood]: ...


def name_of(likelihood: LikelihoodLike) -> str:
    """The name of a likelihood, which is given as its name or as its object."""
    return likelihood if isinstance(likelihood, str) else likelihood.name


def formula_of(likelihood: LikelihoodLike) -> ModuleType:
    """The module of formulas/ of a likelihood, which is given as its name or as its object."""
    return ALL[name_of(likelihood)]


def by_name(recon: Recon, likelihood: LikelihoodLike) -> dict[str, Any]:
    """{parameter: value}: what a decoder gives to a likelihood, in the likelihood's order of parameters.

    recon is the first parameter, a tuple of parameters in the likelihood's order, or a mapping {parameter: value}. A
    mapping may leave out any parameter that has a default, a tuple the last ones; the result has what was given.
    ValueError for an unknown parameter, for too many, and for a missing one.
    """
    name = name_of(likelihood)
    formula = ALL[name]
    names = formula.PARAMETERS
    if isinstance(recon, (tuple, list)):
        if not 1 <= len(recon) <= len(names):
            raise ValueError(f"recon: got {len(recon)} tensors, expected the {name} parameters {', '.join(names)}")
        given = dict(zip(names, recon))  # noqa: B905 - fewer values than names, where some may be left out
    elif isinstance(recon, Mapping):
        if not recon or any(key not in names for key in recon):
            came = f"the keys {_listed(recon)}" if recon else "a mapping without keys"
            raise ValueError(f"recon: got {came}, expected the {name} parameters {', '.join(names)}")
        given = {parameter: recon[parameter] for parameter in names if parameter in recon}
    else:
        given = {names[0]: recon}
    if len(given) < len(names):
        for parameter in names:
            if parameter not in given and parameter not in formula.DEFAULTS:
                came = f": got {_listed(recon)}" if isinstance(recon, Mapping) else ""
                expected = f"expected {', '.join(names)}"
                raise ValueError(f"recon: the {name} parameter {parameter} is missing{came}; {expected}")
    return given


def labels_of(recon: Recon, given: Iterable[str]) -> dict[str, str]:
    """{parameter: what an error calls it}, for what by_name() gives."""
    if isinstance(recon, (tuple, list)):
        if len(recon) > 1:
            return {name: f"recon[{i}] ({name})" for i, name in enumerate(given)}
    elif isinstance(recon, Mapping):
        return {name: f"recon[{name!r}]" for name in given}
    return dict.fromkeys(given, "recon")
