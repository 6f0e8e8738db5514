"""The three parts of the KL of a data set (Chen et al. 2018, arXiv:1802.04942), in nats:

    E_x KL( q(z|x) || p(z) ) = I(z; x) + KL( q(z) || prod_j q(z_j) ) + sum_j KL( q(z_j) || p(z_j) )

They are the index-code mutual information, the total correlation, and the KL of each dimension. q(z) = 1/N sum_n
q(z|x_n) is the aggregate posterior. A batch has B of the N data, and one sample z_i of each q(z|x_i). From this batch,
the estimates of q(z_i) are

    "stratified"   q(z_i) = 1/N q(z_i|x_i) + (N - 1)/N 1/(B - 1) sum_{j != i} q(z_i|x_j)
    "weighted"     q(z_i) = 1/(N B) sum_j q(z_i|x_j)

"stratified" has no bias: the component of z_i itself has the weight 1/N, and the other components of the batch stand
for all other components. It is the paper's minibatch stratified sampling, averaged over the choice of the last
component. "weighted" is the paper's minibatch weighted sampling. Its estimate of log q(z) is a lower bound in
expectation: if the components do not overlap, the mutual information becomes log(N B) in place of log N.
formulas/decomposition.py computes the parts from the weights of the components.
"""

import math
from dataclasses import dataclass
from typing import get_args

import torch

from .. import backends
from ..backends.reference import compute_dtype
from ..core import checks
from ..formulas import gaussian
from ..typing import Backend, KlEstimator

ESTIMATORS: tuple[KlEstimator, ...] = get_args(KlEstimator)
# On a GPU "auto" takes plain PyTorch up to this number of samples x posteriors x dimensions (64 MB a tensor). There the
# launches of a mixture for each dimension should take longer than plain PyTorch. This has not been measured on a GPU.
_FEW = 1 << 24


@dataclass(frozen=True)
class KlParts:
    """The result of kl_decomposition, in nats, for each sample. The mean over the batch estimates each term.

    mutual_information  [B]: log q(z|x) - log q(z)
    total_correlation   [B]: log q(z) - sum_j log q(z_j)
    dimension_wise_kl   [B, L, ...]: log q(z_j) - log p(z_j)

    The sum of the three is log q(z|x) - log p(z), and its expectation is the KL.
    """

    mutual_information: torch.Tensor
    total_correlation: torch.Tensor
    dimension_wise_kl: torch.Tensor

    @property
    def kl(self) -> torch.Tensor:
        """[B]: the sum of all terms, log q(z|x) - log p(z)."""
        return self.mutual_information + self.total_correlation + self.dimension_wise_kl.flatten(1).sum(1)


def kl_decomposition(
    z: torch.Tensor,
    mu: torch.Tensor,
    logvar: torch.Tensor,
    *,
    dataset_size: int,
    prior: tuple[torch.Tensor, torch.Tensor] | None = None,
    estimator: KlEstimator = "stratified",
    backend: Backend = "auto",
) -> KlParts:
    """The three parts of the KL, estimated from one batch (Chen et al. 2018, arXiv:1802.04942). The result is
    differentiable. The loss of a beta-TCVAE is

        z = vk.reparameterize(mu, logvar)
        parts = vk.kl_decomposition(z, mu, logvar, dataset_size=60_000)
        kl = parts.mutual_information + beta * parts.total_correlation + parts.dimension_wise_kl.sum(1)
        loss = vk.fused_elbo(decoder(z), x, kl=kl)

    Args:
        z: [B, L, ...] one sample for each x of the batch. "stratified" needs B >= 2.
        mu, logvar: [B, L, ...] the posteriors that z was drawn from.
        dataset_size: N >= B, the size of the data set from which the batch is drawn without replacement.
        prior: None for N(0, I), or a pair (mu, logvar) that broadcasts to mu: a prior whose dimensions are independent.
        estimator: the estimate of q(z) and q(z_j): "stratified", without bias, or "weighted", with bias (see above).
        backend: as in fused_elbo. "torch", second derivatives and torch.func take memory for B x B x L numbers.

    Returns:
        KlParts, float32, or float64 if an argument is float64.

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected.
    """
    checks.choice("estimator", estimator, ESTIMATORS)
    latent = checks.posterior(mu, logvar, prior)
    if checks.tensor("z", z).shape != mu.shape:
        raise ValueError(
            f"z: got shape {tuple(z.shape)}, expected that of mu, {tuple(mu.shape)}: one sample for each x"
        )
    checks.on_device_of("mu", mu, "z", z)
    if mu.dim() < 2 or mu.numel() == 0:
        raise ValueError(f"mu: got shape {tuple(mu.shape)}, expected [B, L, ...], and at least one number")
    if len(mu) == 1 and estimator == "stratified":
        raise ValueError(
            'mu: got a batch of 1 sample, and estimator="stratified" needs at least 2. If this is the last batch of an '
            'epoch, give the DataLoader drop_last=True; estimator="weighted" takes any batch'
        )
    if isinstance(dataset_size, bool) or not isinstance(dataset_size, int) or dataset_size < len(mu):
        raise ValueError(f"dataset_size: got {dataset_size!r}, expected an integer, at least the batch size {len(mu)}")
    tensors = (z, *latent)
    few = backend == "auto" and z.is_cuda and len(z) * z.numel() <= _FEW
    module = backends.choose("torch" if few else backend, tensors)
    dtype = compute_dtype(*tensors)
    z, mu, logvar, *prior_pair = (t.to(dtype) for t in tensors)
    points, means, logvars = (t.flatten(1).contiguous() for t in (z, mu, logvar))
    log_own, log_other = _log_weights(len(z), dataset_size, estimator)
    information, correlation, log_q = module.decomposition(points, means, logvars, log_own, log_other)
    return KlParts(information, correlation, log_q.reshape(z.shape) - _log_prior(z, *prior_pair))


def _log_prior(z, mu=None, logvar=None):
    if mu is None or logvar is None:
        return -0.5 * (z * z + math.log(2 * math.pi))
    return -gaussian.nll(z, mu.expand(z.shape), logvar)


def _log_weights(batch, n, estimator):
    """The log weights in the estimate of q(z_i): of q(z_i|x_i), and of every other q(z_i|x_j)."""
    if estimator == "weighted":
        return -math.log(n * batch), -math.log(n * batch)
    return -math.log(n), math.log((n - 1) / (n * (batch - 1)))
