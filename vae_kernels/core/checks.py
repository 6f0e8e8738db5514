"""The checks of the public functions' arguments.

A check raises ValueError or TypeError. The error names the argument, what came, and what is expected. The checks read
shapes, dtypes and devices only. So they never wait for a device, and a compiler can trace them.
"""

import math
from difflib import get_close_matches
from typing import Any

import torch

from ..formulas import ALL, SEGMENTS
from ..likelihoods import Likelihood, by_name, labels_of
from .control import current
from .pairs import FreeBits, Shard
from .ranges import flag as flag
from .ranges import number

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
LEVELS = (torch.bool, *_INTEGERS)
TARGETS = COUNTS = (*FLOATS, *LEVELS)  # COUNTS is the name of version 0.1


def tensor(name, t, dtypes=FLOATS):
    if not isinstance(t, torch.Tensor):
        raise TypeError(f"{name}: got {type(t).__name__}, expected a tensor")
    if t.is_nested or t.layout is not torch.strided:
        kind = "nested tensor" if t.is_nested else f"tensor of layout {t.layout}"
        raise TypeError(f"{name}: got a {kind}, expected a dense one")
    if t.dtype not in dtypes:
        raise TypeError(f"{name}: got dtype {t.dtype}, expected one of {', '.join(map(str, dtypes))}")
    return t


def choice(name, value, choices):
    if not isinstance(value, str) or value not in choices:
        nearest = get_close_matches(value, choices, 1) if isinstance(value, str) else ()
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(map(repr, choices))}{hint}")


def likelihood(value: Any) -> Any:
    """The name of a likelihood, which is given as its name or as an object of vae_kernels.likelihoods."""
    if isinstance(value, type) and issubclass(value, Likelihood):
        raise TypeError(f"likelihood: got the class {value.__name__}, expected an object, {value.__name__}()")
    name = value.name if isinstance(value, Likelihood) else value
    if isinstance(name, str) and name in SEGMENTS:
        if name == value:
            raise ValueError(f"likelihood: got {name!r}, expected an object with columns, vk.likelihoods.Mixed([...])")
        return name
    choice("likelihood", name, ALL)
    return name


# Likelihoods for which one tensor, the first parameter, is enough
_SINGLE = [n for n, f in ALL.items() if f.KIND in ("element", "row") and len(f.PARAMETERS) == 1 + len(f.DEFAULTS)]


_Tensor, _float32, _strided = torch.Tensor, torch.float32, torch.strided


def plain(tensors):
    """Whether all tensors are contiguous float32 on the CPU, with a batch, as nearly all are. Written to be fast."""
    for t in tensors:
        if type(t) is not _Tensor or t.dtype is not _float32 or not t.is_cpu or t.layout is not _strided or t.is_nested:
            return False
        if not t.is_contiguous() or not t.dim():
            return False
    return True


def plain_objective(likelihood, recon, x, latent=()):
    """Whether parameters() and latent() would find no error, and layout.py would change nothing.

    For small tensors the calls to these functions take most of the time.
    """
    if likelihood not in _SINGLE or not plain((recon, x, *latent)):
        return False
    shape = x.shape
    if not latent:
        return recon.shape == shape
    latents = latent[0].shape
    return recon.shape == shape and latent[-1].shape == latents and latents[0] == shape[0]


def on_device_of(like_name, like, name, t):
    if t.device != like.device:
        raise ValueError(f"{name}: is on {t.device}, but {like_name} is on {like.device}; expected one device")


def broadcasts(name, shape, to_name, to):
    """`shape` must broadcast to `to`, without making it larger."""
    fits = len(shape) <= len(to) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(to)))  # noqa: B905
    if not fits:
        raise ValueError(f"{name}: got shape {tuple(shape)}, expected one that broadcasts to {to_name}, {tuple(to)}")


def parameters(recon, x, likelihood: Any, obs_logvar):
    """The tuple of the parameters of a likelihood whose terms are elements of x, checked against x. parameters.py has
    the other kinds."""
    name = likelihood if type(likelihood) is str else likelihood.name
    if obs_logvar is None and name in _SINGLE and plain((recon, x)) and recon.shape == x.shape:
        return (recon,)
    choice("likelihood", name, ALL)
    likelihood, formula = name, ALL[name]
    tensor("x", x, TARGETS)
    if x.dim() == 0:
        raise ValueError("x: got a 0-d tensor, expected the batch as dimension 0")
    given = by_name(recon, likelihood)
    labels = labels_of(recon, given)
    for name, p in given.items():
        tensor(labels[name], p)
        on_device_of("x", x, labels[name], p)
    first, *others = formula.PARAMETERS
    if given[first].shape != x.shape:
        raise ValueError(_other_shape(labels[first], given[first], x))
    for name in others:
        if name in given:
            broadcasts(labels[name], given[name].shape, "x", x.shape)
    if obs_logvar is not None:
        given["logvar"] = _observation(obs_logvar, given[first], x, likelihood, labels.get("logvar"))
    return _in_order(given, formula, given[first])


def _other_shape(label, t, x):
    text = f"{label}: got shape {tuple(t.shape)}, expected that of x, {tuple(x.shape)}: "
    if t.shape[1:] != x.shape:
        return text + "nothing is broadcast here"
    k = len(t)
    return text + f"for {k} draws of z for each x, give n_samples={k}"


def _in_order(given, formula, like):
    """The tuple of the parameters up to the last one that is given. A parameter that is missing has its default."""
    names = formula.PARAMETERS
    if tuple(given) == names[: len(given)]:
        return tuple(given.values())
    names = names[: 1 + max(map(names.index, given))]
    return tuple(given[n] if n in given else _number(formula.DEFAULTS[n], like) for n in names)


def _number(value, like):
    """A number as a 0-d tensor, on the device of a parameter and in the dtype that it is computed in."""
    return torch.full((), value, dtype=_computed(like), device=like.device)


def _computed(like):
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def _observation(obs_logvar, loc, x, likelihood, label):
    """obs_logvar as a tensor. `label` is the name of recon's logvar in an error; None if recon has no logvar."""
    if "logvar" not in ALL[likelihood].PARAMETERS:
        raise ValueError(f"obs_logvar: has no effect with likelihood={likelihood!r}, which has no variance")
    if label is not None:
        raise ValueError(f"obs_logvar: given beside {label}; expected one of the two")
    obs_logvar = current(obs_logvar)
    if isinstance(obs_logvar, torch.Tensor):
        tensor("obs_logvar", obs_logvar)
        on_device_of("x", x, "obs_logvar", obs_logvar)
        broadcasts("obs_logvar", obs_logvar.shape, "x", x.shape)
        return obs_logvar
    number("obs_logvar", obs_logvar)
    if abs(obs_logvar) > torch.finfo(_computed(loc)).max:
        raise ValueError(f"obs_logvar: got {obs_logvar}, expected a number that {_computed(loc)} holds")
    return _number(obs_logvar, loc)


def posterior(mu: Any, logvar: Any, prior: Any) -> tuple[torch.Tensor, ...]:
    """(mu, logvar) or (mu, logvar, prior_mu, prior_logvar), checked against each other."""
    tensor("mu", mu)
    if logvar is None:
        raise TypeError("logvar: got None, expected a tensor; one tensor [B, 2L, ...] with both is given as moments=")
    tensor("logvar", logvar)
    if mu.dim() == 0:
        raise ValueError("mu: got a 0-d tensor, expected the batch as dimension 0")
    if mu.shape != logvar.shape:
        raise ValueError(f"logvar: got shape {tuple(logvar.shape)}, expected that of mu, {tuple(mu.shape)}")
    on_device_of("mu", mu, "logvar", logvar)
    if prior is None:
        return mu, logvar
    if not isinstance(prior, (tuple, list)) or len(prior) != 2:
        got = f"{len(prior)} tensors" if isinstance(prior, (tuple, list)) else type(prior).__name__
        raise TypeError(f"prior: got {got}, expected None or a pair of tensors (mu, logvar)")
    for i, name in enumerate(("prior[0] (mu)", "prior[1] (logvar)")):
        tensor(name, prior[i])
        on_device_of("mu", mu, name, prior[i])
        broadcasts(name, prior[i].shape, "mu", mu.shape)
    return mu, logvar, *prior


def moments(t, name="moments", **others):
    """mu and logvar in one tensor, which takes the place of the arguments `others`."""
    tensor(name, t)
    for other, value in others.items():
        if value is not None:
            raise ValueError(f"{name}: given beside {other}; expected one or the other")
    if t.dim() < 2 or t.shape[1] % 2:
        came = f"shape {tuple(t.shape)}{' and no logvar' if name == 'mu' else ''}"
        raise ValueError(f"{name}: got {came}, expected [B, 2L, ...]: mu, then logvar, along dimension 1")
    return t


def latent(mu, logvar, kl, prior, batch):
    """The latent term's tensors, from mu and logvar, or from kl."""
    if kl is None:
        if mu is None:
            raise ValueError(
                "mu, logvar, kl: expected mu and logvar, or kl, or moments; for the likelihood alone there is nll()"
            )
        tensors = posterior(mu, logvar, prior)
        name = "mu"
    else:
        if mu is not None or logvar is not None:
            raise ValueError("kl: given beside mu or logvar; expected one or the other")
        if prior is not None:
            raise ValueError("prior: has no effect with kl=, which was computed with its own prior")
        tensors = (tensor("kl", kl),)
        name = "kl"
    if tensors[0].dim() == 0 or tensors[0].shape[0] != batch.shape[0]:
        raise ValueError(
            f"{name}: got shape {tuple(tensors[0].shape)}, expected the batch of x, {batch.shape[0]}, as dimension 0"
        )
    on_device_of("x", batch, name, tensors[0])
    return tensors


def plain_weights(rec_weight, beta):
    """Whether weight() would find no error, and layout.py would change nothing."""
    return type(rec_weight) is type(beta) is float and 0 <= rec_weight < math.inf and 0 <= beta < math.inf


def weight(name, value, like, dims=()):
    """A number >= 0, or a tensor that broadcasts to `dims`. Values are not read: that would wait for a device."""
    if isinstance(value, torch.Tensor):
        tensor(name, value)
        on_device_of("x", like, name, value)
        broadcasts(name, value.shape, "the latent dims" if dims else "a number", dims)
        return
    number(name, value)
    if value < 0:
        raise ValueError(f"{name}: got {value}, expected a number >= 0")


def free_bits(value, units):
    """FreeBits(nats, unit) from a pair. core/penalty.py checks the nats."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        names = ", ".join(map(repr, units))
        raise TypeError(f"free_bits: got {value!r}, expected None or a pair (nats, unit), unit one of {names}")
    choice("free_bits[1] (unit)", value[1], units)
    return FreeBits(*value)


def noise(n_samples, generator, mu, of="mu"):
    whole = isinstance(n_samples, int) and not isinstance(n_samples, bool)
    if n_samples is not None and not (whole and 1 <= n_samples < 2**31):
        raise ValueError(f"n_samples: got {n_samples!r}, expected None or an integer >= 1 and < 2^31")
    if generator is not None:
        if not isinstance(generator, torch.Generator):
            raise TypeError(f"generator: got {type(generator).__name__}, expected a torch.Generator")
        if generator.device.type != mu.device.type:
            raise ValueError(f"generator: is on {generator.device}, but {of} is on {mu.device}; expected one device")


def shard(shard, rows):
    """Shard(first, total), the place of these rows in a batch, from a pair."""
    ints = isinstance(shard, (tuple, list)) and all(isinstance(n, (int, torch.SymInt)) for n in shard)
    if not ints or len(shard) != 2:
        raise TypeError(f"shard: got {shard!r}, expected None or a pair of integers (first, total)")
    first, total = shard
    if not 0 <= first <= total - rows:
        raise ValueError(f"shard: got {(first, total)}, expected 0 <= first <= total - {rows}, the batch of mu")
    return Shard(first, total)
