# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""attach and detach: the class of a module of scvi-tools is exchanged for a subclass with the training step of
modules.py. The subclass has the name of scvi-tools' class. Copies and pickles of an attached module are attached.
"""

import functools
import inspect
from typing import Any, TypeVar

from scvi.model.base import BaseModelClass

from ...backends import available_backends
from ...core.checks import choice
from ...typing import Backend
from . import known
from .modules import STEPS
from .steps import LIKELIHOODS

Model = TypeVar("Model", bound=BaseModelClass)


def attach(model: Model, *, backend: Backend = "auto") -> Model:
    """Let this model of scvi-tools train with our likelihood, until detach(model). Attaching again is allowed.

    The models are SCVI, SCANVI, LinearSCVI, CondSCVI, TOTALVI, PEAKVI, MULTIVI, POISSONVI, and every other model whose
    module has the methods of one of these. attach compares the source of the methods, and not the version of
    scvi-tools. In a training step, one fused op computes -log p(x | z) of each cell. The rest of the loss is
    scvi-tools' code, and so is everything without gradients. The same seed gives the noise that scvi-tools would use.

    Copies and pickles of the model are attached too. A file of model.save holds only objects of scvi-tools. load()
    makes an attached model from such a file. A model that was made without data is attached as soon as train() makes
    its module.

    Args:
        model: a model of scvi-tools, trained or not. The gene_likelihood "normal" is not supported.
        backend: as in fused_elbo.

    Returns:
        The same model.

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected. The message of an unknown method
            names the method.
    """
    _check(model)
    choice("backend", backend, ("auto", *available_backends()))
    if model.module is None:
        made = getattr(model, "_module_cls", type(None))
        model._module_cls = _Later(getattr(made, "upstream", made), backend)
    else:
        _attach(model.module, backend)
    return model


def detach(model: Model) -> Model:
    """Undo attach(model): the model computes scvi-tools' own loss again. Returns the same model."""
    _check(model)
    later = isinstance(vars(model).get("_module_cls"), _Later)
    if not later and not hasattr(model.module, "_vae_kernels_upstream"):
        raise ValueError("model: got one that is not attached, expected one that attach() was called on")
    if later:
        del model._module_cls
    if model.module is not None:
        model.module.__class__ = _upstream(model.module)
    return model


def load(cls: type[Model], *args: Any, backend: Backend = "auto", **kwargs: Any) -> Model:
    """attach(cls.load(*args, **kwargs)): a model from a file of model.save, attached."""
    return attach(cls.load(*args, **kwargs), backend=backend)


def _check(model):
    if not isinstance(model, BaseModelClass):
        raise TypeError(f"model: got {type(model).__name__}, expected a model of scvi-tools, such as scvi.model.SCVI")


def _upstream(module):
    """The class of scvi-tools (or of the user) of this module."""
    return getattr(module, "_vae_kernels_upstream", type(module))


def _attach(module, backend):
    upstream = _upstream(module)
    step = _step(upstream)
    if hasattr(module, "gene_likelihood"):
        choice("model: gene_likelihood", module.gene_likelihood, LIKELIHOODS)
    plain = object.__new__(upstream)  # the same module, not attached
    object.__setattr__(plain, "__dict__", module.__dict__)
    known.check(step.functions(plain), upstream.__name__)
    module.__class__ = _attached(upstream, backend)


def _step(upstream):
    for cls in upstream.__mro__:
        if cls in STEPS:
            return STEPS[cls]
    expected = ", ".join(cls.__name__ for cls in STEPS)
    raise TypeError(
        f"model: got one whose module is a {upstream.__name__}, expected one of {expected}, or a subclass. Train it "
        f"with vae_kernels.integrations.scvi.patch() in place of attach()"
    )


@functools.lru_cache(maxsize=256)
def _attached(upstream, backend):
    """The subclass of a class of scvi-tools that computes our training step."""
    step = _step(upstream)
    # scvi-tools reads the signatures of the methods: which arguments of a training plan go to the loss
    methods = {name: _with_signature(getattr(step, name), getattr(upstream, name)) for name in step.METHODS}
    names = {name: getattr(upstream, name) for name in ("__module__", "__qualname__", "__doc__")}
    ours = {"_vae_kernels_upstream": upstream, "_vae_kernels_backend": backend, "__reduce_ex__": _reduce}
    return type(upstream.__name__, (step, upstream), names | methods | ours)


def _with_signature(method, original):
    @functools.wraps(original)
    def called(self, *args, **kwargs):
        return method(self, *args, **kwargs)

    return called


def _reduce(module, protocol):
    return _restored, (module._vae_kernels_upstream, module._vae_kernels_backend), dict(module.__dict__)


def _restored(upstream, backend):
    """An empty attached module, for a copy or a pickle."""
    return object.__new__(_attached(upstream, backend))


class _Later:
    """In the place of the class of the module: makes a module, and attaches it."""

    def __init__(self, upstream, backend):
        _step(upstream)  # raises where no module of this class can be attached
        self.upstream, self.backend = upstream, backend

    @property
    def __signature__(self):
        return inspect.signature(self.upstream)

    def __call__(self, *args, **kwargs):
        module = self.upstream(*args, **kwargs)
        _attach(module, self.backend)
        return module
