"""vk.audit(loss, example, weight=mask) names what masked losses really are, written as people write them."""

import functools
import math
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tiers import every

import vae_kernels as vk

pytestmark = pytest.mark.usefixtures("one_thread")

B, D, L, K = 8, 48, 5, 4
NAN = float("nan")
G = torch.Generator().manual_seed(0)
LOGITS, MU, LOGVAR = (torch.randn(B, n, generator=G) for n in (D, L, L))
X = torch.rand(B, D, generator=G)
MASK = torch.rand(B, D, generator=G) < torch.linspace(0.2, 0.9, B)[:, None]
COLUMNS = torch.arange(D) % 3 != 0
EMPTY = MASK & (torch.arange(B) != 3)[:, None]
WEIGHT = torch.rand(B, D, generator=G)
ZERO, POISON = torch.where(MASK, X, 0.0), torch.where(MASK, X, NAN)
TOKENS = torch.randint(0, K, (B, 6), generator=G)
KEEP = torch.arange(6) < 1 + torch.arange(B)[:, None] % 6
PADDED = TOKENS.masked_fill(~KEEP, -100)
LEVELS = torch.randn(B, K, 6, generator=G)
PIXEL_LOGVAR = torch.linspace(-1, 1, D)
OBSERVED = MASK.sum().item() / B
EXAMPLE = LOGITS, X, MU, LOGVAR


def bce(r, x):
    return F.binary_cross_entropy_with_logits(r, x, reduction="none")


def kl(m, v):
    return -0.5 * torch.sum(1 + v - m**2 - v.exp())


def filled(x, mask):
    return torch.where(mask, x, 0.0)


def of(nll, share=1.0):
    """The loss (recon, x, mu, logvar, mask) of a nll and the mean KL."""
    return lambda recon, x, mu, logvar, mask: nll(recon, x, mask) + share * kl(mu, logvar) / len(x)


def normal(r, x, mask):
    s = PIXEL_LOGVAR.to(r)
    return (mask * 0.5 * ((filled(x, mask) - r) ** 2 / s.exp() + s + math.log(2 * math.pi))).sum() / len(x)


def case(loss, x, weight, beta, level="fine", said="", meant=1.0, recon=LOGITS):
    return SimpleNamespace(**locals())


CASES = {
    "sum over what is observed": case(
        of(lambda r, x, w: bce(r[w], x[w]).sum() / len(x)), POISON, MASK, 1,
        said=rf"reconstruction summed over the observed elements, {OBSERVED:.4g} of {D}; KL summed"),
    "mask after the terms": case(
        of(lambda r, x, w: (bce(r, x) * w).sum() / len(x)), ZERO, MASK, 1, said="that have the weight 0 do not count"),
    "0 * NaN": case(
        of(lambda r, x, w: (bce(r, x) * w).sum() / len(x)), POISON, MASK, 1, "wrong", r"as 0 \* NaN is NaN"),
    "NaN in the gradient alone": case(
        of(lambda r, x, w: torch.where(w, bce(r, x), 0.0).sum() / len(x)), POISON, MASK, 1, "wrong", r"0 \* NaN"),
    "mean over what is observed": case(
        of(lambda r, x, w: bce(r[w], x[w]).mean()), POISON, MASK, OBSERVED, "wrong",
        f"reconstruction divided by the number of observed elements, {OBSERVED:.4g} of {D}"),
    "mean of squares": case(
        of(lambda r, x, w: ((r - x)[w] ** 2).mean()), POISON, MASK, OBSERVED / 2, "wrong",
        "squared error without its 1/2, divided by the number of observed elements"),
    "mean over everything": case(
        of(lambda r, x, w: (bce(r, x) * w).mean()), ZERO, MASK, D, "wrong",
        f"summed over the observed elements, .* and divided by all {D}"),
    "scaled up": case(
        of(lambda r, x, w: D * bce(r[w], x[w]).mean()), POISON, MASK, OBSERVED / D, "wrong",
        f"number of observed elements, .* and multiplied by all {D}"),
    "mean of each sample": case(
        of(lambda r, x, w: ((bce(r, x) * w).sum(1) / w.sum(1)).mean()), ZERO, MASK, OBSERVED, "wrong",
        "reconstruction of each sample is divided by the number of its observed elements: .* beta is "
        f"{MASK.sum(1).min()} to {MASK.sum(1).max()}, by sample"),
    "mean of each sample, one empty": case(
        of(lambda r, x, w: ((bce(r, x) * w).sum(1) / w.sum(1).clamp(min=1)).mean()), ZERO, EMPTY,
        EMPTY.sum().item() / B, "wrong", "divided by the number of its observed elements"),
    "columns": case(
        of(lambda r, x, w: bce(r, x)[:, w].mean()), X, COLUMNS, COLUMNS.sum().item(), "wrong",
        f"divided by the number of observed elements, {COLUMNS.sum()} of {D}"),
    "ignored": case(
        lambda r, x, m, v: bce(r, x).sum() / len(x) + kl(m, v) / len(x), X, MASK, 1, "wrong",
        "does not use the weight, and has no argument `weight` or `mask`: the .*% of x"),
    "taken and ignored": case(
        of(lambda r, x, w: bce(r, x).sum() / len(x)), X, MASK, 1, "wrong", "does not use the weight: the"),
    "ignored beside NaN": case(
        lambda r, x, m, v: bce(r, x).sum() / len(x) + kl(m, v) / len(x), POISON, MASK, 1, "wrong",
        "does not use the weight"),
    "the other way": case(
        of(lambda r, x, w: bce(r[~w], x[~w]).sum() / len(x)), X, MASK, 1, "wrong", "reads the mask the other way"),
    "mean the other way": case(
        of(lambda r, x, w: bce(r[~w], x[~w]).mean()), X, MASK, D - OBSERVED, "wrong", "number of missing elements"),
    "found in x": case(
        lambda r, x, m, v: bce(r[~x.isnan()], x[~x.isnan()]).sum() / len(x) + kl(m, v) / len(x), POISON, MASK, 1,
        said="do not count"),
    "ignore_index": case(
        lambda r, x, m, v: F.cross_entropy(r, x, reduction="sum") / len(x) + kl(m, v) / len(x), PADDED, KEEP, 1,
        said="summed over the observed elements", recon=LEVELS),
    "ignore_index, mean": case(
        lambda r, x, m, v: F.cross_entropy(r, x) + kl(m, v) / len(x), PADDED, KEEP, KEEP.sum().item() / B, "wrong",
        f"divided by the number of observed elements, {KEEP.sum().item() / B:.4g} of 6", recon=LEVELS),
    "x and recon are masked": case(
        of(lambda r, x, w: bce(r * w, x * w).sum() / len(x)), ZERO, MASK, 1, "note",
        r"multiplies recon and x, not the terms: no gradient.*\+" + f"{(~MASK).sum().item() / B * math.log(2):.4g}"),
    "x and loc are masked": case(
        of(lambda r, x, w: -torch.distributions.Normal(r * w, 1.0).log_prob(x * w).sum() / len(x)), ZERO, MASK, 1,
        "note", "multiplies recon and x"),
    "a variance for each pixel": case(of(normal), POISON, MASK, 1, said="variance is inside the loss"),
    "a variance for each column": case(of(normal), ZERO, COLUMNS, 1, said="variance is inside the loss"),
    "weights": case(
        of(lambda r, x, w: (bce(r, x) * w).sum() / len(x)), X, WEIGHT, 1,
        said=f"summed over the {D} elements with their weights"),
    "weights, normalized": case(
        of(lambda r, x, w: (bce(r, x) * w).sum() / w.sum()), X, WEIGHT, WEIGHT.sum().item() / B, "wrong",
        f"divided by the weights' sum, {WEIGHT.sum().item() / B:.4g} a sample"),
    "flattened": case(
        of(lambda r, x, w: (bce(r, x.flatten(1)) * w.flatten(1)).sum() / w.sum()), ZERO.view(B, 3, 4, 4),
        MASK.view(B, 3, 4, 4), OBSERVED, "wrong", "divided by the number of observed elements"),
    "flattened, mean of each": case(
        of(lambda r, x, w: ((bce(r, x.flatten(1)) * w.flatten(1)).sum(1) / w.sum((1, 2, 3))).mean()),
        ZERO.view(B, 3, 4, 4), MASK.view(B, 3, 4, 4), OBSERVED, "wrong", "number of its observed elements"),
    "images, mean of each": case(
        of(lambda r, x, w: ((bce(r, x) * w).sum((1, 2, 3)) / w.expand_as(x).sum((1, 2, 3))).mean()),
        X.view(B, 3, 4, 4), MASK.view(B, 3, 4, 4)[:, :1], MASK.view(B, 3, 4, 4)[:, 0].sum().item() * 3 / B, "wrong",
        "number of its observed elements", recon=LOGITS.view(B, 3, 4, 4)),
    "one of each sample": case(
        lambda r, x, m, v, mask: vk.fused_elbo(r, x, m, v, weight=mask, reduction="none"), POISON, MASK, 1,
        said="one loss for each sample"),
    "a sum": case(
        lambda r, x, m, v, mask: bce(r[mask], x[mask]).sum() + kl(m, v), POISON, MASK, 1, "note",
        "the loss is summed over the batch"),
    "wrong sign": case(
        of(lambda r, x, w: bce(r[w], x[w]).mean(), -1.0), POISON, MASK, -OBSERVED, "wrong", "KL has the wrong sign"),
    "own beta": case(of(lambda r, x, w: bce(r[w], x[w]).sum() / len(x), 3.0), POISON, MASK, 3, "note", "a weight of 3",
                     meant=3.0),
}  # fmt: skip


@functools.cache
def run(name):
    c = CASES[name]
    return vk.audit(c.loss, (c.recon, c.x, MU, LOGVAR), weight=c.weight)


def text(audit, level):
    return " / ".join(sentence for at, sentence in audit.findings if at == level)


@pytest.mark.parametrize("name", every(3, CASES))
def test_the_effective_beta(name):
    assert run(name).effective_beta == pytest.approx(CASES[name].beta, rel=1e-4)


@pytest.mark.parametrize("name", every(3, CASES))
def test_what_is_said(name):
    c = CASES[name]
    assert re.search(c.said, text(run(name), c.level)), run(name)
    assert "took no batch of another size" not in str(run(name))


@pytest.mark.parametrize("name", every(3, CASES))
def test_the_equal_call_gives_the_same_value_and_gradients(name):
    """The very text that is printed, run here, on values that the audit has not seen."""
    c, audit = CASES[name], run(name)
    g = torch.Generator().manual_seed(7)
    inputs = [torch.randn(t.shape, generator=g, dtype=torch.float64) for t in (c.recon, MU, LOGVAR)]
    r, m, v = (t.requires_grad_() for t in inputs)
    x = c.x.double().nan_to_num(0.0) if c.x.is_floating_point() else c.x
    scope = {"vk": vk, "recon": r, "x": x, "mu": m, "logvar": v, "weight": c.weight}
    scope["obs_logvar"] = filled(PIXEL_LOGVAR.double(), c.weight.any(0)) if "variance" in name else None
    ours = eval(audit.equal, scope)
    x = c.x.double() if name == "found in x" else x
    theirs = c.loss(r, x, m, v) if name.startswith(("ignore", "found")) else c.loss(r, x, m, v, c.weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for a, b in zip(*(torch.autograd.grad(f.sum(), inputs) for f in (ours, theirs)), strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()
    assert audit.equal_error < 1e-5 and audit.equal in str(audit)


@pytest.mark.parametrize("name", every(3, CASES))
def test_the_call_that_is_meant(name):
    audit = run(name)
    assert "weight=weight" in audit.meant and "rec_weight" not in audit.meant
    assert audit.meant_beta == pytest.approx(CASES[name].meant, rel=1e-4)


@pytest.mark.parametrize("name", ["mean over what is observed", "mean of each sample", "scaled up"])
def test_the_equal_call_holds_for_another_mask(name):
    """The denominators are in the text as formulas of the mask, not as numbers of this batch."""
    other = MASK.flip(1) | (torch.arange(D) == 5)
    x = filled(X, other)
    scope = {"vk": vk, "recon": LOGITS, "x": x, "mu": MU, "logvar": LOGVAR, "weight": other}
    ours, theirs = eval(run(name).equal, scope), CASES[name].loss(LOGITS, x, MU, LOGVAR, other)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name, n", [("gaussian", 2), ("laplace", 2), ("poisson", 1), ("negative_binomial", 2),
                                     ("zinb", 3), ("continuous_bernoulli", 1)])  # fmt: skip
def test_every_likelihood_is_known_beside_poison(name, n):
    x = torch.rand(B, D, generator=G) if name == "continuous_bernoulli" else torch.poisson(torch.full((B, D), 3.0))
    recon = tuple(torch.randn(B, D, generator=G) for _ in range(n))
    loss = functools.partial(vk.fused_elbo, likelihood=name, beta=0.3)
    example = (recon if n > 1 else recon[0], torch.where(MASK, x, NAN), MU, LOGVAR)
    audit = vk.audit(loss, example, weight=MASK)
    assert audit.likelihood == name and audit.effective_beta == pytest.approx(0.3)
    assert audit.equal_error < 1e-6 and not text(audit, "wrong")


HOW = {
    "weight": lambda recon, x, mu, logvar, *, weight: vk.fused_elbo(recon, x, mu, logvar, weight=weight),
    "mask": lambda recon, x, mu, logvar, beta=1.0, mask=None: vk.fused_elbo(
        recon, x, mu, logvar, beta=beta, weight=mask
    ),
    "the fifth": lambda recon, x, mu, logvar, seen: vk.fused_elbo(recon, x, mu, logvar, weight=seen),
    "a function of ours": vk.fused_elbo,
    "a module of ours": vk.FusedELBO(),
    "none, with a fifth that is another": lambda recon, x, mu, logvar, beta=1.0: vk.fused_elbo(
        recon, x, mu, logvar, beta=beta, weight=~x.isnan()
    ),
}


@pytest.mark.parametrize("how", HOW)
def test_how_a_loss_gets_the_weight(how):
    audit = vk.audit(HOW[how], (LOGITS, POISON.round(), MU, LOGVAR), weight=MASK)
    assert {level for level, _ in audit.findings} == {"fine"}
    assert audit.equal == audit.meant == "vk.fused_elbo(recon, x, mu, logvar, weight=weight)"


@pytest.mark.parametrize("weight", [MASK, WEIGHT])
def test_the_entropy_of_soft_targets_has_their_weights(weight):
    audit = vk.audit(vk.fused_elbo, EXAMPLE, weight=weight)
    best = vk.nll(torch.logit(X.double()), X.double(), weight=weight, reduction="mean").item()
    assert f"{best:.4g} nats a sample" in text(audit, "note")


def test_targets_that_are_missing_are_not_judged():
    """-7 is outside of [0, 1], but the elements with -7 are missing."""
    audit = vk.audit(vk.fused_elbo, (LOGITS, torch.where(MASK, X, -7.0), MU, LOGVAR), weight=MASK)
    assert not text(audit, "wrong")
    x = torch.where(MASK & (torch.arange(B) == 0)[:, None], 1.5, POISON)
    audit = vk.audit(vk.fused_elbo, (LOGITS, x, MU, LOGVAR), weight=MASK)
    assert f"{MASK[0].sum() / MASK.sum():.2%} of the observed x are outside [0, 1]" in text(audit, "wrong")


def test_a_batch_of_one_and_a_mask_of_everything():
    audit = vk.audit(vk.fused_elbo, (LOGITS[:1], ZERO[:1].round(), MU[:1], LOGVAR[:1]), weight=MASK[:1])
    assert audit.effective_beta == pytest.approx(1) and not text(audit, "wrong")
    whole = vk.audit(vk.fused_elbo, (LOGITS, X.round(), MU, LOGVAR), weight=torch.ones(B, 1, dtype=torch.bool))
    assert f"summed over the {D} elements" in text(whole, "fine") and "do not count" not in str(whole)


def test_a_loss_of_another_form_is_not_forced_into_one():
    audit = vk.audit(of(lambda r, x, w: ((r - filled(x, w)) ** 4)[w].sum()), (LOGITS, POISON, MU, LOGVAR), weight=MASK)
    assert audit.effective_beta is None and "not that of a known likelihood" in text(audit, "wrong")
    never = vk.audit(lambda r, x, m, v, mask: (r * NAN).sum() + kl(m, v), (LOGITS, X, MU, LOGVAR), weight=MASK)
    assert never.effective_beta is None  # and the missing elements are not blamed
    assert "0 * NaN" not in str(never)


ERRORS = [
    (MASK.long(), TypeError, "weight: got dtype torch.int64"),
    ("mask", TypeError, "weight: got str"),
    (MASK[:, :3], ValueError, r"weight: got shape \(8, 3\)"),
    (MASK[:, 0], ValueError, r"weight: got shape \(8,\).* \(8, 1\)"),
    (MASK & False, ValueError, "weight: expected finite weights >= 0 that are not all 0"),
    (WEIGHT - 0.5, ValueError, "weight: expected finite weights >= 0"),
    (WEIGHT / 0, ValueError, "weight: expected finite weights"),
]


@pytest.mark.parametrize("weight, error, message", ERRORS)
def test_errors(weight, error, message):
    with pytest.raises(error, match=message):
        vk.audit(vk.fused_elbo, EXAMPLE, weight=weight)


# ---------------------------------------------------------------- latent_weight

PADDING = torch.arange(L) < 1 + torch.arange(B)[:, None] % L
LATENTS = PADDING.sum().item() / B
OF_SAMPLES = torch.rand(B, 1, generator=G)


def kls(m, v):
    return -0.5 * (1 + v - m**2 - v.exp())


def rec(r, x):
    return bce(r, x).sum() / len(x)


# loss, weight, latent_weight, effective beta, level, what is said
LATENT = {
    "padded": (
        lambda r, x, m, v, latent_mask: rec(r, x) + kls(m, v)[latent_mask].sum() / len(x), None, PADDING, 1,
        "fine", f"KL summed over the {L} latent dims with their weights, {LATENTS:.4g} a sample"),
    "mean over the latents that count": (
        lambda r, x, m, v, latent_weight: rec(r, x) + kls(m, v)[latent_weight].mean(), None, PADDING, 1 / LATENTS,
        "wrong", f"KL divided by the latent weights' sum, {LATENTS:.4g} a sample"),
    "mean over all latents": (
        lambda r, x, m, v, latent_weight: rec(r, x) + (kls(m, v) * latent_weight).mean(), None, PADDING, 1 / L,
        "wrong", f"KL summed over the {L} latent dims with their weights, .*, and divided by {L}"),
    "not used": (
        lambda r, x, m, v, latent_mask: rec(r, x) + kls(m, v).sum() / len(x), None, PADDING, 1, "wrong",
        f"the KL does not use the latent_weight: the {1 - LATENTS / L:.1%} of mu"),
    "not taken": (
        lambda r, x, m, v: rec(r, x) + kls(m, v).sum() / len(x), None, PADDING, 1, "wrong",
        "the loss has no argument `latent_weight` or `latent_mask`"),
    "both": (
        lambda r, x, m, v, mask, latent_mask: (bce(r, x)[mask].sum() + kls(m, v)[latent_mask].sum()) / len(x), MASK,
        PADDING, 1, "fine", f"the {1 - LATENTS / L:.1%} of mu that have the weight 0 do not count"),
    "the loss of each observed element": (
        lambda r, x, m, v, mask: (bce(r, x)[mask].sum() + kls(m, v).sum()) / mask.sum(), MASK, None, 1, "fine",
        "KL divided by the number of observed elements"),
    "weights of samples": (
        lambda r, x, m, v, weight, latent_weight: (
            (bce(r, x).sum(1) + kls(m, v).sum(1)) * weight[:, 0]).sum() / weight.sum(), OF_SAMPLES, OF_SAMPLES, 1,
        "fine", f"divided by the weights' sum, .* multiplied by all {D}; KL divided by the .* multiplied by {L}"),
    "columns": (
        lambda r, x, m, v, latent_weight: rec(r, x) - kls(m, v)[:, latent_weight].sum() / len(x), None,
        torch.arange(L) > 1, -1, "wrong", "the KL has the wrong sign"),
}  # fmt: skip


@pytest.mark.parametrize("name", LATENT)
def test_weights_of_the_latents(name):
    loss, weight, latent_weight, beta, level, said = LATENT[name]
    audit = vk.audit(loss, EXAMPLE, weight=weight, latent_weight=latent_weight)
    assert audit.effective_beta == pytest.approx(beta, rel=1e-4)
    assert re.search(said, text(audit, level)), audit
    assert (level == "wrong") == bool(text(audit, "wrong"))
    assert audit.meant_beta == pytest.approx(1, rel=1e-4) and audit.equal_error < 1e-5
    assert ("latent_weight=latent_weight" in audit.meant) == (latent_weight is not None)
    named = {n: w for n, w in (("weight", weight), ("latent_weight", latent_weight)) if f"{n}={n}" in audit.equal}
    assert (name in ("not used", "not taken")) == ("latent_weight" not in named and latent_weight is not None)
    if beta > 0:  # the text is run on values that the audit has not seen, where the padding holds NaN
        g = torch.Generator().manual_seed(7)
        m, v = (torch.randn(B, L, generator=g).masked_fill(latent_weight == 0, NAN) if "latent_weight" in named
                else torch.randn(B, L, generator=g) for _ in range(2))  # fmt: skip
        clean = [t.nan_to_num() for t in (m, v)]
        scope = {"vk": vk, "recon": LOGITS, "x": X, "mu": m, "logvar": v, "latent_weight": latent_weight}
        ours = eval(audit.equal, scope | {"weight": weight})
        theirs = eval(audit.equal, scope | {"weight": weight, "mu": clean[0], "logvar": clean[1]})
        torch.testing.assert_close(ours, theirs)
