"""KL balancing. Two papers use this name: one balances posterior and prior, the other balances latent groups."""

from collections.abc import Sequence

import torch

from .. import functional
from ..core import checks
from ..core.ranges import fraction, positive
from ..typing import Backend


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
    yet then moves to the posterior faster than the posterior moves to the prior. For `kl=` of fused_elbo.

    prior: the pair (mu, logvar), as in gaussian_kl. It is required, because N(0, I) has no gradient to balance.
    """
    fraction("alpha", alpha)
    if prior is None:
        raise ValueError("prior: got None, expected a pair of tensors (mu, logvar): N(0, I) has nothing to train")
    return functional.balanced_kl(mu, logvar, prior, float(alpha), backend)


def balance_groups(kl: torch.Tensor, sizes: Sequence[float] | None = None) -> torch.Tensor:
    """The weighted sum [B] of the KLs of latent groups. A group with a larger KL gets a larger weight:

        sum_g gamma_g kl_bg,   gamma_g = sg( (mean_b |kl_bg| + 0.01) / sizes_g ), scaled to a mean of 1 over the groups

    So no group collapses during the warm-up in favour of another group. Vahdat & Kautz 2020 (NVAE), arXiv:2007.03898,
    appendix A; the 0.01 nats come from the published code of the paper. The weighted KL gives no ELBO: use it during
    the warm-up only, as this code does.

    kl:    [B, G] in nats: torch.stack([kl_1, ..., kl_G], 1), where each kl_g is [B].
    sizes: None, or G positive numbers: a larger size gives its group a smaller weight.
    Returns [B], for `kl=` of fused_elbo.
    """
    checks.tensor("kl", kl)
    if kl.dim() != 2:
        raise ValueError(f"kl: got shape {tuple(kl.shape)}, expected [B, G], a column for each group")
    gamma = kl.detach().abs().mean(0) + 0.01
    if sizes is not None:
        if not isinstance(sizes, (tuple, list)):
            raise TypeError(f"sizes: got {type(sizes).__name__}, expected None or a list of numbers")
        if len(sizes) != kl.shape[1]:
            raise ValueError(f"sizes: got {len(sizes)} numbers, expected one for each of {kl.shape[1]} groups")
        for i, size in enumerate(sizes):
            positive(f"sizes[{i}]", size)
        gamma = gamma / torch.tensor(sizes, dtype=gamma.dtype, device=gamma.device)
    return (kl * (gamma / gamma.mean())).sum(1)
