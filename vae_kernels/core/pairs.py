"""The pairs that some arguments take, with names for their parts. A plain tuple of the same parts works too."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from ..typing import FreeBitsUnit
    from .control import Control


class FreeBits(NamedTuple):
    """For `free_bits=`: the KL of a unit counts as at least `nats`. Below `nats` it has no gradient.

        vk.fused_elbo(recon, x, mu, logvar, free_bits=vk.FreeBits(0.5, "per_dim"))

    nats: a float, a 0-d tensor or a schedule, >= 0.
    unit: "per_dim", "per_sample", "per_batch_mean" or "per_group": controls.free_bits has their formulas. Under data
          parallelism each rank takes the mean over its own samples. controls.free_bits(..., group=) takes the mean over
          the samples of all ranks.
    """

    nats: "float | torch.Tensor | Control"
    unit: "FreeBitsUnit"


class Shard(NamedTuple):
    """For `shard=`: the B samples of a call are the samples first, ..., first + B - 1 of a batch of `total` samples.

        z, kl = vk.sample_kl(mu, logvar, shard=vk.Shard(rank * len(mu), world_size * len(mu)))

    Each sample then gets the noise that it has in the whole batch.
    """

    first: int
    total: int
