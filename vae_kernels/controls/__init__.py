"""Tools that change the loss during a training: schedules and controllers, which take the place of a number, and
functions of the KL.

    warmup = vk.controls.LinearWarmup(10_000)
    vae = vk.mlp_vae((784,), beta=warmup).cuda()
    vae(x).backward(); optimizer.step(); warmup.step()

Schedules and controllers are modules. A VAE or a FusedELBO keeps, moves and saves each control that it is made with. A
control writes its value in place, on its device. So a compiled step is not compiled again, and a captured CUDA graph
reads the new value. The functions of the KL give a tensor [B] for `fused_elbo(recon, x, kl=...)`, and are
differentiable.
"""

from .balance import GroupedKl, balance_groups, balanced_kl, grouped_kl
from .geco import Geco
from .penalty import capacity, free_bits, kl_per_dim
from .schedules import Constant, Cosine, Cyclical, LinearWarmup, Schedule
from .sigma import RunningLogvar, optimal_logvar

__all__ = [
    "Constant",
    "Cosine",
    "Cyclical",
    "Geco",
    "GroupedKl",
    "LinearWarmup",
    "RunningLogvar",
    "Schedule",
    "balance_groups",
    "balanced_kl",
    "capacity",
    "free_bits",
    "grouped_kl",
    "kl_per_dim",
    "optimal_logvar",
]
