"""What steers a training: schedules and controllers, which stand where a number does, and functions of the KL.

    warmup = vk.controls.LinearWarmup(10_000)
    vae = vk.mlp_vae((784,), beta=warmup).cuda()
    vae(x).backward(); optimizer.step(); warmup.step()

Schedules and controllers are modules: a VAE or FusedELBO that is handed one keeps it, moves it and saves it. Each
writes its value in place, on its device, so a compiled step is not compiled again and a captured graph reads the new
value. The functions give a [B] for `fused_elbo(recon, x, kl=...)`, differentiable like the KL they take.
"""

from .balance import balance_groups, balanced_kl
from .geco import Geco
from .penalty import capacity, free_bits, kl_per_dim
from .schedules import Constant, Cosine, Cyclical, LinearWarmup, Schedule
from .sigma import RunningLogvar, optimal_logvar

__all__ = [
    "Constant",
    "Cosine",
    "Cyclical",
    "Geco",
    "LinearWarmup",
    "RunningLogvar",
    "Schedule",
    "balance_groups",
    "balanced_kl",
    "capacity",
    "free_bits",
    "kl_per_dim",
    "optimal_logvar",
]
