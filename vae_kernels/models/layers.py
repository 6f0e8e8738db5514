"""The networks of mlp_vae and conv_vae: layers in a row, with what counts and a condition need at both ends."""

import torch
from torch import nn

from ..formulas.bounded import bounded

LOG_MEAN = (-20.0, 20.0)  # e^20 is 5e8: more than a count, and the sum of many such rates is finite in float32


class _Layers(nn.Sequential):
    """Layers in a row, called with (first) or (first, condition [B, C]), which are joined along dimension 1.

    for_counts: whether first or the result is changed, as the subclass says. Models of version 0.1 had no such change.
    So a state_dict has a mark, a tensor `for_counts`. A state_dict without the mark is that of an older model, and
    loading it turns the change off.
    """

    def __init__(self, *layers: nn.Module, counts: bool = False, condition_dim: int = 0) -> None:
        super().__init__(*layers)
        self.for_counts, self._marked = counts, counts
        self.condition_dim = condition_dim

    def _joined(self, first, condition):
        if self.condition_dim != (condition[0].shape[1] if condition and condition[0].dim() == 2 else 0):
            came = f"shape {tuple(condition[0].shape)}" if condition else "None"
            expected = f"(B, {self.condition_dim})" if self.condition_dim else "None"
            raise ValueError(f"condition: got {came}, expected {expected}, as condition_dim is {self.condition_dim}")
        if condition:
            first = torch.cat([first.flatten(1), condition[0].to(first.dtype)], 1)
        return super().forward(first)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._marked:
            destination[prefix + "for_counts"] = torch.tensor(self.for_counts)

    def _load_from_state_dict(self, state_dict, prefix, *others):
        if self._marked and any(key.startswith(prefix) for key in state_dict):
            mark = state_dict.get(prefix + "for_counts")
            self.for_counts = mark is not None and bool(mark)
            state_dict = {key: value for key, value in state_dict.items() if key != prefix + "for_counts"}
        super()._load_from_state_dict(state_dict, prefix, *others)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={held}" for name in ("for_counts", "condition_dim") if (held := getattr(self, name)))


class Encoder(_Layers):
    """x -> the layers. Counts enter as log(1 + x)."""

    def __init__(self, *layers: nn.Module, input_shape: tuple[int, ...], **settings) -> None:
        super().__init__(*layers, **settings)
        self.input_shape = input_shape

    def forward(self, x, *condition):
        return self._joined(torch.log1p(x) if self.for_counts else x, condition)


class Decoder(_Layers):
    """z -> the layers. The first parameter of a likelihood of counts is a log-mean, which is bounded."""

    def forward(self, z, *condition):
        out = self._joined(z, condition)
        if not self.for_counts:
            return out
        first, *rest = out if isinstance(out, tuple) else (out,)
        first = bounded(first, *LOG_MEAN)
        return (first, *rest) if rest else first


class Split(nn.Module):
    """[B, n*C, ...] -> a tuple of n views [B, C, ...]: one for each parameter of the likelihood."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, h: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return h.chunk(self.n, dim=1)
