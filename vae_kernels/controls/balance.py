"""KL balancing. Two papers use this name: one balances posterior and prior, the other balances latent groups."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .. import functional
from ..core import checks, penalty
from ..core.ranges import flag, fraction, positive
from ..typing import Backend, Number


def balanced_kl(
    mu: torch.Tensor,
    logvar: torch.Tensor,
    *,
    prior: tuple[torch.Tensor, torch.Tensor],
    alpha: float = 0.8,
    backend: Backend = "auto",
) -> torch.Tensor:
    """The KL [B] in nats. Its gradient is weighted: alpha for the prior, 1 - alpha for the posterior:

        alpha KL( sg(q) || p ) + (1 - alpha) KL( q || sg(p) ),    sg = stop gradient

    This is algorithm 2 of Hafner et al. 2021 (DreamerV2), arXiv:2010.02193, with its alpha. A prior that is not trained
    yet then moves to the posterior faster than the posterior moves to the prior. Give the result as `kl=` to
    fused_elbo.

    prior: the pair (mu, logvar), as in gaussian_kl. It is required, because N(0, I) has no gradient to balance.
    """
    fraction("alpha", alpha)
    if prior is None:
        raise ValueError("prior: got None, expected a pair of tensors (mu, logvar): N(0, I) has nothing to train")
    return functional.balanced_kl(mu, logvar, prior, float(alpha), backend)


def balance_groups(kl: torch.Tensor, sizes: Sequence[float] | None = None) -> torch.Tensor:
    """The weighted sum [B] of the KLs of latent groups. A group with a larger KL gets a larger weight:

        sum_g gamma_g kl_bg,   gamma_g = sg( (mean_b |kl_bg| + 0.01) / sizes_g ), scaled to a mean of 1 over the groups

    This weight keeps every group active during the warm-up. Vahdat & Kautz 2020 (NVAE), arXiv:2007.03898, appendix A;
    the 0.01 nats come from the published code of the paper. The loss with this weighted KL is not -ELBO: use it only
    during the warm-up, as this code does.

    kl:    [B, G] in nats: torch.stack([kl_1, ..., kl_G], 1), where each kl_g is [B].
    sizes: None, or G positive numbers: a larger size gives its group a smaller weight.
    Returns [B], for `kl=` of fused_elbo.
    """
    return (_stacked(kl) * _gamma(kl, sizes)).sum(1)


class GroupedKl(NamedTuple):
    """The result of grouped_kl, in nats.

    kl         [B], with its gradient, for `kl=` of fused_elbo
    per_group  [G]: the KL of each group, the mean over the batch, without weight and floor; detached
    active     0-d int64: the number of groups whose per_group is above ACTIVE_GROUP, 0.01 nats
    """

    kl: torch.Tensor
    per_group: torch.Tensor
    active: torch.Tensor


ACTIVE_GROUP = 0.01
"""Nats. A group with a smaller KL is not used: its posterior is its prior."""


def grouped_kl(
    kl: torch.Tensor | Sequence[torch.Tensor],
    *,
    free_bits: Number | None = None,
    balance: bool = False,
    sizes: Sequence[float] | None = None,
) -> GroupedKl:
    """The KL of a hierarchy of G groups of latents, each drawn with sample_kl(q_g, prior=p_g), and the nats of each
    group:

        kl_b = sum_g gamma_g c_bg,   c_bg = max(nats, mean_b kl_bg), or kl_bg without free bits

    gamma_g is 1, or with balance=True the weight of balance_groups, for the warm-up. max(nats, ...) is the free bits of
    Kingma et al. 2016, arXiv:1606.04934, equation 15: a group below so many nats has no gradient.

        z1, kl1 = vk.sample_kl(*q1, prior=p1);  z2, kl2 = vk.sample_kl(*q2, prior=p2)
        grouped = vk.controls.grouped_kl([kl1, kl2], free_bits=0.1)
        loss = vk.fused_elbo(recon, x, kl=grouped.kl)

    For a Monitor, give the KL of each group to the loss: vk.fused_elbo(recon, x, kl=torch.stack(kls, 1),
    return_terms=True). The terms then have these as kl_per_dim, and a row of Monitor(groups=G) has the nats of each
    group.

    Args:
        kl: [B, G], or a sequence of G tensors [B].
        free_bits: None, or nats for each group: a float, a 0-d tensor or a control, >= 0.
        balance: whether each group has the weight gamma_g of balance_groups.
        sizes: as in balance_groups; only with balance=True.

    Returns:
        GroupedKl

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected.
    """
    flag("balance", balance)
    if sizes is not None and not balance:
        raise ValueError("sizes: has no effect without balance=True")
    stacked = _stacked(kl)
    means = stacked.detach().mean(0)
    costs = stacked
    if free_bits is not None:
        nats = penalty.checked_nats(free_bits, stacked, "per_group", "free_bits")
        costs = penalty.floors(stacked.mean(0), nats)
    weighted = costs * _gamma(stacked, sizes) if balance else costs
    total = weighted.sum(-1).expand(len(stacked))
    return GroupedKl(total, means, (means > ACTIVE_GROUP).sum())


def _stacked(kl: Any) -> torch.Tensor:
    """The KL [B, G], of one tensor or of G tensors [B]."""
    if isinstance(kl, (tuple, list)):
        if not kl:
            raise ValueError("kl: got no tensor, expected one [B] for each group")
        for i, part in enumerate(kl):
            if checks.tensor(f"kl[{i}]", part).dim() != 1 or len(part) != len(kl[0]):
                expected = f"[{len(kl[0])}]" if i and kl[0].dim() == 1 else "[B]"
                raise ValueError(f"kl[{i}]: got shape {tuple(part.shape)}, expected {expected}, one KL for each sample")
        return torch.stack(tuple(kl), 1)
    if checks.tensor("kl", kl).dim() != 2:
        raise ValueError(f"kl: got shape {tuple(kl.shape)}, expected [B, G], a column for each group")
    return kl


def _gamma(kl, sizes):
    """The weights [G] of balance_groups, without a gradient."""
    gamma = kl.detach().abs().mean(0) + 0.01
    if sizes is not None:
        if not isinstance(sizes, (tuple, list)):
            raise TypeError(f"sizes: got {type(sizes).__name__}, expected None or a list of numbers")
        if len(sizes) != kl.shape[1]:
            raise ValueError(f"sizes: got {len(sizes)} numbers, expected one for each of {kl.shape[1]} groups")
        for i, size in enumerate(sizes):
            positive(f"sizes[{i}]", size)
        gamma = gamma / torch.tensor(sizes, dtype=gamma.dtype, device=gamma.device)
    return gamma / gamma.mean()
