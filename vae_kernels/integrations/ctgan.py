# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""TVAE of ctgan, and TVAESynthesizer of SDV, with the loss of this package: docs/tvae.md.

    from vae_kernels.integrations.ctgan import attach, detach

    tvae = attach(ctgan.TVAE())  # or sdv.single_table.TVAESynthesizer(metadata)
    tvae.fit(table, discrete_columns)

TVAE's loss is a Python loop over the columns (Xu et al. 2019, "Modeling tabular data using conditional GAN",
arXiv:1907.00503). Here the loss is the one op of `vae_kernels.likelihoods.Mixed`. The value is that of TVAE:

    factor * (nll - n log(2 pi) / 2) + KL,    n: how many columns have a tanh

because TVAE leaves out the constant of the normal density. Everything else is ctgan's and SDV's code: the networks, the
noise, Adam, the clamp of sigma, and the functions that draw rows. ctgan and SDV are under the Business Source License.
This file needs ctgan, and contains no line of ctgan.
"""

import copyreg
import functools
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch

try:
    from ctgan.synthesizers import tvae as _upstream
except ImportError as error:
    raise ImportError("ctgan: not installed, expected ctgan >= 0.7.4: pip install ctgan") from error

from ..backends import available_backends
from ..core.checks import choice
from ..formulas.columns import Column
from ..functional import gaussian_kl, nll
from ..likelihoods import Mixed
from ..typing import Backend
from .fingerprint import fingerprint

VERSIONS = ("0.7.4", "0.12.1")
"""The first and the last version of ctgan whose loss function was compared. All of them have one source."""

KNOWN = {"89cf1cbe4e746841"}
"""The fingerprints of the loss functions of ctgan that `_Loss` computes."""

Model = TypeVar("Model")

# The class of a model -> the method that trains: TVAE, and the class of SDV that makes a TVAE and trains it
_METHODS = {
    ("ctgan.synthesizers.tvae", "TVAE"): "fit",
    ("sdv.single_table.ctgan", "TVAESynthesizer"): "_fit",
}


def attach(model: Model, *, backend: Backend = "auto") -> Model:
    """Let this model train with our loss, until detach(model). Attaching again is allowed.

    The value of the loss is that of ctgan, and the same seed gives the noise that ctgan would use. A trained model
    keeps its weights. Copies and pickles of the model are attached too. A pickle can be loaded only where vae_kernels
    is installed. After the training, the TVAE inside a TVAESynthesizer is ctgan's own class.

    Args:
        model: a ctgan.TVAE or an sdv.single_table.TVAESynthesizer, or an object of a subclass, trained or not.
        backend: as in fused_elbo.

    Returns:
        The same model.

    Raises:
        TypeError: model is neither a ctgan.TVAE nor a TVAESynthesizer.
        ValueError: we do not know the loss function of this ctgan, or `backend` does not work here.
    """
    _check(model)
    choice("backend", backend, ("auto", *available_backends()))
    _check_loss()
    model.__class__ = _attached(_own_class(model), backend)
    return model


def detach(model: Model) -> Model:
    """Undo attach(model): the model trains with ctgan's own loss again. Returns the same model."""
    _check(model)
    if not hasattr(model, "_vae_kernels_upstream"):
        raise ValueError("model: got one that is not attached, expected one that attach() was called on")
    model.__class__ = _own_class(model)
    return model


def _check(model):
    if _method(type(model)) is None:
        raise TypeError(
            f"model: got {type(model).__name__}, expected a ctgan.TVAE or an sdv.single_table.TVAESynthesizer"
        )


def _method(cls):
    """The name of the method that trains, or None."""
    names = ((base.__module__, base.__qualname__) for base in cls.__mro__)
    return next((_METHODS[name] for name in names if name in _METHODS), None)


def _check_loss():
    """ValueError if the loss function of ctgan is another one than that of _Loss."""
    function = _ours.upstream or _upstream._loss_function
    if (found := fingerprint(function)) not in KNOWN:
        raise ValueError(
            f"model: its loss function ({_upstream.__name__}._loss_function, {found}) is not known here, expected the "
            f"source of ctgan {VERSIONS[0]} to {VERSIONS[-1]}"
        )


def _own_class(model):
    """The class of ctgan, of SDV or of the user of this model."""
    return getattr(model, "_vae_kernels_upstream", type(model))


@functools.lru_cache(maxsize=256)
def _attached(upstream, backend):
    """The subclass of a class of ctgan or SDV that trains with our loss."""
    name = str(_method(upstream))
    trains = getattr(upstream, name)

    @functools.wraps(trains)
    def fit(self, *args, **kwargs):
        with _ours.trains(type(self).__name__, backend):
            return trains(self, *args, **kwargs)

    names = {key: getattr(upstream, key) for key in ("__module__", "__qualname__", "__doc__")}
    ours = {"_vae_kernels_upstream": upstream, "_vae_kernels_backend": backend, "__reduce_ex__": _reduce, name: fit}
    return type(upstream.__name__, (upstream,), names | ours)


def _reduce(model, protocol):
    """A copy and a pickle, with the state that the class of ctgan or SDV gives."""
    _, _, state, *_ = object.__reduce_ex__(model, 2)
    return _restored, (model._vae_kernels_upstream, model._vae_kernels_backend), state


def _restored(upstream, backend):
    """An empty attached model, for a copy or a pickle."""
    return copyreg.__newobj__(_attached(upstream, backend))


# ---------------------------------------------------------------- the place of the loss function


class _Place:
    """Puts a function in the place of ctgan's loss function while an attached model trains.

    The function takes our loss in the thread (or the task) that trains an attached model, and ctgan's own loss in all
    others. When no attached model trains, ctgan's module is as it was.
    """

    def __init__(self) -> None:
        self.upstream: Any = None  # ctgan's own function while ours is in its place
        self._trainings = 0
        self._lock = threading.Lock()
        self._loss: ContextVar[_Loss | None] = ContextVar("vae_kernels: the loss of a TVAE", default=None)

    @contextmanager
    def trains(self, name: str, backend: Backend) -> Iterator[None]:
        """Our loss, in the training of a model. name: the class of this model."""
        _check_loss()  # a program may have replaced the function since attach()
        loss = _Loss(backend)
        with self._lock:
            if self._trainings == 0:
                self.upstream, _upstream._loss_function = _upstream._loss_function, self
            self._trainings += 1
        token = self._loss.set(loss)
        try:
            yield
        finally:
            self._loss.reset(token)
            with self._lock:
                self._trainings -= 1
                if self._trainings == 0:
                    _upstream._loss_function, self.upstream = self.upstream, None
        if not loss.steps:
            warnings.warn(
                f"vae_kernels: this {name} was trained without a call of ctgan's loss function, so attach() had no "
                "effect: there was no step, or its class has a training of its own",
                RuntimeWarning,
                stacklevel=4,
            )

    def __call__(self, *args, **kwargs):
        return (self._loss.get() or self.upstream)(*args, **kwargs)


_ours = _Place()


# ---------------------------------------------------------------- the loss


class _Loss:
    """The loss of TVAE by `vae_kernels.likelihoods.Mixed`, with the arguments and the results of ctgan's function."""

    def __init__(self, backend: Backend) -> None:
        self.backend: Backend = backend
        self.steps = 0
        self._columns: Any = None  # ctgan's list of columns that `_layout` is of
        self._layout: Any = None

    def __call__(self, recon_x, x, sigmas, mu, logvar, output_info, factor):
        """(factor * the reconstruction's part of the loss, the KL), two scalars."""
        if output_info is not self._columns:
            self._columns, self._layout = output_info, _layout(output_info, x.device)
        self.steps += 1
        likelihood, starts, weight, constant = self._layout
        # Without a number, sigmas get no gradient from ctgan's loss either: Adam then leaves sigmas as they are.
        recon = (recon_x, sigmas[starts].log()) if constant else recon_x
        nats = nll(recon, x, likelihood=likelihood, weight=weight, reduction="mean", backend=self.backend)
        return (nats - constant) * factor, gaussian_kl(mu, logvar, reduction="mean", backend=self.backend)


def _layout(output_info, device):
    """(the likelihood, the place of the first number of each column, the weight of each column or None, the constant
    that TVAE leaves out, which is 0 without a number) of ctgan's list of columns."""
    columns: list[Column] = []
    starts, weight, at = [], [], 0
    for span in (span for spans in output_info for span in spans):
        size, number = int(span.dim), span.activation_fn != "softmax"  # the size may be an integer of numpy
        if number and size != 1:
            raise ValueError(
                f"output_info: got a column of {size} numbers with {span.activation_fn!r}, expected 1 number: ctgan's "
                "loss would read the first number alone"
            )
        starts.append(at)
        # The cross-entropy of one category is 0, so such a column gets the weight 0, and its kind does not matter.
        weight.append(number or size > 1)
        if number:
            columns.append(("gaussian", "tanh"))
        else:
            columns.append(("categorical", size) if size > 1 else "bernoulli")
        at += size
    numbers = sum(column == ("gaussian", "tanh") for column in columns)
    needed = None if all(weight) else torch.tensor(weight, device=device)
    return Mixed(tuple(columns)), torch.tensor(starts, device=device), needed, 0.5 * numbers * math.log(2 * math.pi)
