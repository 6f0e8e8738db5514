"""`vk.diagnose(model, data)`: does a trained VAE use its latents, and are its samples good?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch

from .. import conditions
from ..core import rows, targets, weights
from ..core.control import current
from ..core.modes import evaluating
from ..likelihoods import name_of
from ..models.vae import VAE
from ..typing import Condition
from . import columns
from .baseline import baseline
from .cards import notebook
from .cause import Cause, common
from .first import Losses
from .judge import judge, unjudged
from .look import mask_of, one_pass, place, values_of
from .marginal import OF_LOG_P, LogP
from .measures import Measures, measure
from .totals import WithTotal
from .verdicts import Verdict, of_observed, worst
from .views import Views, look
from .words import by_level

__all__ = ["Cause", "Diagnosis", "LogP", "Measures", "Verdict", "Views", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """verdicts: a Verdict for each symptom, first those of the first look. str() of a Diagnosis is a report.

    samples: the number of samples.
    found: the measures and the views; None if a number of the model is not finite.
    """

    verdicts: list[Verdict]
    samples: int
    found: tuple[Measures, Views] | None

    @property
    def finite(self) -> bool:
        """Whether every number of the model is finite. If not, there are no measures and no views."""
        return self.found is not None

    @property
    def measures(self) -> Measures:
        """The numbers. ValueError if a number of the model is not finite."""
        return self._of_finite("measures")[0]

    @property
    def views(self) -> Views:
        """The tensors that html() draws. ValueError if a number of the model is not finite."""
        return self._of_finite("views")[1]

    def _of_finite(self, name):
        if self.found is None:
            raise ValueError(f"{name}: there are none, as the model is not finite: {self.verdicts[0].evidence}")
        return self.found

    @property
    def level(self) -> str:
        """The worst level of the verdicts: "healthy", "watch" or "ill"."""
        return worst(*(verdict.level for verdict in self.verdicts))

    @property
    def cause(self) -> Cause:
        """The one cause that explains the most symptoms, and what to try first."""
        return common(self.verdicts)

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
        lines = [f"{self.level}: {self.samples} samples"]
        if self.found is not None:
            m = self.measures
            lines[0] += f", {m.latents} latents{of_observed(m, ', {} of x observed')}"
        cause = self.cause
        if cause.symptom:
            lines += [f"{cause.title}. {cause.sentence}", f"try: {cause.code or cause.advice}"]
        for verdict in by_level(self.verdicts):
            lines += ["", f"{verdict.level:8} {verdict.symptom}", f"         {verdict.evidence}"]
            lines += [f"         cause: {verdict.cause}", f"         try: {verdict.advice}"] if verdict.cause else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The cause and the symptoms, for a notebook. html() has the figures too."""
        return notebook(self)

    def html(self, title: str = "Diagnosis of a VAE") -> str:
        """The report with its figures: the text of one HTML page, without other files, network or scripts.

        html() needs matplotlib and jinja2. Without them it raises an ImportError that names both. ValueError if a
        number of the model is not finite.
        """
        from .report import page

        return page(self, title)


def diagnose(
    model: VAE,
    data: torch.Tensor,
    *,
    condition: Condition = None,
    log_total: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    classes: Sequence[str] | None = None,
    samples: int = 1024,
    batch_size: int = 256,
    log_p: tuple[int, int] | tuple[int, int, int] | None = OF_LOG_P,
    train: torch.Tensor | None = None,
    history: Sequence[float] | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Judge a trained model with data that it was not trained on:

        print(vk.diagnose(model, x_test))

    First the doctor looks for numbers that are not finite, x outside the support of the likelihood, columns of
    different scales, a decoder whose output is bounded, a loss that still falls, a loss no better than that of the
    data's mean, and an overfit. If x or the decoder does not suit the likelihood, the other symptoms are "not judged"
    (level "watch").

    The other symptoms are posterior collapse (active units: Burda et al. 2016; mutual information: Hoffman & Johnson
    2016), holes in the latent space, rate and distortion (Alemi et al. 2018), the effective beta, the variance of a
    Gaussian likelihood (Rybkin et al. 2021), and the blur of images. `Measures` has the numbers, verdicts.py and
    first.py have the thresholds.

    model: a VAE with any prior. Another model is a TypeError.
    data: [N, ...], as the model takes it. The doctor uses the first `samples` data, at least two.
    condition: None, or the condition of a conditional VAE: a tensor or a pytree of tensors, [N, ...]. Samples, round
        trips and log p(x) have the conditions of the data. With a ConditionalGaussian as prior, the doctor measures z
        from the prior of its own condition, in standard deviations of this prior.
    log_total: None, or [N] or [N, 1] as in fused_elbo. Reconstructions, samples and round trips have the totals of the
        data. A model with a ConditionalGaussian has no log_total here.
    weight: None, or a mask that broadcasts to data, torch.bool: False is a missing element, whatever data holds there.
        The model gets 0 in place of a missing element, and every figure that compares data with reconstructions counts
        the observed elements only. log p(x) is that of the observed elements. When z is decoded and encoded again, the
        encoder gets 0 where the data are missing. The z of the prior use the masks of the data, one after the other.
    labels: [N] integers >= 0, or None. They are the colours in the map of the latents.
    classes: the names of the labels; None: the numbers are the names.
    log_p: (samples, draws) or (samples, draws, most). log p(x) is estimated for `samples` data, with `draws` draws of
        each posterior, so samples * draws z are decoded. With `most`, a sample gets `most` draws if few of its draws
        count. None: log p(x) is not estimated.
    train: [M, ...], data that the model was trained on, or None. The first `samples` of them are compared with data, to
        find an overfit. train together with weight, condition or log_total is an error.
    history: -ELBO of held-out data in nats per sample, after each epoch, the first epoch first; or None. With at least
        three epochs, the doctor says whether the loss still falls, and whether it has risen again.
    The model runs in evaluation mode; afterwards each of its modules has its old training flag again. The global random
    state is not changed.
    """
    if not isinstance(model, VAE):
        raise TypeError(f"model: got {type(model).__name__}, expected a vae_kernels.VAE")
    seen: Any = model
    if not isinstance(data, torch.Tensor):
        raise TypeError(f"data: got {type(data).__name__}, expected a tensor [N, ...]; its mask is given as weight=")
    targets.check("data", data)
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
        weight = mask_of(weight, data, model.likelihood)[:samples]
    conditions.check(condition, data, "data")
    condition = conditions.rows_of(condition, slice(samples))
    x = _finite("data", data[:samples], weight)
    log_total = rows.total_of(model, data, log_total)
    if log_total is not None:
        if train is not None:
            raise ValueError("train: got a tensor beside log_total, expected one of the two")
        log_total = rows.log_total(log_total, data, name_of(model.likelihood))[:samples].flatten()
        condition = (log_total,) if condition is None else (log_total, condition)
        seen = WithTotal(model)
    if train is not None:
        train = _train(train, data, weight, condition, samples)
    history = _history(history)
    if isinstance(labels, torch.Tensor):
        targets.check("labels", labels)
    if labels is not None and (not isinstance(labels, torch.Tensor) or labels.shape != data.shape[:1]):
        came = tuple(labels.shape) if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise ValueError(f"labels: got {came}, expected a tensor ({len(data)},): one for each sample of data")
    _check_classes(labels, classes)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed: got {type(seed).__name__}, expected an integer >= 0 and < 2^63")
    with evaluating(model), torch.no_grad():
        labels = None if labels is None else labels[:samples]
        return _diagnose(seen, x, condition, weight, labels, classes, batch_size, log_p, train, history, seed)


def _check_classes(labels, classes):
    """A name for each label."""
    kinds = labels is not None and (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels is not None and (kinds or (labels < 0).any()):
        raise ValueError(f"labels: got {labels.dtype}{'' if kinds else ' below 0'}, expected integers >= 0")
    if classes is None:
        return
    if labels is None:
        raise ValueError("classes: has no effect without labels")
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise TypeError(f"classes: got {type(classes).__name__}, expected a list of names")
    if labels.max() >= len(classes):
        raise ValueError(f"classes: got {len(classes)} names, expected one for each label, 0 to {int(labels.max())}")


def _finite(name, data, weight=None):
    """data, with 0 where it is missing. What is observed must be finite."""
    if weight is not None and not weight.any():
        raise ValueError("weight: got a mask that is False everywhere, expected one with an observed element")
    x = weights.filled(data, weight)
    bad = ~x.isfinite()
    if bad.any():
        expected = f"weight={name}.isfinite()" if weight is None else "weight to be False there"
        raise ValueError(
            f"{name}: got {int(bad.sum())} elements that are not finite, the first at {place(bad)}; "
            f"if they are missing, expected {expected}"
        )
    return x


def _train(train, data, weight, condition, samples):
    """The first samples of the train data, checked against data."""
    if not isinstance(train, torch.Tensor):
        raise TypeError(f"train: got {type(train).__name__}, expected a tensor [M, ...] like data")
    if weight is not None:
        raise ValueError("train: got a tensor beside weight, expected one of the two: train data have no mask here")
    if condition is not None:
        raise ValueError("train: got a tensor beside condition, expected one of the two: train data have none here")
    if train.shape[1:] != data.shape[1:] or len(train) < 2 or train.dtype != data.dtype:
        came, like = f"{tuple(train.shape)} {train.dtype}", f"{tuple(data.shape[1:])} {data.dtype}"
        raise ValueError(f"train: got {came}, expected at least two samples of {like}, like data")
    return _finite("train", train[:samples])


def _history(history):
    if history is None:
        return ()
    if not isinstance(history, Sequence):
        raise TypeError(f"history: got {type(history).__name__}, expected a list of numbers, one for each epoch")
    for value in history:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"history: got {type(value).__name__} in it, expected numbers, one for each epoch")
    return tuple(map(float, history))


def _diagnose(model, x, condition, weight, labels, classes, batch_size, log_p, train, history, seed):
    device = next((t.device for t in (*model.parameters(), *model.buffers())), x.device)
    x, weight = x.to(device), None if weight is None else weight.to(device)
    train, condition = None if train is None else train.to(device), conditions.to(condition, device)
    with targets.named("data"):
        model.encode(x[:1], condition=conditions.rows_of(condition, slice(1)))

    def noise():
        return torch.Generator(x.device).manual_seed(seed)

    seen = one_pass(model, x, weight, batch_size, noise(), condition)
    outputs, broken = seen.outputs, seen.broken
    values = values_of(x, model.likelihood, weight, outputs and outputs.levels)
    one_variance = model.obs_logvar is None or torch.as_tensor(current(model.obs_logvar)).numel() == 1
    of_train = None
    if train is not None and not broken:
        passed = one_pass(model, train, None, batch_size, noise())
        of_train, broken = passed.nll + passed.kl, passed.broken and f"on the train data {passed.broken}"
    if broken or outputs is None:
        beta = torch.as_tensor(current(model.beta) / current(model.rec_weight))
        return Diagnosis(unjudged(broken, values, beta.item(), history, one_variance), len(x), None)
    log_total = condition[0] if isinstance(model, WithTotal) else None
    known = baseline(model, x, train, weight, outputs.levels, outputs.given, log_total)
    losses = Losses(seen.nll + seen.kl, of_train, known, history)
    one_variance = one_variance and "logvar" not in outputs.given
    measures, *codes = measure(model, x, batch_size, noise(), log_p, weight, outputs.given, condition)
    if weight is None and condition is None:
        of_columns = columns.measured(model, x, train, batch_size, noise(), outputs.given)
        measures = replace(measures, columns=of_columns)
    views = look(model, x, labels, classes, measures, codes, losses.held_out, weight, condition)
    found = judge(measures, values, seen, losses, model.likelihood, one_variance)
    return Diagnosis(found, len(x), (measures, views))
