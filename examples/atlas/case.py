"""A loss of a public package as a callable, and where its code stands."""

import __future__

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch

IMPORTED = "imported"
ALONE = "its function alone, compiled from the package's file"


@dataclass(frozen=True)
class Loss:
    """A loss of a package.

    function    the package's own function that computes the loss; its file and line are shown
    call        (recon, x, mu, logvar) -> loss, 0-d or [B], by a call of `function`
    example     (recon, x, mu, logvar) of one batch
    settings    the values that the loss depends on; they are read from the package
    sample      the package's own draw (mu, logvar) -> z, or None
    how         how the code was obtained
    likelihood  the name of the likelihood if vk.audit cannot read it; the weights are then measured by gradients
    beside      what the loss has beside a likelihood and a KL, which were read alone
    note        what the measurement does not show
    """

    function: Callable
    call: Callable
    example: tuple
    settings: str = ""
    sample: Callable | None = None
    how: str = IMPORTED
    likelihood: str | None = None
    beside: str = ""
    note: str = ""


@dataclass(frozen=True)
class Case:
    """A loss of the atlas: the package's name on PyPI, the name of the loss, and the adapter that builds the Loss."""

    package: str
    loss: str
    adapter: Callable[[], Loss]

    @property
    def version(self):
        """The version that is installed, or None."""
        try:
            return distribution(self.package).version
        except PackageNotFoundError:
            return None


CASES: list[Case] = []


def case(package: str, loss: str):
    """A decorator: the function below it is the adapter of this loss."""

    def add(adapter):
        CASES.append(Case(package, loss, adapter))
        return adapter

    return add


def alone(package: str, file: str, name: str, **scope):
    """A function of an installed package, compiled from its file: nothing of the package is imported. It is for a
    package whose imports need other versions than this environment has. The decorators are left out.

    file: within the package, such as "package/module.py". name: "function" or "Class.method". scope: the names that
    the function uses.
    """
    path, node = _found(package, file, name)
    node.decorator_list = []
    flags = __future__.annotations.compiler_flag  # an annotation may name what is not in the scope
    exec(compile(ast.Module([node], []), str(path), "exec", flags=flags), scope)
    return scope[node.name]


def fields(package: str, file: str, name: str) -> dict:
    """{field: its default} of a dataclass of an installed package, as far as the defaults are literals."""
    _, node = _found(package, file, name)
    literals = [n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.value, ast.Constant)]
    return {n.target.id: n.value.value for n in literals}


def _found(package, file, name):
    """(the path of a file of an installed package, the node of a function or class in it)"""
    path = Path(distribution(package).locate_file(file))
    node = ast.parse(path.read_text(encoding="utf-8"))
    for part in name.split("."):
        node = next(child for child in node.body if getattr(child, "name", None) == part)
    return path, node


def default(function, name: str):
    """The default of an argument of a function or a class."""
    return inspect.signature(function).parameters[name].default


def place(package: str, function) -> str:
    """The file within the installed package, and the line, of a function: "package/module.py:12"."""
    function = inspect.unwrap(function)
    file = Path(inspect.getsourcefile(function)).resolve()
    root = Path(distribution(package).locate_file("")).resolve()
    return f"{file.relative_to(root).as_posix()}:{inspect.getsourcelines(function)[1]}"


def batch(*shape: int, latents: tuple = (16,), samples: int = 16, recon="logits", x="unit"):
    """(recon, x, mu, logvar) of random values.

    recon: "logits" or "means" for N(0, 1), "probabilities" for values in (0, 1), "rates" for values above 0.
    x: "unit" for values in [0, 1], "binary", "normal", or "counts".
    """
    g = torch.Generator().manual_seed(0)
    made = torch.randn(samples, *shape, generator=g)
    made = {"probabilities": torch.sigmoid, "rates": torch.exp}.get(recon, lambda t: t)(made)
    uniform, rates = torch.rand(samples, *shape, generator=g), torch.full((samples, *shape), 2.0)
    target = {
        "unit": uniform,
        "binary": uniform.round(),
        "normal": 4 * uniform - 2,
        "counts": torch.poisson(rates, generator=g),
    }[x]
    return made, target, *(torch.randn(samples, *latents, generator=g) for _ in range(2))


def std(logvar):
    """The standard deviation, from the logarithm of the variance."""
    return torch.exp(logvar / 2)
