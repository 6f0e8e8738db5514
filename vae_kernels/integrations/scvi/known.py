"""Which methods of scvi-tools are known, by their source: fingerprint.py. A version of scvi-tools is not asked for its
number: a new version whose methods are the same is taken.
"""

from collections.abc import Callable
from typing import Any

from ..fingerprint import fingerprint, own

VERSIONS = ("1.4.0.post1", "1.4.1", "1.4.2", "1.4.3", "1.5.0", "1.5.1")
"""The versions of scvi-tools whose methods are in KNOWN."""

KNOWN: dict[str, str] = {
    "db1c629900bbdfdd": "VAE.generative",
    "67687592d2c9679e": "VAE.loss",
    "311ce22cf6c59ca9": "SCANVAE.loss",
    "67398e8ac53419a9": "TOTALVAE.generative",
    "a439b7000c56a407": "TOTALVAE.loss",
    "b24075be3faed30e": "TOTALVAE.get_reconstruction_loss",
    "11d138f0db86f66b": "PEAKVAE.inference",
    "6bf1b6d04482fe6b": "PEAKVAE.generative",
    "fa22e3f4cde82012": "PEAKVAE.loss",
    "2d3db7a59d3ff111": "PEAKVAE.get_reconstruction_loss",
    "c4e684602f1760d6": "MULTIVAE.inference",
    "3ef342abef5c38a4": "MULTIVAE.generative",
    "a0f7ce115a6ae216": "MULTIVAE.loss",
    "e2974d584bb8f12b": "MULTIVAE.get_reconstruction_loss_expression",
    "a31c1384ed83f3b3": "MULTIVAE.get_reconstruction_loss_accessibility",  # until 1.5.0
    "47813101c86abc89": "DecoderSCVI.forward",
    "0776cebe00600e2a": "LinearDecoderSCVI.forward",
    "0bdd32657665c557": "DecoderTOTALVI.forward",
    "a90c4e75d936c006": "Decoder.forward",
    "c84982045c46be53": "log_nb_positive",
    "0e4cdeb619d61211": "log_zinb_positive",
    "06e8930be598d5de": "log_mixture_nb",
    "41a789b3ee081cee": "NegativeBinomial.log_prob",  # until 1.5.0
    "773ef4910b5de090": "ZeroInflatedNegativeBinomial.log_prob",  # until 1.5.0
    "af34f22bd6b372c9": "NegativeBinomialMixture.log_prob",  # until 1.5.0
    "e9611cc238ea9403": "VAEC.generative",  # not 1.4.0
    "0c1227c94c68e7a2": "VAEC.loss",  # not 1.4.0
    "4d1ec36f572aff12": "MULTIVAE.get_reconstruction_loss_accessibility",  # from 1.5.1
    "058f5c31733dd243": "NegativeBinomial.log_prob",  # from 1.5.1
    "a4f9a1f701e85fdd": "ZeroInflatedNegativeBinomial.log_prob",  # from 1.5.1
    "a1b3b8e8d1c9ad8a": "NegativeBinomialMixture.log_prob",  # from 1.5.1
}
"""The fingerprint of a method -> its name."""


def check(functions: tuple[Callable[..., Any], ...], name: str) -> None:
    """Raise a ValueError that names those of the functions that are not known. `name` is the class of the module."""
    unknown = [f"{own(f).__qualname__} ({fingerprint(f)})" for f in functions if fingerprint(f) not in KNOWN]
    if unknown:
        raise ValueError(
            f"model: got a {name} whose {', '.join(unknown)} is not known here, expected the source of scvi-tools "
            f"{VERSIONS[0]} to {VERSIONS[-1]}. Train it with vae_kernels.integrations.scvi.patch() in place of attach()"
        )
