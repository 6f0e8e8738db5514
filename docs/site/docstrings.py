"""What the API pages show, read from the sources without an import: an extension of griffe.

Some public classes are made when vae_kernels is imported: one class of likelihoods for each formula, and the names of
the distributions. The extension makes the same from the sources. It also reads our lists of arguments,

    name:   text
            more text

as the "Args:" of a docstring, because Markdown would make one paragraph of the list.
"""

import ast
import re

import griffe

# Modules whose public names are their classes: what else they have is for other modules of the package
OF_CLASSES = "distributions", "likelihoods", "priors"
_FILES = re.compile(r"^\w+(?:\.py|/)  .*\n?", re.MULTILINE)  # "vae.py   VAE: an encoder, ...": for who reads the code
_ARGUMENT = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?::\s+|\s{2,})(\S.*)")


class Docstrings(griffe.Extension):
    """Completes the package when all of its files are read."""

    def on_package(self, *, pkg, **_):
        names = _likelihood_names(pkg)
        pkg["LIKELIHOODS"].value = repr(tuple(names))
        _add_likelihoods(pkg, names)
        _add_distributions(pkg)
        for name in OF_CLASSES:
            members = pkg[name].members.items()
            pkg[name].exports = [name for name, found in members if name[0].isupper() and _is_class(found)]

    def on_object(self, *, obj, **_):
        if obj.is_function and obj.name.startswith("__") and obj.name != "__init__":
            obj.public, obj.docstring = False, None  # not on a page: the text of the class says what it does
        if obj.docstring is None:
            return
        if obj.is_module:
            obj.docstring.value = _FILES.sub("", obj.docstring.value)
        elif obj.is_class and any(str(base).endswith(("TypedDict", "Settings")) for base in obj.bases):
            fields = [f"    {name}: {field.annotation}" for name, field in obj.members.items() if field.is_attribute]
            obj.docstring.value += "\n".join(["\n", *fields])
            for field in obj.members.values():
                field.public = False
        elif obj.is_function or obj.is_class:
            obj.docstring.value = with_arguments(obj.docstring.value, _arguments_of(obj))


def with_arguments(text, names):
    """text, where each list of these arguments is an "Args:" section."""
    out, inside, blank = [], False, False
    for line in text.split("\n"):
        entry = _ARGUMENT.fullmatch(line)
        if entry and {name.lstrip("*") for name in entry[1].split(", ")} <= names:
            out += [] if inside else ["", "Args:"]
            out.append(f"    {entry[1]}: {entry[2]}")
            inside = True
        elif inside and not line:
            blank = True  # of two lists with a blank line between them, one section is made
            continue
        elif inside and line.startswith("  ") and not blank:
            out.append(f"        {line.strip()}")
        else:
            out += ["", line] if inside else [line]
            inside = False
        blank = False
    return "\n".join(out)


def _arguments_of(obj):
    """The names of the arguments of a function, or of the arguments and attributes of a class."""
    names = {parameter.name for parameter in obj.parameters}
    return names | set(obj.members) if obj.is_class else names


def _is_class(found):
    return found.is_class if not found.is_alias else found.resolved and found.target.is_class


def _likelihood_names(package):
    """The values of vae_kernels.typing.LikelihoodName."""
    (names,) = re.findall(r"^LikelihoodName = Literal\[(.*?)\]", package["typing"].source, re.DOTALL | re.MULTILINE)
    return ast.literal_eval(f"[{names}]")


def _add_likelihoods(package, names):
    """The classes of vae_kernels/likelihoods.py, by the rules of _class_of there."""
    module = package["likelihoods"]
    last = max(found.endlineno for found in module.members.values() if not found.is_alias)
    for name in names:
        formula = package["formulas"][name]
        title = _value(formula, "CLASS") or "".join(part.capitalize() for part in name.split("_"))
        parameters = ", ".join(_value(formula, "PARAMETERS"))
        text = f'The likelihood `"{name}"` of the parameters {parameters}.\n\n{formula.docstring.value}'
        made = griffe.Class(title, bases=["Likelihood"], lineno=last + 1, endlineno=last + 1)  # below the base class
        made.docstring = griffe.Docstring(text, parent=made)
        options = [
            griffe.Parameter(option, kind=griffe.ParameterKind.positional_or_keyword, default=repr(default))
            for option, default in (_value(formula, "OPTIONS") or {}).items()
        ]
        init = griffe.Function("__init__", parameters=griffe.Parameters(griffe.Parameter("self"), *options))
        module.set_member(title, made)
        made.set_member("__init__", init)


def _add_distributions(package):
    """vae_kernels.distributions.Normal is the class in distributions/gaussian.py that has `likelihood`."""
    module = package["distributions"]
    for file in list(module.modules.values()):
        for name, found in file.classes.items():
            if "likelihood" in found.members:
                module.set_member(name, griffe.Alias(name, found))


def _value(of, name):
    """The value of a constant in a module or a class; None if there is no constant of this name."""
    return ast.literal_eval(str(of.members[name].value)) if name in of.members and of.members[name].value else None
