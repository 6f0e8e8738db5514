"""A loss that still falls, train against held-out data, and advice that does not contradict itself."""

import math
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from test_diagnose import NOISE, D, L, data, ppca
from torch import nn

import vae_kernels as vk
from vae_kernels.doctor import first
from vae_kernels.doctor.first import Losses
from vae_kernels.doctor.measures import LogP, Measures
from vae_kernels.doctor.verdicts import verdicts

diagnose = partial(vk.diagnose, log_p=None)


pytestmark = pytest.mark.usefixtures("seeded")


# ---------------------------------------------------------------- a loss that falls, and an overfit


def known(base):
    """The nll of the trivial model, which differs by 60 nats between the samples."""
    return torch.tensor([base - 60, base + 60] * 5)


def level_of(history, base=200.0):
    verdict = first.converged(Losses(None, None, known(base), tuple(history)))
    return verdict and verdict.level


def decay(epochs, to, start, rate):
    """A loss that approaches `to`."""
    return [to + (start - to) * math.exp(-rate * i) for i in range(epochs)]


def test_a_loss_that_still_falls():
    assert level_of([300, 200]) is None and level_of([300.0, math.nan, 200.0]) == "watch"
    levels = [level_of(decay(n, 100, 540, 0.2)) for n in range(3, 80)]
    assert levels == sorted(levels, key=("ill", "watch", "healthy").index) and len(set(levels)) == 3
    assert levels[12 - 3] == "ill" and levels[40 - 3] == "healthy"
    assert level_of([3e2, 2e2, 1e2], 400.0) == "ill" and level_of([1e2, 2e2, 3e2], 400.0) == "healthy"
    # a collapsed model gains nothing over the mean, and its loss moves by noise
    assert level_of([540.0, 230, 200.4, 200.1, 200.3, 199.9, 200.0, 199.8, 199.9]) == "healthy"
    noise = torch.randn(200, generator=torch.Generator().manual_seed(1)).tolist()
    assert {level_of([200.0 + v for v in noise[i : i + 20]]) for i in range(0, 180, 20)} == {"healthy"}
    # the loss of the case that gains one nat over the mean, and falls by ten in four epochs
    slow = [419.4, 309.4, 264.7, 242.9, 232.8, 228.3, 222.9, 220.8, 218.9, 216.0, 213.5, 210.9]
    assert level_of(slow, 212.0) == "ill"
    # a density has no zero: the scale is what the model gains, not the size of the loss
    assert [level_of([v - 1e4 for v in decay(n, 100, 540, 0.2)], 200.0 - 1e4) for n in (12, 60)] == ["ill", "healthy"]


def test_while_the_loss_falls_nothing_else_is_advised():
    model, x = ppca(NOISE, NOISE / 40), data()  # the variance is too small: a training may still mend this
    before, falls = diagnose(model, x), diagnose(model, x, history=decay(6, 0, 5000, 0.2))
    assert falls["not converged"].advice == "train longer, before anything else"
    for verdict in falls.verdicts:
        settled = verdict.level == "healthy" or verdict.symptom in ("not converged", "effective beta", "data")
        assert settled or verdict.advice.startswith("train longer first"), verdict
    assert falls["variance of the likelihood"].level == before["variance of the likelihood"].level == "ill"
    assert before.change and falls.change == {}
    assert falls.cause.symptom == "not converged" and "variance of the likelihood" in falls.cause.explains


def test_no_epoch_mends_a_setting():
    """With beta = 40 the training makes another loss small than the -ELBO of the history. A variance that is set too
    large stays too large."""
    history = decay(6, 0, 50, 0.2)
    found = diagnose(ppca(40.0 * NOISE, NOISE, beta=40.0), data(), history=history)
    assert found["not converged"].advice == "set beta first; then judge again"
    assert "lower beta" in found["posterior collapse"].advice
    assert found.change == found["effective beta"].change == {"beta": 1.0, "rec_weight": 1.0}
    found = diagnose(ppca(400.0 * NOISE, 400.0 * NOISE), data(), history=history)
    assert "fit the variance" in found["variance of the likelihood"].advice and "obs_logvar" in found.change
    assert found.cause.symptom == "variance of the likelihood"


def overfit(held_out, train=None, history=(), base=200.0, spread=1.0):
    def values(mean):
        return None if mean is None else torch.tensor([mean - spread, mean + spread] * 200)

    return first.overfit(Losses(values(held_out), values(train), known(base), tuple(history)))


def test_train_against_held_out():
    assert overfit(108.9) is None
    found = overfit(108.9, 103.0)
    assert found.level == "watch" and "103.00 nats on train data and 108.90 on held-out data: +5.90" in found.evidence
    assert overfit(104.0, 103.0).level == overfit(100.0, 103.0).level == "healthy"
    assert overfit(160.0, 103.0).level == "ill"
    assert overfit(160.0, 103.0, spread=1000.0).level == "healthy"  # the difference is less than its error
    assert overfit(-9840.0, -9897.0, base=-9800.0).level == "ill"
    rose = overfit(150.0, history=[190.0, 140.0, 120.0, 130.0, 150.0])
    assert rose.level == "ill" and "was 120.00 after epoch 3 and has risen by 30.00" in rose.evidence
    assert overfit(120.0, history=[190.0, 140.0, 120.0]).level == "healthy"
    assert overfit(124.0, history=[190.0, 120.0, 124.0]).level == "watch"


def test_diagnose_compares_train_and_held_out_data():
    """Train data at half their distance to the mean have a lower loss, as data that are known by heart."""
    model, x = ppca(NOISE, NOISE), data()
    found = diagnose(model, x[:500], train=x[500:])["overfit"]
    assert found.level == "healthy"
    near = 0.5 * x[500:]
    found = diagnose(model, x[:500], train=near)["overfit"]
    losses = [model.loss(part, reduction="none").mean().item() for part in (near, x[:500])]
    assert found.level != "healthy" and "more data" in found.advice
    gap = float(found.evidence.split(": ")[1].split()[0])
    assert gap == pytest.approx(losses[1] - losses[0], abs=0.5)  # other noise


def test_train_data_at_which_the_model_is_not_finite():
    model, x = ppca(NOISE, NOISE), data()
    huge = torch.full_like(x, 1e30)
    found = diagnose(model, x, train=huge)
    assert not found.finite and found["not finite"].evidence.startswith("on the train data the KL of sample 0 is inf")


# ---------------------------------------------------------------- no advice contradicts another


def measured():
    """Measures on which every verdict has an advice."""
    m = diagnose(ppca(NOISE, NOISE), data()).measures
    assert isinstance(m, Measures) and not isinstance(m.log_p, LogP)
    return replace(
        m, hole_share=0.99, information=0.1, error=0.0, active_units=1, detail=0.01, sharpness=0.5, square_ratio=30.0
    )


def test_no_advice_contradicts_another_or_asks_for_what_is_there():
    base = measured()
    grid = product((0.01, 0.3, 1.0, 3.0, 100.0, None), (True, False), (0.01, 30.0), (True, False), (True, False))
    for beta, fixed, ratio, free_bits, trained_prior in grid:
        of = {"beta": beta, "fixed_variance": fixed, "square_ratio": ratio}
        found = verdicts(replace(base, **of, free_bits=free_bits, trained_prior=trained_prior))
        advice = " | ".join(v.advice for v in found)
        changes = [v.change for v in found]
        assert not ("lower beta" in advice and "raise beta" in advice), (of, advice)
        assert beta is None or beta >= 1 or "lower beta" not in advice
        assert beta is None or beta <= 1 or "raise beta" not in advice
        assert fixed or ("fit the variance" not in advice and not any("obs_logvar" in c for c in changes)), (of, advice)
        assert not free_bits or ("free_bits" not in advice and not any("free_bits" in c for c in changes))
        assert not trained_prior or "train the prior" not in advice
        for a, b in product(changes, changes):
            assert all(a[key] is b[key] or key == "obs_logvar" or a[key] == b[key] for key in a.keys() & b.keys())


class Both(nn.Module):
    def forward(self, h):
        return h, torch.full_like(h, 3.0)


def test_a_variance_from_the_decoder_is_not_to_be_fitted():
    model = vk.VAE(ppca(NOISE, NOISE).encoder, nn.Sequential(nn.Linear(L, D), Both()), likelihood="gaussian")
    verdict = diagnose(model, data())["variance of the likelihood"]
    assert verdict.level == "ill" and "trained already" in verdict.advice and verdict.change == {}


ERRORS = [
    ({"train": [1.0]}, TypeError, "train: got list, expected a tensor"),
    ({"train": torch.zeros(5, D + 1)}, ValueError, r"train: got \(5, 13\) torch.float32, expected .* \(12,\)"),
    ({"train": torch.zeros(5, D).double()}, ValueError, r"train: got \(5, 12\) torch.float64"),
    ({"train": torch.zeros(1, D)}, ValueError, "at least two samples"),
    ({"train": torch.full((5, D), math.inf)}, ValueError, "train: got 60 elements that are not finite"),
    ({"train": torch.zeros(5, D), "weight": torch.ones(D).bool()}, ValueError, "train: got a tensor beside weight"),
    ({"history": 3.0}, TypeError, "history: got float"),
    ({"history": [1.0, "a"]}, TypeError, "history: got str in it"),
]


@pytest.mark.parametrize("arguments, error, message", ERRORS)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        diagnose(ppca(NOISE, NOISE), data(), **arguments)
