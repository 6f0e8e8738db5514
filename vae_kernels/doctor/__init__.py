"""`vk.diagnose(model, data)`: does a trained VAE use its latents, and are its samples good?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..core import weights
from ..core.modes import evaluating
from ..models.vae import VAE
from .marginal import OF_LOG_P, LogP
from .measures import Measures, measure
from .verdicts import Verdict, of_observed, verdicts, worst
from .views import Views, look

__all__ = ["Diagnosis", "LogP", "Measures", "Verdict", "Views", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """measures: the numbers. verdicts: a Verdict for each symptom. views: the tensors that html() draws. str() of a
    Diagnosis is a report."""

    measures: Measures
    verdicts: list[Verdict]
    views: Views

    @property
    def level(self) -> str:
        """The worst level of the verdicts: "healthy", "watch" or "ill"."""
        return worst(*(verdict.level for verdict in self.verdicts))

    @property
    def change(self) -> dict[str, Any]:
        """The settings that the advice on all "ill" symptoms suggests first: keyword arguments for a new VAE."""
        change: dict[str, Any] = {}
        for verdict in self.verdicts:
            change = (verdict.change if verdict.level == "ill" else {}) | change
        return change

    def __getitem__(self, symptom: str) -> Verdict:
        return {verdict.symptom: verdict for verdict in self.verdicts}[symptom]

    def __str__(self) -> str:
        m = self.measures
        lines = [f"{self.level}: {m.samples} samples, {m.latents} latents{of_observed(m, ', {} of x observed')}"]
        for verdict in self.verdicts:
            lines += ["", f"{verdict.level:8} {verdict.symptom}", f"         {verdict.evidence}"]
            lines += [f"         cause: {verdict.cause}", f"         try: {verdict.advice}"] if verdict.cause else []
        return "\n".join(lines)

    def html(self, title: str = "Diagnosis of a VAE") -> str:
        """The report with its figures: the text of one HTML page, without other files, network or scripts.

        html() needs matplotlib and jinja2. Without them it raises an ImportError that names both.
        """
        from .report import page

        return page(self, title)


def diagnose(
    model: VAE,
    data: torch.Tensor,
    *,
    weight: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    classes: Sequence[str] | None = None,
    samples: int = 1024,
    batch_size: int = 256,
    log_p: tuple[int, int] | tuple[int, int, int] | None = OF_LOG_P,
    seed: int = 0,
) -> Diagnosis:
    """Judge a trained model with data that it was not trained on:

        print(vk.diagnose(model, x_test))

    The symptoms are posterior collapse (active units: Burda et al. 2016; mutual information: Hoffman & Johnson 2016),
    holes in the latent space, rate and distortion (Alemi et al. 2018), the effective beta, the variance of a Gaussian
    likelihood (Rybkin et al. 2021), and the blur of images. `Measures` has the numbers, verdicts.py has the thresholds.

    model: a VAE with any prior. Another model is a TypeError.
    data: [N, ...], as the model takes it. The first `samples` data are used, at least two.
    weight: None, or a mask that broadcasts to data, torch.bool: False is a missing element, whatever data holds there.
        The model gets 0 in place of a missing element, and every figure that compares data with reconstructions counts
        the observed elements only. log p(x) is that of the observed elements. In the round trips the encoder gets 0 at
        the places that are missing in the data; the z of the prior take these places from the data one after the other.
    labels: [N] integers >= 0, or None. They are the colours in the map of the latents.
    classes: the names of the labels; None: the numbers are the names.
    log_p: (samples, draws) or (samples, draws, most). log p(x) is estimated for `samples` data, with `draws` draws of
        each posterior, so samples * draws z are decoded. With `most`, a sample of which few draws count gets `most`
        draws. None: log p(x) is not estimated.
    The model runs in evaluation mode; afterwards each of its modules has its old training flag again. The global random
    state is not changed.
    """
    if not isinstance(model, VAE):
        raise TypeError(f"model: got {type(model).__name__}, expected a vae_kernels.VAE")
    if not isinstance(data, torch.Tensor):
        raise TypeError(f"data: got {type(data).__name__}, expected a tensor [N, ...]; its mask is given as weight=")
    counts = [("samples", samples, 2), ("batch_size", batch_size, 1)]
    if log_p is not None:
        if not isinstance(log_p, (tuple, list)) or len(log_p) not in (2, 3):
            raise TypeError(f"log_p: got {log_p!r}, expected None, (samples, draws) or (samples, draws, most)")
        names = ("log_p[0] (samples)", "log_p[1] (draws)", "log_p[2] (most draws)")
        counts += list(zip(names, log_p, (2, 2, log_p[1]), strict=False))
    for name, value, least in counts:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: got {value!r}, expected an integer >= {least}")
    if data.dim() < 2 or len(data) < 2:
        raise ValueError(f"data: got shape {tuple(data.shape)}, expected [N, ...] with at least two samples")
    if weight is not None:
        weights.check_mask("weight", weight, data, "data")
        weight = weight.expand(data.shape)[:samples]
    x = _finite(data[:samples], weight)
    if labels is not None and (not isinstance(labels, torch.Tensor) or labels.shape != data.shape[:1]):
        came = tuple(labels.shape) if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise ValueError(f"labels: got {came}, expected a tensor ({len(data)},): one for each sample of data")
    if classes is not None and labels is None:
        raise ValueError("classes: has no effect without labels")
    with evaluating(model), torch.no_grad():
        labels = None if labels is None else labels[:samples]
        return _diagnose(model, x, weight, labels, classes, batch_size, log_p, seed)


def _finite(data, weight):
    """data, with 0 where it is missing. What is observed must be finite."""
    if weight is not None and not weight.any():
        raise ValueError("weight: got a mask that is False everywhere, expected one with an observed element")
    x = weights.filled(data, weight)
    bad = int((~x.isfinite()).sum())
    if bad:
        expected = "weight=data.isfinite()" if weight is None else "weight to be False there"
        raise ValueError(f"data: got {bad} elements that are not finite; if they are missing, expected {expected}")
    return x


def _diagnose(model, x, weight, labels, classes, batch_size, log_p, seed):
    device = next((t.device for t in (*model.parameters(), *model.buffers())), x.device)
    x, weight = x.to(device), None if weight is None else weight.to(device)
    generator = torch.Generator(x.device).manual_seed(seed)
    measures, *codes = measure(model, x, batch_size, generator, log_p, weight)
    return Diagnosis(measures, verdicts(measures), look(model, x, labels, classes, measures, codes, weight))
