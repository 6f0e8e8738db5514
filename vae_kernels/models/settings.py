"""How VAE and FusedELBO keep the settings of fused_elbo: numbers, tensors, parameters and controls."""

import warnings

import torch
from torch import nn

from ..core import checks
from ..core.control import Control, refuse_bare_value
from ..core.pairs import FreeBits
from ..core.penalty import UNITS
from ..priors import ConditionalGaussian, Prior
from ..typing import FreeBitsLike, FreeBitsUnit, LikelihoodLike, ModelPrior, Number
from . import arguments

_LOSS_SETTINGS = ("beta", "rec_weight", "free_bits_nats", "obs_logvar")
_KEPT = (*_LOSS_SETTINGS, "prior_mu", "prior_logvar")
_LABELS = {"free_bits_nats": "free_bits", "prior_mu": "prior[0] (mu)", "prior_logvar": "prior[1] (logvar)"}


class Settings(nn.Module):
    """Keeps the settings so that `.to(device)`, copies and state_dict include them.

    A number stays an attribute. An nn.Parameter is trained. Another tensor is a buffer. A control is a child module,
    and each call reads the value that the control has then.

    A checkpoint with other settings of the loss still loads. If the checkpoint has a number where this module has a
    tensor or a control, or the reverse, this module keeps its own setting. A Parameter must be in the checkpoint.
    """

    beta: Number
    rec_weight: Number
    obs_logvar: Number | None
    prior_mu: torch.Tensor | None
    prior_logvar: torch.Tensor | None
    prior_module: Prior | ConditionalGaussian | None
    free_bits_nats: Number | None
    free_bits_unit: FreeBitsUnit | None

    likelihood: LikelihoodLike

    def __init__(
        self,
        likelihood: LikelihoodLike,
        *,
        obs_logvar: Number | None,
        prior: ModelPrior,
        beta: Number,
        rec_weight: Number,
        free_bits: FreeBitsLike | None,
    ) -> None:
        arguments.loss(likelihood, obs_logvar, prior, beta, rec_weight, free_bits)
        super().__init__()
        self.likelihood = likelihood
        self.free_bits = free_bits
        self.obs_logvar, self.beta, self.rec_weight = obs_logvar, beta, rec_weight
        self.prior_module = prior if isinstance(prior, (Prior, ConditionalGaussian)) else None
        self.prior_mu, self.prior_logvar = prior if isinstance(prior, (tuple, list)) else (None, None)

    @property
    def prior(self) -> ModelPrior:
        """None for N(0, I), the pair (mu, logvar), or the module."""
        mu, logvar = self.prior_mu, self.prior_logvar
        return self.prior_module if mu is None or logvar is None else (mu, logvar)

    @property
    def free_bits(self) -> FreeBitsLike | None:
        """None, or FreeBits(nats, unit)."""
        nats, unit = self.free_bits_nats, self.free_bits_unit
        return None if nats is None or unit is None else FreeBits(nats, unit)

    @free_bits.setter
    def free_bits(self, pair: FreeBitsLike | None) -> None:
        nats, unit = (None, None) if pair is None else checks.free_bits(pair, UNITS)
        self.free_bits_nats, self.free_bits_unit = nats, unit

    def shown(self) -> str:
        """The settings in a few words, for extra_repr(). A setting of None is left out, except the prior."""
        nats = None if self.free_bits is None else f"({_shown(self.free_bits[0])}, {self.free_bits[1]!r})"
        prior = self.prior
        words = {"beta": _shown(self.beta), "rec_weight": _shown(self.rec_weight)}
        words["prior"] = "N(0, I)" if prior is None else _shown(prior)
        words |= {"obs_logvar": None if self.obs_logvar is None else _shown(self.obs_logvar), "free_bits": nats}
        return ", ".join(f"{name}={word}" for name, word in words.items() if word is not None)

    def __setattr__(self, name, value):
        if name in _KEPT:
            refuse_bare_value(_LABELS.get(name, name), value)
            if value is None or isinstance(value, (int, float, Control)):  # may replace a buffer or a module
                self._buffers.pop(name, None)
                self._modules.pop(name, None)
            elif isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter) and not self._replica():
                return self._keep_tensor(name, value)
        super().__setattr__(name, value)

    def _replica(self):
        """Whether nn.DataParallel has made this module, whose parameters are plain tensors that require grad."""
        return "_is_replica" in self.__dict__

    def _keep_tensor(self, name, value):
        """Keep a tensor that is no Parameter as a buffer."""
        label = _LABELS.get(name, name)
        if value.requires_grad:
            # A buffer is not in parameters(), so no optimizer would train it.
            raise ValueError(f"{label}: got a tensor that requires grad, expected an nn.Parameter (to train it)")
        if name in self._parameters:
            raise TypeError(f"{label}: got a tensor in place of an nn.Parameter, expected an nn.Parameter or None")
        self.__dict__.pop(name, None)
        self._modules.pop(name, None)
        self.register_buffer(name, value)

    def __setstate__(self, state):
        pair = state.pop("free_bits", None)  # a plain attribute of a module that version 0.1 pickled
        super().__setstate__(state)
        if "free_bits_unit" not in self.__dict__:
            self.free_bits = pair

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for name in _LOSS_SETTINGS:
            if name not in self._parameters:
                self._reconcile(state_dict, name, prefix + name)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _reconcile(self, state_dict, name, key):
        """Change the entries of one setting in state_dict to the entries that this module expects. state_dict is a copy
        that torch has made."""
        saved, held = state_dict.get(key), getattr(self, name)
        control_keys = [k for k in state_dict if k.startswith(key + ".")]
        if isinstance(held, Control):
            if not control_keys:  # the checkpoint has nothing, or the bare value, as version 0.1 saved it
                if saved is not None and not held._take(key, saved):
                    return
                state_dict |= {f"{key}.{part}": value for part, value in held.state_dict().items()}
            state_dict.pop(key, None)
            return
        if name == "obs_logvar" and not isinstance(held, torch.Tensor) and (control_keys or saved is not None):
            if held is None:  # the checkpoint is of another kind of model: torch reports the unexpected key
                return
            warnings.warn(f"{key}: the checkpoint has a variance, and this module keeps its own, {held}", stacklevel=2)
        for k in control_keys:
            del state_dict[k]
        if name in self._buffers:
            state_dict.setdefault(key, held)
        else:
            state_dict.pop(key, None)


def _shown(setting):
    """A setting in a few words. A child module is named by its class only: repr() gives each child a line of its
    own."""
    if isinstance(setting, tuple):
        return f"({', '.join(map(_shown, setting))})"
    if isinstance(setting, nn.Module):
        return type(setting).__name__
    if not isinstance(setting, torch.Tensor):
        return f"{setting:g}"
    kind = "Parameter" if isinstance(setting, nn.Parameter) else "tensor"
    one = setting.numel() == 1 and setting.is_cpu  # to read a number from another device would wait for the device
    return f"{kind}({setting.item():g})" if one else f"{kind}(shape={tuple(setting.shape)})"
