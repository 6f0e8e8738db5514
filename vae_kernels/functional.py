"""The public functions of the objective. sampling.py has the public functions of the samples.

Each function checks its arguments, lays the tensors out in memory, makes a request and gives the request to a backend.
All losses are negative objectives in nats, and training minimises them. Dimension 0 is the batch. A function sums over
all other dimensions. If the arguments are DTensors whose samples are sharded over ranks, the results are DTensors
(core/dtensor.py).
"""

from typing import Any, Literal, overload

import torch
from typing_extensions import Unpack

from .backends.compute import computed, kl_per_dim, nll_of_draws, of_draws, of_latent
from .core import checks, draws, laid_out, layout, penalty
from .core.control import current
from .core.objective import REDUCTIONS, KlFloor, objective
from .core.terms import ElboTerms
from .likelihoods import options_of
from .priors import pair_of
from .sampling import reparameterize, sample_and_noise, sample_kl
from .typing import Backend, ElboSettings, FreeBitsLike, LikelihoodLike, Number, PriorLike, Recon, Reduction

__all__ = ["fused_elbo", "gaussian_kl", "nll", "reparameterize", "sample_and_noise", "sample_kl"]


# fmt: off
@overload
def fused_elbo(
    recon: Recon, x: torch.Tensor, mu: torch.Tensor | None = None, logvar: torch.Tensor | None = None, *,
    kl: torch.Tensor | None = None, moments: torch.Tensor | None = None,
    return_terms: Literal[False] = False, **settings: Unpack[ElboSettings],
) -> torch.Tensor: ...
@overload
def fused_elbo(
    recon: Recon, x: torch.Tensor, mu: torch.Tensor | None = None, logvar: torch.Tensor | None = None, *,
    kl: torch.Tensor | None = None, moments: torch.Tensor | None = None,
    return_terms: Literal[True], **settings: Unpack[ElboSettings],
) -> ElboTerms: ...
@overload
def fused_elbo(
    recon: Recon, x: torch.Tensor, mu: torch.Tensor | None = None, logvar: torch.Tensor | None = None, *,
    kl: torch.Tensor | None = None, moments: torch.Tensor | None = None,
    return_terms: bool, **settings: Unpack[ElboSettings],
) -> torch.Tensor | ElboTerms: ...
# fmt: on


def fused_elbo(
    recon: Recon,
    x: torch.Tensor,
    mu: torch.Tensor | None = None,
    logvar: torch.Tensor | None = None,
    *,
    kl: torch.Tensor | None = None,
    moments: torch.Tensor | None = None,
    likelihood: LikelihoodLike = "bernoulli",
    obs_logvar: Number | None = None,
    log_total: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    latent_weight: torch.Tensor | None = None,
    prior: PriorLike = None,
    beta: Number = 1.0,
    rec_weight: Number = 1.0,
    free_bits: FreeBitsLike | None = None,
    n_samples: int | None = None,
    reduction: Reduction = "mean",
    return_terms: bool = False,
    backend: Backend = "auto",
) -> torch.Tensor | ElboTerms:
    """The loss of a variational autoencoder, in nats:

        loss_b = rec_weight * (-log p(x_b | z_b)) + sum_d beta_d KL_d( N(mu_b, exp(logvar_b)) || prior )

    This is -ELBO at rec_weight = beta = 1 (Kingma & Welling 2014, arXiv:1312.6114, equation 3; beta: Higgins et al.
    2017, beta-VAE, equation 4), if neither weight nor latent_weight is given. All dimensions but dimension 0 are
    summed. reduction="mean" is the mean over the batch.

        loss = fused_elbo(decoder(z), x, mu, logvar)

    Args:
        recon: the output of the decoder: the likelihood's parameter, a tuple of its parameters, or a mapping by name,
            {"loc": loc, "logvar": logvar}. A parameter with a default may be left out. The parameters: "bernoulli",
            "continuous_bernoulli": logits. "gaussian": loc, or (loc, logvar). "laplace": loc, or (loc, logscale).
            "discretized_logistic": (loc, logscale). "poisson": log_rate. "negative_binomial": (log_mean,
            log_inverse_dispersion), of variance mean + mean^2 / inverse dispersion. "zinb": (log_mean,
            log_inverse_dispersion, dropout_logits). "negative_binomial_mixture": (background_log_mean,
            foreground_log_mean, log_inverse_dispersion, mixture_logits). "bernoulli_product": (logits, sample_logits,
            feature_logits). "multinomial": logits, whose softmax over all dimensions but dimension 0 gives the shares.
            Logarithms are natural. The first parameter has the shape of x; the others broadcast to x (per gene, per
            cell, 0-d). "categorical": logits [B, K, ...] for x [B, ...]. Mixed: packed or (packed, logscale).
            "discretized_logistic_mixture": packed [B, P, ...] for x [B, C, ...], with P = 10 K numbers of K components
            if C = 3, and P = 3 K if C = 1 (vae_kernels/formulas/discretized_logistic_mixture.py). float32, float64,
            bfloat16 or float16.
        x: [B, ...] the target: of any floating point type, any integer type, or bool. uint8 is read as x / 255, unless
            x has counts or levels, or the likelihood has the option `levels`: uint8 then has these levels. All other
            types are read as they are. "bernoulli" is a likelihood for x in [0, 1]. The calls 1, 2, 4, 8, ... on the
            CPU warn about other values; other calls, and GPUs, do not check. "categorical" takes the levels 0..K-1, and
            no floats. Where x is another level, the nll of the sample and the gradient of the logits are NaN.
        mu, logvar: [B, ...] the posterior q(z|x) = N(mu, exp(logvar)).
        kl: in place of mu and logvar, the KL [B] or [B, latent dims] that sample_kl returned.
        moments: in place of mu and logvar, both in one tensor [B, 2L, ...]: mu, then logvar, along dimension 1. The
            halves are not copied. The tensor gets its gradient in one piece.
        likelihood: a name in vae_kernels.LIKELIHOODS, or an object of vae_kernels.likelihoods. A table with columns of
            different kinds has an object and no name: likelihoods.Mixed(columns).
        log_total: None, or [B] or [B, 1], the logarithm of the total of each sample, for "poisson", "negative_binomial"
            and "zinb". The first parameter then has logits of shares, not a logarithm of means: log_mean = log_total +
            log_softmax(logits), the softmax over all dimensions but dimension 0. Softmax, likelihood and all gradients
            are one op. -inf means a sample without counts: where x is 0, the value and the gradients are 0. float32,
            float64, bfloat16 or float16. "multinomial" takes the total from x.
        obs_logvar: the log-variance of "gaussian", if recon is loc alone: a float, a control, or a tensor that
            broadcasts to x (0-d, per channel, per pixel). None means 0 (unit variance). A tensor that requires grad is
            trained.
        weight: None, or a tensor that broadcasts to x: for each element, feature or sample a factor of log p. A bool
            tensor is a mask: False is a missing element. float32, float64, bfloat16 and float16 are weights. Where the
            weight is 0, the value and all gradients are exactly 0, whatever x and recon hold there: NaN, inf, the level
            -100. The gradient of the weight is 0 there too. The weight changes no denominator: "mean" is the sum of the
            losses divided by B. The mean of a likelihood over the observed elements is nll(recon, x, weight=mask,
            reduction="sum") / mask.expand_as(x).sum(). torch.nn.functional.cross_entropy(ignore_index=) has this other
            denominator. The KL has no weight here: for weights w [B] of whole samples, take reduction="none" and
            (loss * w).sum() / w.sum(). "categorical" has a weight for each position, not for each level. "multinomial"
            has a weight for each sample, "discretized_logistic_mixture" for each pixel, [B, 1, ...], and a table for
            each cell, [B, columns]. With log_total, and with "multinomial", the softmax runs over all elements: a
            weight of 0 removes no logit, and a NaN among the logits of a sample makes the whole sample NaN. A logit of
            -inf removes its element.
        latent_weight: None, or a tensor that broadcasts to mu: a mask or a weight for the KL of each latent dimension,
            for example for padded frames. If you give kl=, give this weight to sample_kl.
        prior: None for N(0, I), a pair (mu, logvar) that broadcasts to mu, or a module of vae_kernels.priors whose KL
            has a closed form. All of these get gradients. For a prior without a closed form call sample_kl, and give
            its KL as kl=.
        beta: a float, a 0-d tensor, or a tensor that broadcasts to the latent dims. A tensor is read on its device. A
            schedule or controller of vae_kernels.controls has its value at this call.
        rec_weight: float, 0-d tensor or control.
        free_bits: None, vk.FreeBits(nats, unit), or a plain pair. If the KL of a unit is below `nats`, it counts as
            `nats`, and has no gradient. The units are those of controls.free_bits: "per_dim", "per_sample",
            "per_batch_mean" and "per_group" (an index of dimension 1). The terms have the KL without this floor. beta
            must then be a number or a 0-d tensor.
        n_samples: None, or the number K of draws of z for each x, as sample_kl(n_samples=K) gives them. recon is then
            [K, B, ...]: the first parameter has this shape, and the others broadcast to it. x, weight, log_total, mu,
            logvar and kl stay [B, ...]. No kernel copies x; backend="torch" does. The likelihood is the mean over the K
            draws.
        reduction: "mean", "sum" or "none".
        return_terms: whether to return ElboTerms in place of the loss. The loss and the terms come from the same pass.
        backend: "auto", or a name in available_backends(). If you name a backend, no other backend takes its place.

    Returns:
        The loss, 0-d, or [B] with reduction="none". float32, or float64 if recon or the posterior is float64. It is
        differentiable in every tensor argument, to any order.

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected.
    """
    checks.flag("return_terms", return_terms)
    checks.choice("reduction", reduction, REDUCTIONS)
    name = likelihood if type(likelihood) is str else checks.likelihood(likelihood)
    if moments is not None:
        mu, logvar = layout.halves(checks.moments(moments, mu=mu, logvar=logvar, kl=kl))
    if kl is not None and latent_weight is not None:
        raise ValueError("latent_weight: has no effect with kl=; give the weight to the function that computed the KL")
    latent: Any = (mu, logvar) if kl is None else (kl,)
    alone = kl is None or (mu is None and logvar is None)
    usual = obs_logvar is None and prior is None and n_samples is None and alone
    if usual and checks.plain_objective(name, recon, x, latent):
        params: Any = (recon,)
    else:
        recon, obs_logvar = draws.flat(recon, x, n_samples, likelihood, obs_logvar)
        x, params = laid_out.likelihood(recon, x, likelihood, name, obs_logvar, log_total, n_samples)
        latent = layout.latent(checks.latent(mu, logvar, kl, pair_of(prior) if kl is None else prior, x))
    if weight is not None:
        weight = laid_out.weight(weight, x, params, name, likelihood)
    if log_total is not None:
        log_total = laid_out.log_total(log_total, x, name, n_samples)
    if latent_weight is not None:
        latent_weight = laid_out.latent_weight(latent_weight, latent)
    nats, floor = 0.0, KlFloor.NONE
    if free_bits is not None:
        given = checks.free_bits(free_bits, penalty.UNITS)
        nats = layout.weight(penalty.checked_nats(given.nats, latent[0], given.unit))
        floor = penalty.FLOOR_OF[given.unit]
    if not checks.plain_weights(rec_weight, beta):
        dims = () if floor else latent[0].shape[1:]
        rec_weight, beta = current(rec_weight), current(beta)
        checks.weight("rec_weight", rec_weight, x)
        checks.weight("beta", beta, x, dims)
        rec_weight, beta = layout.weight(rec_weight), layout.weight(beta, dims)
    rest: Any = {"weight": weight, "latent_weight": latent_weight, "nats": nats, "floor": floor, "log_total": log_total}
    if type(likelihood) is not str:
        rest["options"] = options_of(likelihood)
    request = objective(x, params, name, latent, rec_weight, beta, reduction, return_terms, **rest)
    return computed(request, backend) if n_samples is None else of_draws(request, n_samples, backend)


def nll(
    recon: Recon,
    x: torch.Tensor,
    *,
    likelihood: LikelihoodLike = "bernoulli",
    obs_logvar: Number | None = None,
    log_total: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    n_samples: int | None = None,
    reduction: Reduction = "none",
    backend: Backend = "auto",
) -> torch.Tensor:
    """-log p(x | recon) in nats, with its constants, summed over all dimensions but dimension 0: [B], or mean or sum.

    With a weight: - sum_i weight_bi log p(x_bi | recon_bi). With n_samples=K, recon is [K, B, ...] and the result is
    [K, B]; "mean" is over K and B, "sum" is the sum over B of the mean over K. Arguments, dtypes and errors are those
    of fused_elbo.

    `(nll(recon, x) + kl).mean()` takes the time of fused_elbo(recon, x, kl=kl): the forward pass computes the gradient
    too, for the incoming gradient that mean() gives. Compute a loss that you only log under torch.no_grad(). Otherwise
    nll takes the time and the memory of a gradient that nobody reads (docs/citizen.md).
    """
    checks.choice("reduction", reduction, REDUCTIONS)
    if n_samples is not None:
        recon, obs_logvar = draws.flat(recon, x, n_samples, likelihood, obs_logvar)
    return _nll(recon, x, likelihood, obs_logvar, weight, reduction, backend, log_total, n_samples)


def nll_of_copies(recon: Recon, x, n_samples, likelihood, obs_logvar, weight, backend, log_total=None) -> torch.Tensor:
    """nll [K, B] of K draws of z for each x, from recon [K B, ...]. Each has an incoming gradient of its own: no
    gradient is computed ahead."""
    return _nll(recon, x, likelihood, obs_logvar, weight, "none", backend, log_total, n_samples, ahead=False)


def _nll(recon, x, likelihood: Any, obs_logvar, weight, reduction, backend, log_total, n_samples, ahead=True):
    """recon: with n_samples, as draws.flat() gives it."""
    given: Any = likelihood
    name = likelihood if type(likelihood) is str else checks.likelihood(likelihood)
    if obs_logvar is None and n_samples is None and checks.plain_objective(name, recon, x):
        params: Any = (recon,)
    else:
        x, params = laid_out.likelihood(recon, x, likelihood, name, obs_logvar, log_total, n_samples)
    if weight is not None:
        weight = laid_out.weight(weight, x, params, name, likelihood)
    if log_total is not None:
        log_total = laid_out.log_total(log_total, x, name, n_samples)
    rest: Any = {"weight": weight, "ahead": ahead, "log_total": log_total, "options": options_of(given)}
    request = objective(x, params, name, (), reduction=reduction, **rest)
    return computed(request, backend) if n_samples is None else nll_of_draws(request, n_samples, backend)


def gaussian_kl(
    mu: torch.Tensor | None = None,
    logvar: torch.Tensor | None = None,
    *,
    moments: torch.Tensor | None = None,
    prior: PriorLike = None,
    latent_weight: torch.Tensor | None = None,
    per_dim: bool = False,
    reduction: Reduction = "none",
    backend: Backend = "auto",
) -> torch.Tensor:
    """KL( N(mu, exp(logvar)) || prior ) in nats, summed over all dimensions but dimension 0: [B], or its mean or sum.

    With a latent_weight, the KL of each latent dimension is multiplied by its weight before the sum. With per_dim=True
    the result is the KL of each latent dimension, in the shape of mu. "mean" and "sum" are then over the batch, and the
    result has the shape of one sample of mu. The other arguments are those of fused_elbo. Source:
    Kingma & Welling 2014, arXiv:1312.6114, appendix B.
    """
    checks.flag("per_dim", per_dim)
    checks.choice("reduction", reduction, REDUCTIONS)
    if moments is not None:
        mu, logvar = layout.halves(checks.moments(moments, mu=mu, logvar=logvar))
    latent = layout.latent(checks.posterior(mu, logvar, pair_of(prior)))
    if latent_weight is not None:
        latent_weight = laid_out.latent_weight(latent_weight, latent)
    if not per_dim:
        return computed(of_latent(latent, latent_weight, reduction), backend)
    kl = kl_per_dim(latent, latent_weight, backend)
    return kl if reduction == "none" else getattr(kl, reduction)(0)


def balanced_kl(mu, logvar, prior, balance, backend) -> torch.Tensor:
    """The KL [B] of controls.balanced_kl, from one pass."""
    latent = layout.latent(checks.posterior(mu, logvar, prior))
    return computed(objective(None, (), "", latent, reduction="none", balance=balance), backend)
