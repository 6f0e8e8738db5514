"""Functions of the KL that stand in its place: `fused_elbo(recon, x, kl=free_bits(kl, 2.0, unit="per_sample"))`.

free_bits and capacity give a [B] whose mean over the batch is the paper's term. Where the paper averages over the batch
first, all elements of the [B] are equal. With reduction="sum" the term counts B times, as everything else does.
"""

from collections.abc import Iterable
from typing import get_args

import torch

from ..typing import CapacityUnit, FreeBitsUnit, Number
from . import checks
from .control import current
from .ranges import count

UNITS: tuple[FreeBitsUnit, ...] = get_args(FreeBitsUnit)
"""The names that `unit=` of free_bits takes. "batch_mean" is another name of "per_batch_mean", as 0.1 had it."""


def free_bits(
    kl: torch.Tensor, nats: Number, *, unit: FreeBitsUnit, groups: Iterable[int] | None = None
) -> torch.Tensor:
    """The KL, but no less than `nats` in each unit: below that it costs nothing more, and has no gradient.

        "per_dim"     sum_d max(nats, mean_b kl_bd)     kl [B, L, ...]: kl_per_dim(mu, logvar)
        "per_group"   sum_g max(nats, mean_b kl_bg)     kl [B, G, ...]: a group is an index of dimension 1, such as a
                                                        channel, with all that lies behind it; or groups=(4, 12): so
                                                        many indices of dimension 1 each
        "per_sample"  max(nats, kl_b)                   kl [B], of sample_kl or gaussian_kl, or [B, ...], then summed
        "per_batch_mean"  max(nats, mean_b kl_b)        the same; "batch_mean" is another name of this unit

    "per_group" is Kingma et al. 2016, arXiv:1606.04934, equation 15, and "per_dim" the same with groups of one; the
    minimum of the whole KL, of its mean or of each sample's, is in the code of DreamerV2 (arXiv:2010.02193). The
    objective can be no less than nats per group (so L * nats with "per_dim"): it is no ELBO below that.

    Args:
        kl: nats, of the shape that the unit needs: float32, float64, bfloat16 or float16.
        nats: float, 0-d tensor or control, >= 0. The values in a tensor are not checked.
        unit: "per_dim", "per_sample", "per_batch_mean" or "per_group".
        groups: None, or for "per_group" the sizes of the groups, integers >= 1 that sum to the size of dimension 1.

    Returns:
        [B], differentiable, for `kl=` of fused_elbo. With data parallelism mean_b is the mean of each replica.

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected.
    """
    checks.choice("unit", unit, UNITS)
    _kl(kl, 2 if unit in ("per_dim", "per_group") else 1, f"unit={unit!r}")
    nats = _nats("nats", nats, kl)
    if groups is not None and unit != "per_group":
        raise ValueError(f"groups: has no effect with unit={unit!r}")
    if unit == "per_sample":
        return _floor(_per_sample(kl), nats)
    units = {"per_dim": lambda: kl.flatten(1), "per_group": lambda: _grouped(kl, groups)}
    units = units[unit]() if unit in units else _per_sample(kl).unsqueeze(1)
    return _floor(units.mean(0), nats).sum().expand(len(kl))


def capacity(kl: torch.Tensor, nats: Number, *, unit: CapacityUnit = "per_sample") -> torch.Tensor:
    """|KL - C|: the KL is drawn to C nats from both sides. beta= is the paper's gamma, and a schedule can be the C.

        "per_sample"      |kl_b - C|         Burgess et al. 2018, arXiv:1804.03599, equation 8
        "per_batch_mean"  |mean_b kl_b - C|  the same of the mean, as samples may differ in what they need; "batch_mean"
                                             is another name of this unit

    kl: [B], or [B, ...], then summed. nats: float, 0-d tensor or control, >= 0. Returns [B], for `kl=` of fused_elbo.
    """
    checks.choice("unit", unit, get_args(CapacityUnit))
    _kl(kl, 1, f"unit={unit!r}")
    level, kl = _nats("nats", nats, kl), _per_sample(kl)
    return (kl - level).abs() if unit == "per_sample" else (kl.mean() - level).abs().expand(len(kl))


def _kl(kl, least, why):
    checks.tensor("kl", kl)
    if kl.dim() < least:
        expected = "[B, L, ...], as kl_per_dim gives it" if least == 2 else "[B, ...]"
        raise ValueError(f"kl: got shape {tuple(kl.shape)}, expected {expected}, with {why}")


def _nats(name, value, kl):
    """What the nats are now, checked."""
    value = current(value)
    if isinstance(value, torch.Tensor):
        checks.tensor(name, value)
        checks.on_device_of("kl", kl, name, value)
        checks.broadcasts(name, value.shape, "a number", ())
    else:
        checks.number(name, value)
        if value < 0:
            raise ValueError(f"{name}: got {value}, expected a number >= 0")
    return value


def _per_sample(kl):
    return kl.flatten(1).sum(1) if kl.dim() > 1 else kl


def _grouped(kl, groups):
    """[B, G]."""
    each = kl.flatten(2).sum(2) if kl.dim() > 2 else kl
    if groups is None:
        return each
    groups = tuple(count("groups", n, 1) for n in groups)
    if sum(groups) != kl.shape[1]:
        raise ValueError(f"groups: got {groups}, which sum to {sum(groups)}, expected dimension 1 of kl, {kl.shape[1]}")
    return torch.stack([part.sum(1) for part in each.split(groups, 1)], 1)


def _floor(kl, nats):
    # where(), not clamp(): the unit at the floor has no gradient, exactly
    return torch.where(kl > nats, kl, nats)
