"""The module paths of version 0.1, which work until 0.4: old code imports these paths, and pickled models name them.

    from vae_kernels.bounds import iwae        # works, with a DeprecationWarning that names the new path

sys.modules has an empty module at each old path. When a name of this module is first used, the module at the new path
is imported, and a warning is given.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from typing import Any

MOVED = {
    "audit": "auditing",
    "bench": "timing",
    "bounds": "estimators.importance",
    "checks": "core.checks",
    "controls.control": "core.control",
    "decomposition": "estimators.decomposition",
    "diagnose": "doctor",
    "formulas.elbo": "backends.reference",
    "layout": "core.layout",
    "mixture": "densities",
    "module": "models.fused_elbo",
    "networks": "models.networks",
    "ops": "backends.compiled",
    "ops.levels": "backends.compiled.position",
    "philox": "core.noise",
    "pool": "backends.pool",
    "proof": "backends.self_test",
    "scvi": "integrations.scvi",
    "settings": "models.settings",
    "sharded": "core.dtensor",
    "terms": "core.terms",
    "triton": "backends.triton",
    "triton.levels": "backends.triton.position",
    "vae": "models.vae",
}
"""The old path and the new one, inside the package."""

_PACKAGE = __name__.partition(".")[0]


class _Moved(types.ModuleType):
    """The empty module at an old path."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(old, f"Moved to {new}.")
        self._new = new
        self.__path__ = []  # with a __path__, Python asks the finder below for "vae_kernels.audit.report"
        self.__spec__ = importlib.machinery.ModuleSpec(old, None, is_package=True)  # for python -m vae_kernels.bench

    def __getattr__(self, name):
        if name.startswith("__"):  # Python asks for these names, not a user
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(self._new), name)
        _warn(self.__name__, self._new, 3)
        return value


class _Inside(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules inside a package that has moved: vae_kernels.audit.report is vae_kernels.auditing.report."""

    def find_spec(self, fullname, path=None, target=None):
        parent, _, name = fullname.rpartition(".")
        package = sys.modules.get(parent)
        if not isinstance(package, _Moved) or not hasattr(importlib.import_module(package._new), "__path__"):
            return None
        if importlib.util.find_spec(f"{package._new}.{name}") is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=f"{package._new}.{name}")

    def create_module(self, spec):
        return None

    def exec_module(self, module: Any) -> None:
        new: str = module.__spec__.origin
        sys.modules[module.__name__] = importlib.import_module(new)
        _warn(module.__name__, new, 3)

    def get_code(self, fullname):
        """The code of a module, for python -m vae_kernels.bench.gpu."""
        moved: Any = self.find_spec(fullname)
        spec: Any = importlib.util.find_spec(moved.origin)
        return spec.loader.get_code(spec.name)


def _warn(old, new, stacklevel):
    text = f"{old} has moved to {new}: the old path ends with version 0.4"
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel)


def keep_old_paths() -> None:
    """Set up the old paths. The package calls this once, when it is imported."""
    for old, new in MOVED.items():
        moved = sys.modules[f"{_PACKAGE}.{old}"] = _Moved(f"{_PACKAGE}.{old}", f"{_PACKAGE}.{new}")
        folder, _, name = old.rpartition(".")
        if folder:  # vae_kernels.formulas.elbo: the folder still exists, and gets the attribute
            setattr(sys.modules[f"{_PACKAGE}.{folder}"], name, moved)
    sys.meta_path.append(_Inside())


def at_old_path(name: str) -> types.ModuleType:
    """The module at an old path, as an attribute of the package: vae_kernels.bounds."""
    if name not in MOVED:
        raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
    return sys.modules[f"{_PACKAGE}.{name}"]
