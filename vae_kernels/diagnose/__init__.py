"""`vk.diagnose(model, data)`: does a trained VAE use its latents, and can it be sampled from?"""

from dataclasses import dataclass

import torch

from ..vae import VAE
from .measures import Measures, measure
from .verdicts import Verdict, verdicts, worst

__all__ = ["Diagnosis", "Measures", "Verdict", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """measures: the numbers; verdicts: a Verdict for each symptom; str() of it is a report."""

    measures: Measures
    verdicts: list

    @property
    def level(self):
        """The worst of the verdicts: "healthy", "watch" or "ill"."""
        return worst(*(verdict.level for verdict in self.verdicts))

    def __getitem__(self, symptom):
        return {verdict.symptom: verdict for verdict in self.verdicts}[symptom]

    def __str__(self):
        lines = [f"{self.level}: {self.measures.samples} samples, {self.measures.latents} latents"]
        for verdict in self.verdicts:
            lines += ["", f"{verdict.level:8} {verdict.symptom}", f"         {verdict.evidence}"]
            lines += [f"         cause: {verdict.cause}", f"         try: {verdict.advice}"] if verdict.cause else []
        return "\n".join(lines)


def diagnose(model, data, *, samples=1024, batch_size=256, seed=0):
    """Look at a trained model through data that it was not trained on:

        print(vk.diagnose(model, x_test))

    Judged are posterior collapse (active units: Burda et al. 2016; mutual information: Hoffman & Johnson 2016), holes
    in the latent space, rate and distortion (Alemi et al. 2018), the effective beta, the variance of a Gaussian
    likelihood (Rybkin et al. 2021), and, of images, blur. `Measures` has the numbers, verdicts.py the thresholds.

    model: a VAE whose prior is a diagonal Gaussian; another is a ValueError.
    data: [N, ...], as the model takes it; the first `samples` of it are looked at, at least two.
    The global noise is not touched.
    """
    if not isinstance(model, VAE):
        raise TypeError(f"model: got {type(model).__name__}, expected a vae_kernels.VAE")
    if not isinstance(data, torch.Tensor):
        raise TypeError(f"data: got {type(data).__name__}, expected a tensor [N, ...]")
    for name, value, least in (("samples", samples, 2), ("batch_size", batch_size, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: got {value!r}, expected an integer >= {least}")
    if data.dim() < 2 or len(data) < 2:
        raise ValueError(f"data: got shape {tuple(data.shape)}, expected [N, ...] with at least two samples")
    measures = measure(model, data[:samples], batch_size, seed)
    return Diagnosis(measures, verdicts(measures))
