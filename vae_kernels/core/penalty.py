"""Functions that replace the KL: `fused_elbo(recon, x, kl=free_bits(kl, 2.0, unit="per_sample"))`.

free_bits and capacity give a tensor [B] whose mean over the batch is the paper's term. If the paper averages over the
batch first, all elements of this tensor are equal. With reduction="sum" the paper's term therefore counts B times.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, get_args

import torch

from ..typing import CapacityUnit, FreeBitsUnit, Number
from . import checks
from .control import current
from .objective import KlFloor
from .ranges import ints
from .ranks import batch_mean

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

UNITS: tuple[FreeBitsUnit, ...] = get_args(FreeBitsUnit)
"""The names that `unit=` of free_bits takes. "batch_mean" is the name that version 0.1 had for "per_batch_mean"."""


def free_bits(
    kl: torch.Tensor,
    nats: Number,
    *,
    unit: FreeBitsUnit,
    groups: Iterable[int] | None = None,
    group: ProcessGroup | None = None,
) -> torch.Tensor:
    """The KL, but at least `nats` in each unit. A unit below `nats` costs `nats`, and has no gradient.

        "per_dim"     sum_d max(nats, mean_b kl_bd)     kl [B, L, ...]: kl_per_dim(mu, logvar)
        "per_group"   sum_g max(nats, mean_b kl_bg)     kl [B, G, ...]: a group is one index of dimension 1, such as a
                                                        channel, with all dimensions behind it. With groups=(4, 12)
                                                        the first group is 4 indices of dimension 1, the second 12
        "per_sample"  max(nats, kl_b)                   kl [B], of sample_kl or gaussian_kl; [B, ...] is summed to [B]
        "per_batch_mean"  max(nats, mean_b kl_b)        kl as for "per_sample"; "batch_mean" is another name

    "per_group" is equation 15 of Kingma et al. 2016, arXiv:1606.04934. "per_dim" is "per_group" with one dimension in
    each group. "per_sample" and "per_batch_mean" apply the minimum to the whole KL, as the code of DreamerV2 does
    (arXiv:2010.02193). The term is at least `nats` for each unit (L * nats with "per_dim"). While a unit is below
    `nats`, the objective is not the ELBO.

    Args:
        kl: nats, of the shape that the unit needs: float32, float64, bfloat16 or float16.
        nats: a float, a 0-d tensor or a control, >= 0. The value in a tensor is not checked.
        unit: "per_dim", "per_sample", "per_batch_mean" or "per_group".
        groups: None, or for "per_group" the sizes of the groups, integers >= 1 that sum to the size of dimension 1.
        group: None, or the process group of data parallelism, torch.distributed.group.WORLD. mean_b is then the mean
            over the samples of all its ranks. Without a group mean_b is the mean over the samples of this rank, so each
            rank compares its own KL with the nats. All ranks of the group must make the call and run the backward pass,
            which sums over the ranks too. "per_sample" takes no group, because it has no mean.

    Returns:
        [B], differentiable, for `kl=` of fused_elbo.

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected.
    """
    checks.choice("unit", unit, UNITS)
    nats = checked_nats(nats, kl, unit)
    _check_group(group, unit)
    if groups is None:
        return floored(kl, nats, FLOOR_OF[unit], group)
    if unit != "per_group":
        raise ValueError(f"groups: has no effect with unit={unit!r}")
    return floored(_grouped(kl, groups), nats, KlFloor.PER_DIM, group)


FLOOR_OF = {
    "per_dim": KlFloor.PER_DIM,
    "per_group": KlFloor.PER_GROUP,
    "per_sample": KlFloor.PER_SAMPLE,
    "per_batch_mean": KlFloor.PER_BATCH_MEAN,
    "batch_mean": KlFloor.PER_BATCH_MEAN,
}


def checked_nats(nats: Number, kl: torch.Tensor, unit: FreeBitsUnit, name: str = "nats") -> float | torch.Tensor:
    """The present value of the nats. kl: the KL, or a tensor of its shape and device; this unit needs its shape."""
    _kl(kl, 2 if unit in ("per_dim", "per_group") else 1, f"unit={unit!r}")
    return _nats(name, nats, kl)


def floored(kl: torch.Tensor, nats: float | torch.Tensor, unit: int, group: ProcessGroup | None = None) -> torch.Tensor:
    """The formula of free_bits: [B] from the KL [B, ...]. unit: a number of KlFloor."""
    if unit == KlFloor.PER_SAMPLE:
        return floors(_per_sample(kl), nats)
    if unit == KlFloor.PER_BATCH_MEAN:
        units = _per_sample(kl).unsqueeze(1)
    else:
        units = kl.flatten(1) if unit == KlFloor.PER_DIM else kl.flatten(2).sum(2) if kl.dim() > 2 else kl
    return floors(batch_mean("kl", units, group), nats).sum().expand(len(kl))


def capacity(
    kl: torch.Tensor, nats: Number, *, unit: CapacityUnit = "per_sample", group: ProcessGroup | None = None
) -> torch.Tensor:
    """|KL - C| pulls the KL to C nats, from above and from below. `nats` is C, and may be a schedule. Give the paper's
    gamma as beta= of fused_elbo.

        "per_sample"      |kl_b - C|         Burgess et al. 2018, arXiv:1804.03599, equation 8
        "per_batch_mean"  |mean_b kl_b - C|  of the mean KL, because samples may need different amounts of nats;
                                             "batch_mean" is another name

    kl: [B]; [B, ...] is summed to [B]. nats: a float, a 0-d tensor or a control, >= 0. group: as in free_bits.
    Returns [B], for `kl=` of fused_elbo.
    """
    checks.choice("unit", unit, get_args(CapacityUnit))
    _check_group(group, unit)
    _kl(kl, 1, f"unit={unit!r}")
    target, kl = _nats("nats", nats, kl), _per_sample(kl)
    if unit == "per_sample":
        return (kl - target).abs()
    return (batch_mean("kl", kl, group) - target).abs().expand(len(kl))


def _check_group(group, unit):
    if group is not None and unit == "per_sample":
        raise ValueError(f"group: has no effect with unit={unit!r}, which takes no mean over samples")


def _kl(kl, least_dims, unit):
    checks.tensor("kl", kl)
    if kl.dim() < least_dims:
        expected = "[B, L, ...], as kl_per_dim gives it" if least_dims == 2 else "[B, ...]"
        raise ValueError(f"kl: got shape {tuple(kl.shape)}, expected {expected}, with {unit}")


def _nats(name, value, kl):
    """The present value of the nats, checked."""
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
    """The KL of each group: [B, G]."""
    each = kl.flatten(2).sum(2) if kl.dim() > 2 else kl
    groups = ints("groups", groups, "None or a tuple of positive integers")
    if sum(groups) != kl.shape[1]:
        raise ValueError(f"groups: got {groups}, which sum to {sum(groups)}, expected dimension 1 of kl, {kl.shape[1]}")
    return torch.stack([part.sum(1) for part in each.split(groups, 1)], 1)


def floors(kl, nats):
    """Each KL, but at least the nats."""
    # where(), not clamp(): clamp() would give a gradient to a unit that is exactly at the floor. A NaN stays a NaN.
    return torch.where(kl <= nats, nats, kl)
