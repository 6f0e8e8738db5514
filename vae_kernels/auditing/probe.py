"""Measures a loss: its value and its gradients at points that we choose, in float64 if the loss accepts float64."""

import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from ..core import checks, weights
from ..formulas import ALL


@dataclass(frozen=True)
class Point:
    """The arguments of a loss: recon (here a tuple), x, mu, logvar, and the weights of x and of mu, or None. The loss
    gets recon in the form that the example has: a tensor, a tuple, or a mapping by the names of the parameters."""

    recon: tuple
    x: torch.Tensor
    mu: torch.Tensor
    logvar: torch.Tensor
    form: type | tuple  # torch.Tensor, tuple, or the names of the mapping
    weight: torch.Tensor | None = None
    latent_weight: torch.Tensor | None = None
    noise: int = 0  # the seed of the noise inside the loss, if the loss draws noise

    def __len__(self):
        return len(self.x)

    def map(self, f):
        weight, latent_weight = (None if w is None else f(w) for w in (self.weight, self.latent_weight))
        tensors = {"x": f(self.x), "mu": f(self.mu), "logvar": f(self.logvar), "recon": tuple(map(f, self.recon))}
        return replace(self, **tensors, weight=weight, latent_weight=latent_weight)

    @property
    def weights(self):
        """The weight of each element of x, in float64."""
        return _expanded(self.weight, self.x)

    @property
    def latent_weights(self):
        """The weight of each element of mu, in float64."""
        return _expanded(self.latent_weight, self.mu)

    def filled(self):
        """The same point with 0 in place of the x of weight 0."""
        return replace(self, x=weights.filled(self.x, self.weight))

    @property
    def names(self):
        """The names of the parameters in recon, or None if recon is no mapping."""
        return self.form if isinstance(self.form, tuple) else None

    @property
    def parts(self):
        """The Python texts that give the parameters in recon."""
        if self.form is torch.Tensor:
            return ("recon",)
        keys = [f'"{name}"' for name in self.names] if self.names else range(len(self.recon))
        return tuple(f"recon[{key}]" for key in keys)

    def arguments(self):
        recon = dict(zip(self.names, self.recon, strict=True)) if self.names else self.recon
        recon = self.recon[0] if self.form is torch.Tensor else recon
        return recon, self.x, self.mu, self.logvar, self.weight, self.latent_weight


def _expanded(weight, like):
    ones = torch.ones(like.shape, dtype=torch.float64, device=like.device)
    return ones if weight is None else weight.double().expand(like.shape)


@dataclass(frozen=True)
class Measured:
    """A loss at a point: its value, summed to a number, and the gradients by recon, mu and logvar, in float64."""

    value: float
    per_sample: bool
    recon: tuple
    mu: torch.Tensor
    logvar: torch.Tensor
    used: tuple  # whether the graph of the loss reaches recon, mu and logvar
    precision: float  # of the dtype of the loss

    def finite(self):
        tensors = (*self.recon, self.mu, self.logvar, torch.tensor(self.value))
        return all(bool(torch.isfinite(t).all()) for t in tensors)


def point(example, weight=None, latent_weight=None):
    """The example and its weights as a Point, checked and detached."""
    if not isinstance(example, (tuple, list)) or len(example) != 4:
        got = f"{len(example)} values" if isinstance(example, (tuple, list)) else type(example).__name__
        raise TypeError(f"example: got {got}, expected (recon, x, mu, logvar) of one batch")
    recon, x, mu, logvar = example
    recon, form = _parts(recon)
    for name, t in zip(("recon", "mu", "logvar"), (recon, (mu,), (logvar,)), strict=True):
        for part in t:
            checks.tensor(name, part)
    if not isinstance(x, torch.Tensor) or x.dim() == 0 or len(x) == 0:
        raise ValueError("x: expected a tensor with a batch as dimension 0, and at least one sample in it")
    if mu.shape != logvar.shape:
        raise ValueError(f"logvar: got shape {tuple(logvar.shape)}, expected that of mu, {tuple(mu.shape)}")
    if len(mu) != len(x):
        raise ValueError(f"mu: got shape {tuple(mu.shape)}, expected the batch of x, {len(x)}, as dimension 0")
    for name, w, like, of in (("weight", weight, x, "x"), ("latent_weight", latent_weight, mu, "mu")):
        if w is not None:
            _check(name, w, like, of)
    return Point(tuple(recon), x, mu, logvar, form, weight, latent_weight).map(lambda t: t.detach())


def _check(name, weight, like, of):
    weights.check(name, weight, like, of, "no argument here")
    if not (weight >= 0).all() or not weight.isfinite().all() or not weight.any():
        raise ValueError(f"{name}: expected finite weights >= 0 that are not all 0, or a mask that is not all False")


def taking_weights(loss_fn, point):
    """(the loss as a function of the six arguments() of a point, the names of its arguments for the two weights). A
    name is None if there is no such weight, or no such argument."""
    weight = None if point.weight is None else _name_of(loss_fn, ("weight", "mask"), fifth=True)
    latent_weight = None if point.latent_weight is None else _name_of(loss_fn, ("latent_weight", "latent_mask"))

    def loss(recon, x, mu, logvar, *given):
        named = {name: w for name, w in zip((weight, latent_weight), given, strict=True) if name is not None}
        return loss_fn(recon, x, mu, logvar, **named)

    return loss, (weight, latent_weight)


def _name_of(loss_fn, names, fifth=False):
    """The first of these names among the arguments of the loss; else its fifth argument, if this one has no default."""
    function = loss_fn.forward if isinstance(loss_fn, torch.nn.Module) else loss_fn
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function that is not written in Python
        return None
    found = [name for name in names if name in parameters]
    for p in list(parameters.values())[4:5] if fifth else ():
        found += [p.name] if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD else []
    return next(iter(found), None)


def _parts(recon):
    """(the parameters in recon, the form of recon). Parameters with names get the order of a likelihood that has all of
    these names."""
    if isinstance(recon, torch.Tensor):
        return (recon,), torch.Tensor
    if not isinstance(recon, Mapping):
        return recon, tuple
    for formula in ALL.values():
        names = tuple(name for name in formula.PARAMETERS if name in recon)
        if len(names) == len(recon) > 0:
            return tuple(recon[name] for name in names), names
    known = sorted({name for formula in ALL.values() for name in formula.PARAMETERS})
    came = ", ".join(map(repr, recon))
    raise ValueError(f"recon: got the keys {came}, expected the parameters of one likelihood, of {', '.join(known)}")


def wide(t):
    return t.double() if t.is_floating_point() else t


def domain(t):
    """ "unit" for values in [0, 1], which may be probabilities; "positive", which may be scales; or "line"."""
    if bool(((t >= 0) & (t <= 1)).all()):
        return "unit"
    return "positive" if bool((t > 0).all()) else "line"


def synthetic(example, seed=0, spread=1.0):
    """A Point with the shapes and the x of the example. The other values are random, so that no gradient is 0 by
    accident."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(like, draw):
        return draw(like.shape, generator=generator, dtype=torch.float64).to(like.device)

    def recon(like):
        # a loss that takes logits or means accepts the values of a smaller domain too
        if domain(like) == "unit":
            return 0.1 + 0.8 * drawn(like, torch.rand)
        return torch.exp(drawn(like, torch.randn) / 2) if domain(like) == "positive" else drawn(like, torch.randn)

    recons, mu = tuple(map(recon, example.recon)), spread * drawn(example.mu, torch.randn)
    logvar = spread / 2 * drawn(example.logvar, torch.randn)
    return replace(
        example,
        recon=recons,
        x=wide(example.x),
        mu=mu,
        logvar=logvar.exp() if bool((example.logvar > 0).all()) else logvar,
    )


def measure(loss_fn, at):
    """Measured, in float64, or in float32 if the loss refuses float64. An error in float32 is not caught."""
    try:
        return _measure(loss_fn, at.map(wide))
    except (RuntimeError, TypeError, ValueError):
        return _measure(loss_fn, at.map(lambda t: t.float() if t.is_floating_point() else t))


def _measure(loss_fn, at):
    leaves = [t.clone().requires_grad_() for t in (*at.recon, at.mu, at.logvar)]
    *recon, mu, logvar = leaves
    fresh = replace(at, recon=tuple(recon), mu=mu, logvar=logvar)
    with torch.enable_grad(), same_noise(at):
        loss = loss_fn(*fresh.arguments())
    if not isinstance(loss, torch.Tensor) or loss.dim() > 1:
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise TypeError(f"loss_fn: gave {got}, expected a 0-d tensor, or one [B]")
    if not loss.requires_grad:
        raise ValueError("loss_fn: gave a tensor without a gradient, expected one that depends on its arguments")
    grads = torch.autograd.grad(loss.sum(), leaves, allow_unused=True)
    *of_recon, of_mu, of_logvar = (g is not None for g in grads)
    *recon, mu, logvar = (
        torch.zeros_like(leaf, dtype=torch.float64) if g is None else g.double()
        for g, leaf in zip(grads, leaves, strict=True)
    )
    used, precision = (any(of_recon), of_mu, of_logvar), torch.finfo(loss.dtype).eps
    return Measured(loss.sum().double().item(), loss.dim() == 1, tuple(recon), mu, logvar, used, precision)


@contextlib.contextmanager
def same_noise(at):
    """Inside, a loss draws the noise of one seed, and the state of the user's generators stays as it is."""
    generators = [torch.default_generator]
    if at.x.is_cuda:
        generators.append(torch.cuda.default_generators[at.x.device.index or 0])
    states = [g.get_state() for g in generators]
    for g in generators:
        g.manual_seed(at.noise)
    try:
        yield
    finally:
        for g, state in zip(generators, states, strict=True):
            g.set_state(state)


def resized(at):
    """The same point with every second sample. A batch of one sample gets this sample twice."""
    n = len(at)
    other = at.map(lambda t: t[::2].contiguous() if n > 1 else torch.cat([t, t]))
    if _same_for_all(at.weight, at.x):
        other = replace(other, weight=at.weight)
    return replace(other, latent_weight=at.latent_weight) if _same_for_all(at.latent_weight, at.mu) else other


def _same_for_all(weight, like):
    """Whether a weight has no dimension for the samples."""
    return weight is not None and (weight.dim() < like.dim() or len(weight) != len(like))


def axes(at):
    """The dimensions of x and of mu whose size can be changed: [("x", 1), ("mu", 1), ...], for a Point without
    weights. Recon has the dimensions of x, in the order of x, at its end."""
    if at.weight is not None or at.latent_weight is not None:
        return []
    found = [("mu", k) for k in range(1, at.mu.dim()) if at.mu.shape[k] > 1]
    if at.recon[0].shape[-(at.x.dim() - 1) :] == at.x.shape[1:] or at.recon[0].numel() == at.x.numel():
        found = [("x", k) for k in range(1, at.x.dim()) if at.x.shape[k] > 1] + found
    return found


def cut(at, axis):
    """The same point with every second index of one of its axes()."""
    of, k = axis
    if of == "mu":
        return replace(at, mu=_halved(at.mu, k - at.mu.dim()), logvar=_halved(at.logvar, k - at.mu.dim()))
    from_end, size = k - at.x.dim(), at.x.shape[k]

    def part(t):
        if t.numel() == at.x.numel() and t.shape != at.x.shape:  # x as an image beside recon as a row, or the reverse
            other = _halved(t.reshape(at.x.shape), from_end)
            return other.flatten(1) if t.dim() == 2 else other
        follows = t.dim() >= -from_end and t.shape[from_end] == size
        return _halved(t, from_end) if follows else t

    return replace(at, recon=tuple(map(part, at.recon)), x=_halved(at.x, from_end))


def _halved(t, dim):
    return t.index_select(dim, torch.arange(0, t.shape[dim], 2, device=t.device))
