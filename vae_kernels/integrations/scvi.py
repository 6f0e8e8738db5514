# pyright: reportMissingImports=false, reportOptionalMemberAccess=false
"""scvi-tools' SCVI trained with the likelihood, the sample and the KL of this package.

    from vae_kernels.scvi import attach, detach

    model = attach(scvi.model.SCVI(adata))
    model.train()
    detach(model)  # scvi-tools' own again, to the bit

Only the training step changes, and in it only log p(x|z), z, KL(q(z|x) || N(0, I)) and their mean. scvi-tools' own code
computes the rest: the networks, the KL warm-up, batches and covariates, library sizes and their KL, and the logs. It
also
computes everything without gradients: validation, ELBO, marginal likelihood, posterior samples, differential
expression. This file needs scvi-tools (`pip install "vae-kernels[scvi]"`), in a version of VERSIONS. More:
docs/scvi.md.
"""

from contextlib import contextmanager
from importlib import metadata

import torch
from torch.distributions import kl_divergence
from torch.nn.functional import linear, one_hot, softplus

from ..backends import available_backends
from ..core.checks import choice
from ..functional import fused_elbo, sample_kl
from ..typing import Backend, LikelihoodName

VERSIONS = ("1.4.0.post1", "1.4.1", "1.4.2")
"""The versions of scvi-tools with which the tests of this module have passed."""

LIKELIHOODS: dict[str, LikelihoodName] = {"zinb": "zinb", "nb": "negative_binomial", "poisson": "poisson"}
"""gene_likelihood of scvi-tools -> likelihood of this package. "normal" is not supported."""


def _require(versions):
    expected = f"expected scvi-tools {' or '.join(versions)}"
    try:
        found = metadata.version("scvi-tools")
    except metadata.PackageNotFoundError as e:
        raise ImportError(f'scvi-tools: not installed, {expected}: pip install "vae-kernels[scvi]"') from e
    if found not in versions:
        raise ImportError(f"scvi-tools: got version {found}, {expected}: the loss of others is not known here")


_require(VERSIONS)  # before the imports below, which another version may not have

from scvi.model import SCVI  # noqa: E402
from scvi.module import VAE  # noqa: E402
from scvi.module.base import LossOutput  # noqa: E402
from scvi.utils import unsupported_if_adata_minified  # noqa: E402


def attach(model: SCVI, *, backend: Backend = "auto") -> SCVI:
    """Let this SCVI model train with our likelihood, sample and KL, until detach(model). Attaching again is allowed.

    Copies, pickles and the files of model.save are plain scvi-tools, also of an attached model.

    Args:
        model: a scvi.model.SCVI, trained or not, with gene_likelihood "zinb", "nb" or "poisson".
        backend: as in fused_elbo.

    Returns:
        The same model.

    Raises:
        TypeError, ValueError: naming the argument, what came, and what is expected.
    """
    _check(model)
    choice("model: gene_likelihood", model.module.gene_likelihood, LIKELIHOODS)
    choice("backend", backend, ("auto", *available_backends()))
    model.module.__class__ = _FusedVAE
    model.module._vae_kernels_backend = backend
    return model


def detach(model: SCVI) -> SCVI:
    """Undo attach(model): the model computes scvi-tools' own loss again. Returns the same model."""
    _check(model)
    if type(model.module) is not _FusedVAE:
        raise ValueError("model: got one that is not attached, expected one that attach() was called on")
    del model.module._vae_kernels_backend
    model.module.__class__ = VAE
    return model


def _check(model):
    if type(model) is not SCVI:
        raise TypeError(f"model: got {type(model).__name__}, expected a scvi.model.SCVI")
    if type(model.module) not in (VAE, _FusedVAE):
        raise ValueError(f"model: got one whose module is a {type(model.module).__name__}, expected a {VAE.__name__}")


_PARAMS, _KL = "vae_kernels: parameters of the likelihood", "vae_kernels: KL of z"

# The log library size of a cell without counts. It is not -inf, because -inf * 0 is NaN. A mean of exp(-80) acts like a
# mean of 0, and no cell with a count has so small a size.
_NO_COUNTS = -80.0


class _FusedVAE(VAE):
    """VAE, with a training step of this package.

    The methods of VAE are called, and their outputs are kept. The values that loss() needs are added to the outputs. A
    training step is recognised by enabled gradients, not by self.training: scvi-tools leaves a trained or loaded model
    in evaluation mode, and Lightning (>= 2.2) does not change the mode when it trains this model again.
    """

    def _regular_inference(self, *args, **kwargs):
        outputs = super()._regular_inference(*args, **kwargs)
        qz = outputs["qz"]
        if torch.is_grad_enabled() and outputs["z"].dim() == qz.loc.dim():  # one sample for each cell
            z, outputs[_KL] = sample_kl(qz.loc, 2 * qz.scale.log(), backend=self._vae_kernels_backend)
            outputs["z"] = self.z_encoder.z_transformation(z)
        return outputs

    # the signature must be that of VAE, because scvi-tools inspects the signature
    def generative(
        self, z, library, batch_index, cont_covs=None, cat_covs=None, size_factor=None, y=None, transform_batch=None
    ):
        args = (z, library, batch_index, cont_covs, cat_covs, size_factor, y, transform_batch)
        if not torch.is_grad_enabled() or transform_batch is not None:
            return super().generative(*args)
        to_scale = self.decoder.px_scale_decoder
        with _outputs(to_scale[0], to_scale, self.decoder.px_r_decoder) as (logits, scale, px_r):
            outputs = super().generative(*args)
        if self.use_size_factor_key:
            params = [_log_softplus(logits[0]) + size_factor.clamp(min=_NO_COUNTS)]
        else:
            params = [_LogRate.apply(logits[0], scale[0].detach(), library.clamp(min=_NO_COUNTS))]
        if self.gene_likelihood != "poisson":
            by_cell = {
                "gene": lambda: self.px_r,
                "gene-batch": lambda: linear(one_hot(batch_index.squeeze(-1), self.n_batch).float(), self.px_r),
                "gene-label": lambda: linear(one_hot(y.squeeze(-1), self.n_labels).float(), self.px_r),
                "gene-cell": lambda: px_r[0],
            }
            params.append(by_cell[self.dispersion]())
        if self.gene_likelihood == "zinb":
            params.append(outputs["px"].zi_logits)
        return outputs | {_PARAMS: tuple(params)}

    @unsupported_if_adata_minified
    def loss(self, tensors, inference_outputs, generative_outputs, kl_weight=1.0):
        params, kl = generative_outputs.get(_PARAMS), inference_outputs.get(_KL)
        if params is None or kl is None:
            return super().loss(tensors, inference_outputs, generative_outputs, kl_weight)
        terms = fused_elbo(
            params,
            tensors["X"],
            kl=kl,
            likelihood=LIKELIHOODS[self.gene_likelihood],
            beta=torch.as_tensor(kl_weight, dtype=kl.dtype, device=kl.device),
            return_terms=True,
            backend=self._vae_kernels_backend,
        )
        if self.use_observed_lib_size:
            kl_library = torch.zeros_like(kl)
        else:
            kl_library = kl_divergence(inference_outputs["ql"], generative_outputs["pl"]).sum(dim=1)
        extra = {}
        if self.extra_payload_autotune:
            extra = {"z": inference_outputs["z"], "batch": tensors["batch"], "labels": tensors["labels"]}
        return LossOutput(
            loss=terms.loss + kl_library.mean(),
            reconstruction_loss=terms.nll,
            kl_local={"kl_divergence_l": kl_library, "kl_divergence_z": kl},
            extra_metrics=extra,
        )

    def __reduce_ex__(self, protocol):
        state = {name: value for name, value in self.__dict__.items() if name != "_vae_kernels_backend"}
        return object.__new__, (VAE,), state


@contextmanager
def _outputs(*layers):
    """A list for each layer: the outputs of the layer while the context is open."""
    seen = tuple([] for _ in layers)
    handles = [
        layer.register_forward_hook(lambda _, inputs, output, seen=s: seen.append(output))
        for layer, s in zip(layers, seen, strict=True)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class _LogRate(torch.autograd.Function):
    """log_softmax(logits) + log_size, computed from scale = softmax(logits), which scvi-tools has computed already.

    log sum exp(logits) = max(logits) - log(max(scale)). The logarithm is safe, because max(scale) >= 1 / genes.
    """

    @staticmethod
    def forward(ctx, logits, scale, log_size):
        ctx.save_for_backward(scale)
        log_sum = logits.amax(-1, keepdim=True) - scale.amax(-1, keepdim=True).log()
        return logits + (log_size - log_sum)

    @staticmethod
    def backward(ctx, grad):
        (scale,) = ctx.saved_tensors
        total = grad.sum(-1, keepdim=True)
        return torch.addcmul(grad, scale, total, value=-1), None, total


def _log_softplus(a):
    """log(log(1 + exp(a))). For a <= -17 it is a itself, to float32 accuracy; there softplus(a) may be 0."""
    return torch.where(a > -17, softplus(a.clamp(min=-17)).log(), a)
