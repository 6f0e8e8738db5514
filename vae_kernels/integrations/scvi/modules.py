# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""The training steps of attached modules, one class for each class of scvi-tools' modules.

Each class here is put before scvi-tools' class, and calls the methods of scvi-tools. `generative` keeps the outputs of
the last layers. `loss` then gives scvi-tools' own loss an `Observed` in the place of its distribution, and all else of
the loss is scvi-tools' code. Without gradients, all of it is scvi-tools' code.

functions(module) are the methods that have to be known for this: see known.py.
"""

import scvi
import torch
from scvi import REGISTRY_KEYS
from scvi.distributions import _negative_binomial as distributions
from scvi.nn import DecoderSCVI

from .log_probs import negative_binomial_mixture
from .steps import LIKELIHOODS, Observed, is_step, log_inverse_dispersion, means, outputs_of

_SEEN = "vae_kernels: outputs of layers"


def _formulas(*more):
    """The formulas of scvi-tools that the likelihoods of counts replace."""
    functions = distributions.log_nb_positive, distributions.log_zinb_positive
    classes = distributions.NegativeBinomial, distributions.ZeroInflatedNegativeBinomial
    return *functions, *(cls.log_prob for cls in classes), *more


class _Step:
    """generative() keeps the outputs of the layers of decoding(); loss() puts `Observed` in their place."""

    METHODS: tuple[str, ...] = ("generative", "loss")
    """The methods of this class that replace those of scvi-tools."""

    def generative(self, *args, **kwargs):
        if not is_step(args, kwargs):
            return super().generative(*args, **kwargs)
        with outputs_of(**self._decoding()) as seen:
            outputs = super().generative(**kwargs)
        return outputs | {_SEEN: seen}

    def loss(self, tensors, inference_outputs, generative_outputs, *args, **kwargs):
        seen = generative_outputs.get(_SEEN)
        if seen is not None:
            observed = self._observed(tensors, inference_outputs, generative_outputs, seen)
            generative_outputs = generative_outputs | observed
        return super().loss(tensors, inference_outputs, generative_outputs, *args, **kwargs)

    def _counts(self, rate, dispersion, dropout):
        """The likelihood of counts. dispersion and dropout are functions, because not each likelihood has both."""
        params = [rate.first]
        if self.gene_likelihood != "poisson":
            params.append(dispersion())
        if self.gene_likelihood == "zinb":
            params.append(dropout())
        name = LIKELIHOODS[self.gene_likelihood]
        return Observed(name, tuple(params), self._vae_kernels_backend, rate.log_total)


class OfVAE(_Step):
    """SCVI, SCANVI, LinearSCVI, POISSONVI."""

    @staticmethod
    def functions(module):
        return module.generative, module.loss, module.decoder.forward, *_formulas()

    def _decoding(self):
        if isinstance(self.decoder, DecoderSCVI):
            return {"logits": self.decoder.px_scale_decoder[0], "px_r": self.decoder.px_r_decoder}
        return {"logits": self.decoder.factor_regressor}

    def _observed(self, tensors, inference_outputs, generative_outputs, seen):
        px = generative_outputs["px"]
        sized = self.use_size_factor_key
        log_size = tensors[REGISTRY_KEYS.SIZE_FACTOR_KEY].log() if sized else inference_outputs["library"]
        softmax = not (sized and isinstance(self.decoder, DecoderSCVI))
        return {
            "px": self._counts(
                means(seen["logits"], log_size, softmax=softmax),
                lambda: log_inverse_dispersion(self, self.dispersion, tensors, seen.get("px_r")),
                lambda: px.zi_logits,
            )
        }


class OfVAEC(_Step):
    """CondSCVI."""

    @staticmethod
    def functions(module):
        return module.generative, module.loss, *_formulas()

    def _decoding(self):
        return {"logits": self.px_decoder}

    def _observed(self, tensors, inference_outputs, generative_outputs, seen):
        logits = seen["logits"] + self.per_ct_bias[tensors[REGISTRY_KEYS.LABELS_KEY].ravel()]
        log_size = inference_outputs["library"].log()
        return {"px": Observed("negative_binomial", (logits, self.px_r), self._vae_kernels_backend, log_size)}


class OfTOTALVAE(_Step):
    """TOTALVI."""

    METHODS = ("generative", "loss", "get_reconstruction_loss")

    @staticmethod
    def functions(module):
        mixture = distributions.log_mixture_nb, distributions.NegativeBinomialMixture.log_prob
        methods = module.generative, module.loss, module.get_reconstruction_loss
        return *methods, module.decoder.forward, *_formulas(*mixture)

    def _decoding(self):
        return {"logits": self.decoder.px_scale_decoder}

    def _observed(self, tensors, inference_outputs, generative_outputs, seen):
        px = generative_outputs["px_"]
        sized = self.use_size_factor_key
        size = tensors[REGISTRY_KEYS.SIZE_FACTOR_KEY] if sized else inference_outputs["library_gene"]
        return {
            "px_": self._counts(
                means(seen["logits"], size.log(), softmax=not sized),
                lambda: log_inverse_dispersion(self, self.gene_dispersion, tensors),
                lambda: px["dropout"],
            )
        }

    def get_reconstruction_loss(self, x, y, px_dict, py_dict, pro_batch_mask_minibatch=None, per_batch_efficiency=None):
        if not isinstance(px_dict, Observed):
            return super().get_reconstruction_loss(
                x, y, px_dict, py_dict, pro_batch_mask_minibatch, per_batch_efficiency
            )
        efficiency = 1.0 if per_batch_efficiency is None else per_batch_efficiency
        background, foreground = (efficiency * py_dict[name] for name in ("rate_back", "rate_fore"))
        proteins = -negative_binomial_mixture(
            y, background, foreground, py_dict["r"], None, py_dict["mixing"], self._vae_kernels_backend
        )
        if pro_batch_mask_minibatch is not None:
            proteins = proteins.where(pro_batch_mask_minibatch.bool(), 0)
        return px_dict.nll(x), proteins.sum(-1)


class _Regions(_Step):
    """Open regions of the genome: PeakVI's product of three sigmoids."""

    def inference(self, *args, **kwargs):
        if not torch.is_grad_enabled():
            return super().inference(*args, **kwargs)
        with outputs_of(**self._depth()) as seen:
            outputs = super().inference(*args, **kwargs)
        return outputs | {_SEEN: seen}

    def _opened(self, logits, inference_outputs):
        params = {"logits": logits, "sample_logits": inference_outputs[_SEEN].get("depth")}
        params["feature_logits"] = self.region_factors
        params = {name: value for name, value in params.items() if value is not None}
        return Observed("bernoulli_product", params, self._vae_kernels_backend)


class OfPEAKVAE(_Regions):
    """PEAKVI."""

    METHODS = ("inference", "generative", "loss", "get_reconstruction_loss")

    @staticmethod
    def functions(module):
        decoders = [d.forward for d in (module.z_decoder, module.d_encoder) if d is not None]
        return module.inference, module.generative, module.loss, module.get_reconstruction_loss, *decoders

    def _depth(self):
        return {"depth": self.d_encoder.output[0]} if self.model_depth else {}

    def _decoding(self):
        return {"logits": self.z_decoder.output[0]}

    def _observed(self, tensors, inference_outputs, generative_outputs, seen):
        return {"px": self._opened(seen["logits"], inference_outputs)}

    def get_reconstruction_loss(self, p, d, f, x):
        return p.nll(x > 0) if isinstance(p, Observed) else super().get_reconstruction_loss(p, d, f, x)


class OfMULTIVAE(_Regions):
    """MULTIVI."""

    METHODS = (
        "inference",
        "generative",
        "loss",
        "get_reconstruction_loss_expression",
        "get_reconstruction_loss_accessibility",
    )

    @staticmethod
    def functions(module):
        methods = [getattr(module, name) for name in OfMULTIVAE.METHODS]
        layers = module.z_decoder_expression, module.z_decoder_accessibility, module.l_encoder_accessibility
        return *methods, *(layer.forward for layer in layers), *_formulas()

    def _depth(self):
        return {} if self.use_size_factor_key else {"depth": self.l_encoder_accessibility.output[0]}

    def _decoding(self):
        logits = self.z_decoder_expression.px_scale_decoder[0]
        return {"logits": logits, "regions": self.z_decoder_accessibility.output[0]}

    def _observed(self, tensors, inference_outputs, generative_outputs, seen):
        observed = {}
        if self.n_input_regions and not self.use_size_factor_key:  # a size factor is a number, not a sigmoid
            observed["p"] = self._opened(seen["regions"], inference_outputs)
        if self.n_input_genes and self.gene_dispersion == "gene":  # scvi-tools uses no other dispersion here
            rate = means(seen["logits"], inference_outputs["libsize_expr"], softmax=not self.use_size_factor_key)
            observed["px_rate"] = self._counts(rate, lambda: self.px_r, lambda: generative_outputs["px_dropout"])
        return observed

    def get_reconstruction_loss_expression(self, x, px_rate, px_r, px_dropout):
        if isinstance(px_rate, Observed):
            return px_rate.nll(x)
        return super().get_reconstruction_loss_expression(x, px_rate, px_r, px_dropout)

    def get_reconstruction_loss_accessibility(self, x, p, d):
        return p.nll(x > 0) if isinstance(p, Observed) else super().get_reconstruction_loss_accessibility(x, p, d)


STEPS = {
    scvi.module.VAE: OfVAE,
    scvi.module.VAEC: OfVAEC,
    scvi.module.TOTALVAE: OfTOTALVAE,
    scvi.module.PEAKVAE: OfPEAKVAE,
    scvi.module.MULTIVAE: OfMULTIVAE,
}
"""A class of scvi-tools' modules, and the training step for it and for its subclasses."""
