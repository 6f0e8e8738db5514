"""The fingerprint of a function of another library: of its syntax tree, without docstrings, comments, annotations and
layout. A function with a known fingerprint is the code that an integration was written for.
"""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from functools import lru_cache
from typing import Any

_IGNORED = {"annotation", "returns", "type_comment", "type_params", "ctx", "kind"}


def fingerprint(function: Callable[..., Any]) -> str:
    """16 hexadecimal digits that change with the code of the function. "no source" where Python has no source."""
    return _fingerprint(own(function))


def own(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, without the wrappers around it and without its object."""
    return inspect.unwrap(getattr(function, "__func__", function))


@lru_cache(maxsize=256)
def _fingerprint(function):
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return "no source"
    tree = ast.parse(textwrap.dedent(source)).body[0]
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest()[:16]


def _plain(node):
    """The syntax tree as nested tuples. Empty fields are left out: versions of Python differ in them."""
    if isinstance(node, ast.AST):
        fields = [(name, _plain(value)) for name, value in ast.iter_fields(node) if name not in _IGNORED]
        return type(node).__name__, *((name, value) for name, value in fields if value is not None and value != ())
    if isinstance(node, list):
        return tuple(_plain(n) for n in node if not _is_text(n))
    return node


def _is_text(node):
    """Whether this statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
