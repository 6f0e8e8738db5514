"""The banner: one cause for many symptoms, and what to try first. The cards: words and gauges."""

import math
from itertools import product

import pytest
import torch

import vae_kernels as vk
from vae_kernels.doctor import cards, gauges, words
from vae_kernels.doctor.cause import LEARNED, common, is_setting
from vae_kernels.doctor.gauges import LEVELS, Gauge
from vae_kernels.doctor.verdicts import EVEN, Verdict


def verdict(symptom, level, value=None, change=None):
    gauge = None if value is None else gauges.ratio("", value, (2.0, 10.0))
    return Verdict(symptom, level, "evidence", "a cause", f"advice on {symptom}", change or {}, gauge)


def cause_of(*given):
    return common([verdict(*of) for of in given])


COLLAPSE, RATE, BLUR, MEAN = "posterior collapse", "rate and distortion", "blur", "no better than the mean"
HOLES, FALLS, OVERFIT, BETA = "holes in the latent space", "not converged", "overfit", "effective beta"
COMMAND = "vae-kernels train --beta 1 --rgb"
VARIANCE = "variance of the likelihood"
LOST = (COLLAPSE, "ill"), (RATE, "ill"), (BLUR, "ill"), (MEAN, "watch")

# name: (verdicts, symptom of the cause, level of the cause, a part of the title, explained symptoms)
CASES = {
    "healthy": ([(COLLAPSE, "healthy"), (BLUR, "healthy")], "", "healthy", "no symptom", ()),
    "beta too high": (
        [(FALLS, "ill"), *LOST, (BETA, "ill", 30.0, EVEN)],
        *(BETA, "ill", "beta is 30: the KL outweighs", (FALLS, COLLAPSE, RATE, BLUR, MEAN)),
    ),
    "beta a little too high": ([*LOST, (BETA, "watch", 4.0, EVEN)], BETA, "ill", "beta is 4", [of[0] for of in LOST]),
    "beta too low": (
        [(MEAN, "ill"), (OVERFIT, "ill"), (HOLES, "ill"), (BETA, "ill", 0.001, EVEN)],
        *(BETA, "ill", "beta is 0.001: the KL hardly counts", (MEAN, OVERFIT, HOLES)),
    ),
    "beta, and a training too short": (
        [(FALLS, "ill"), (HOLES, "watch"), (BETA, "watch", 3.0, EVEN)],
        *(FALLS, "ill", "ended too early", (HOLES,)),
    ),
    "blurred": (
        [(FALLS, "watch"), (BLUR, "watch"), (VARIANCE, "ill", 0.05, {"obs_logvar": -3.0})],
        *(VARIANCE, "ill", "variance of the likelihood is too large", (BLUR,)),
    ),
    "variance too small": (
        [(HOLES, "watch"), (VARIANCE, "ill", 30.0, {"obs_logvar": 1.0})],
        *(VARIANCE, "ill", "does not fit", ()),
    ),
    "not converged": (
        [(FALLS, "ill"), (HOLES, "watch"), (BLUR, "watch")],
        *(FALLS, "ill", "ended too early", (HOLES, BLUR)),
    ),
    "powerful decoder": (
        [(COLLAPSE, "ill"), (RATE, "ill"), (BETA, "healthy", 1.0)],
        *(COLLAPSE, "ill", "does without the latents", (RATE,)),
    ),
    "data": (
        [("data", "ill"), (COLLAPSE, "watch"), (BETA, "ill", 30.0, EVEN)],
        *("data", "ill", "do not suit the likelihood", (COLLAPSE,)),
    ),
    "data of another scale": ([("data", "watch")], "data", "watch", "do not suit", ()),
    "overfit": ([(OVERFIT, "ill"), (HOLES, "watch")], OVERFIT, "ill", "by heart", (HOLES,)),
    "watch, and what it does not explain": ([(FALLS, "healthy"), (HOLES, "watch"), (BLUR, "ill")], BLUR, "ill", "", ()),
}


@pytest.mark.parametrize("name", CASES)
def test_the_cause(name):
    given, symptom, level, title, explains = CASES[name]
    cause = cause_of(*given)
    assert (cause.symptom, cause.level, set(cause.explains)) == (symptom, level, set(explains))
    assert title in cause.title and cause.sentence.endswith(".")
    banner = cards.banner(cause)
    assert all(words.name(other) in banner for other in explains) and f'class="banner {level}"' in banner
    if symptom:
        own = next(of for of in given if of[0] == symptom)
        expected = "vk.VAE(encoder,</span>" if len(own) > 3 else f"advice on {symptom}"
        assert expected in banner
        assert '<span class="w">--beta 1</span> <span class="w">--rgb</span></code>' in cards.banner(cause, COMMAND)


def test_a_cause_is_found_for_every_sick_symptom():
    """Each verdict alone, and each pair, at both levels: the cause is as bad as the worst verdict."""
    symptoms = [*LEARNED, BETA]
    for one, other in product(symptoms, symptoms):
        for levels in product(("watch", "ill"), repeat=2):
            values = [3.0 if s == BETA else None for s in (one, other)]
            given = [(one, levels[0], values[0])] + [(other, levels[1], values[1])] * (one != other)
            cause = cause_of(*given)
            assert cause.symptom in (one, other)
            assert LEVELS.index(cause.level) == max(LEVELS.index(of[1]) for of in given), given


def test_only_a_constant_variance_that_is_too_large_is_a_setting():
    """The gauge of a collapse has a number below 1 too, and its advice is a setting; but a training may mend it."""
    assert is_setting(verdict(VARIANCE, "ill", 0.05, {"obs_logvar": -3.0}))
    assert not is_setting(verdict(COLLAPSE, "ill", 0.05, {"free_bits": (0.25, "per_dim")}))
    assert not is_setting(verdict(VARIANCE, "ill", 30.0, {"obs_logvar": 1.0}))
    assert not is_setting(verdict(VARIANCE, "ill", 0.05))  # the variance is trained already
    falls = cause_of((FALLS, "ill"), (COLLAPSE, "ill", 0.05, {"free_bits": (0.25, "per_dim")}))
    assert falls.symptom == FALLS and falls.explains == (COLLAPSE,)


def test_the_code_can_be_pasted():
    change = EVEN | {"obs_logvar": torch.nn.Parameter(torch.tensor(-2.534)), "free_bits": (0.25, "per_dim")}
    code = common([verdict(COLLAPSE, "ill", change=change)]).code
    encoder, decoder = torch.nn.Linear(4, 4), torch.nn.Linear(2, 4)
    model = eval(code, {"vk": vk, "torch": torch, "encoder": encoder, "decoder": decoder})
    assert (model.beta, model.rec_weight, model.free_bits) == (1.0, 1.0, vk.FreeBits(0.25, "per_dim"))
    assert model.obs_logvar.item() == pytest.approx(-2.53) and model.obs_logvar.requires_grad


def test_the_diagnosis_of_a_model_names_its_cause():
    torch.manual_seed(0)
    x = torch.rand(220, 1, 8, 8).round()
    found = vk.diagnose(vk.mlp_vae((1, 8, 8), 3, (16,), beta=30.0), x, log_p=None)
    assert found.cause.symptom == BETA and COLLAPSE in found.cause.explains
    first, second, third, *rest = str(found).splitlines()
    assert first.startswith("ill: 220 samples") and second.startswith("beta is 30: the KL outweighs the likelihood. ")
    assert third == "try: vk.VAE(encoder, decoder, beta=1.0, rec_weight=1.0)"
    levels = [line.split()[0] for line in rest if line.split()[:1] and line.split()[0] in LEVELS]
    assert levels == sorted(levels, key=LEVELS.index, reverse=True) and len(levels) == len(found.verdicts)


def test_a_notebook_shows_the_cause_and_the_cards(monkeypatch):
    x = torch.rand(20, 5)
    found = vk.diagnose(vk.mlp_vae((5,), 2, (4,), beta=30.0), x, log_p=None)
    source = found._repr_html_()
    assert "beta is 30" in source and source.count("<article") == len(found.verdicts)
    assert source.startswith("<style>") and "<html" not in source and '<svg class="gauge"' in source
    broken = vk.mlp_vae((5,), 2, (4,))
    broken.encoder[-1].bias.data.fill_(math.nan)
    assert "a number of the model is not finite" in vk.diagnose(broken, x)._repr_html_()


# ---------------------------------------------------------------- gauges and words

GAUGES = {
    "rising": gauges.rising("", 0.0, "", (0.15, 0.95)),
    "falling": gauges.falling("", 0.0, "", (0.25, 0.1), 1.0),
    "ratio": gauges.ratio("", 0.0, (2.0, 10.0)),
    "least": gauges.least("", 0.0, "", math.log(2)),
}


def at(gauge, value):
    return Gauge("name", value, f"{value:g}", gauge.stops, gauge.levels)


@pytest.mark.parametrize("name", GAUGES)
def test_the_needle_stands_in_the_zone_of_its_level(name):
    gauge = GAUGES[name]
    values = torch.logspace(-4, 4, 401).tolist()
    placed = [at(gauge, value) for value in values]
    places = [g.place for g in placed]
    assert places == sorted(places) and places[0] >= 0 and places[-1] == 1.0 == at(gauge, math.inf).place
    zones = len(gauge.levels)
    for g in placed:
        if abs(g.place * zones - round(g.place * zones)) > 1e-9:
            assert g.level == gauge.levels[int(g.place * zones)], g
    assert at(gauge, math.nan).level == "ill" and at(gauge, -5.0).place == 0.0


def test_the_levels_of_gauges_are_those_of_the_thresholds():
    levels = {name: [at(g, v).level for v in (0.05, 0.15, 0.16, 0.95, 0.96)] for name, g in GAUGES.items()}
    assert levels["rising"] == ["healthy", "healthy", "watch", "watch", "ill"]
    assert levels["falling"] == ["ill", "watch", "watch", "healthy", "healthy"]
    assert levels["least"] == ["ill", "ill", "ill", "healthy", "healthy"]
    ratios = [at(GAUGES["ratio"], v).level for v in (0.05, 0.1, 0.4, 0.5, 1.0, 2.0, 2.1, 10.0, 11.0)]
    assert ratios == ["ill", "watch", "watch", "healthy", "healthy", "healthy", "watch", "watch", "ill"]


def test_a_card_has_a_gauge_only_where_the_gauge_agrees():
    """An overfit that is within its error is healthy, whatever its size."""
    gauge = gauges.rising("gap", 0.5, "50%", (0.05, 0.25))
    assert cards.gauge(gauge).count(">5%<") == cards.gauge(gauge).count(">25%<") == 1
    for level in LEVELS:
        card = cards.card(Verdict(OVERFIT, level, "evidence", gauge=gauge), common([]))
        assert ("<svg" in card) == (level == "ill") and words.FOUND[level] in card
        assert words.SENTENCES[OVERFIT][LEVELS.index(level)] in card


def test_every_symptom_has_words():
    assert set(words.SENTENCES) >= {*LEARNED, BETA, "data", "decoder output", "not finite", "impossible values"}
    for sentences in words.SENTENCES.values():
        assert all(text == "" or (text[0].isupper() and text.endswith(".")) for text in sentences)
    void = Verdict(BLUR, "watch", "not judged: first mend 'data'")
    assert words.sentence(void) == "Not judged: first mend 'data'." and words.found(void) == "not judged"
    assert [words.found(verdict(BLUR, level)) for level in LEVELS] == ["not found", "suspected", "found"]


def test_what_is_not_found_is_folded_behind_what_is():
    found = [verdict(BLUR, "healthy"), verdict(HOLES, "watch"), verdict(COLLAPSE, "ill"), verdict(RATE, "ill")]
    source = cards.cells(found, common(found))
    places = [source.index(f"<h3>{words.name(s)}") for s in (COLLAPSE, RATE, HOLES, BLUR)]
    assert places == sorted(places) and '<details class="well"><summary>Not found: blur' in source
    assert '<details class="well" open>' in cards.cells(found[:1], common(found[:1]))
    assert source.count("Explained by: the decoder does without the latents.") == 1
