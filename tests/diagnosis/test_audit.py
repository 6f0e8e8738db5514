"""vk.audit names what losses really are: the common forms, written as people write them, with betas known on paper."""

import functools
import math
import re

import pytest
import torch
import torch.nn.functional as F

import vae_kernels as vk

pytestmark = pytest.mark.usefixtures("one_thread")

B, D, L = 8, 48, 5
generator = torch.Generator().manual_seed(0)
LOGITS, MU, LOGVAR = (torch.randn(B, n, generator=generator) for n in (D, L, L))
X = torch.rand(B, D, generator=generator)
PIXEL_LOGVAR = torch.randn(D, generator=generator).requires_grad_()


def bce(logits, x, how="sum"):
    return F.binary_cross_entropy_with_logits(logits, x, reduction=how)


def kl_sum(mu, logvar):
    return -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())


def pixel_variance(r, x, m, v):
    s = PIXEL_LOGVAR
    return (0.5 * ((x - r) ** 2 / s.exp() + s + math.log(2 * math.pi)).sum() + kl_sum(m, v)) / len(x)


# what people write -> its effective beta: the KL's weight over that of the nll, each summed over a sample
TEN = {
    "sum/sum": (lambda r, x, m, v: bce(r, x) + kl_sum(m, v), 1),
    "mean/sum": (lambda r, x, m, v: bce(r, x, "mean") + kl_sum(m, v) / len(x), D),
    "mean/mean": (
        lambda r, x, m, v: bce(r, x, "mean") - 0.5 * torch.mean(1 + v - m**2 - v.exp()), D / L),
    "probabilities": (
        lambda r, x, m, v: F.binary_cross_entropy(r, x, reduction="sum") / len(x) + kl_sum(m, v) / len(x), 1),
    "logits": (lambda r, x, m, v: (bce(r, x) + 4 * kl_sum(m, v)) / len(x), 4),
    "MSE": (lambda r, x, m, v: (F.mse_loss(r, x, reduction="sum") + kl_sum(m, v)) / len(x), 1 / 2),
    "MSE with 0.5": (lambda r, x, m, v: (0.5 * F.mse_loss(r, x, reduction="sum") + kl_sum(m, v)) / len(x), 1),
    "wrong sign": (lambda r, x, m, v: (bce(r, x) - kl_sum(m, v)) / len(x), -1),
    "divided twice": (
        lambda r, x, m, v: bce(r, x) / len(x) + torch.mean(-0.5 * (1 + v - m**2 - v.exp()).sum(1)) / len(x), 1 / B),
    "per-pixel variance": (pixel_variance, 1),
}  # fmt: skip
MORE = {
    "mean MSE": (lambda r, x, m, v: F.mse_loss(r, x) + kl_sum(m, v) / len(x), D / 2),
    "kld_weight": (lambda r, x, m, v: F.mse_loss(r, x) + 0.00025 * kl_sum(m, v) / len(x), 0.00025 * D / 2),
    "keras of old": (lambda r, x, m, v: bce(r, x) / len(x) + kl_sum(m, v) / len(x) / D, 1 / D),
    "per sample": (lambda r, x, m, v: vk.fused_elbo(r, x, m, v, beta=3.0, reduction="none"), 3),
    "L1": (lambda r, x, m, v: ((r - x).abs().sum() + kl_sum(m, v)) / len(x), 1),
    "log sigma": (lambda r, x, m, v: (bce(r, x) + kl_sum(m, 2 * v)) / len(x), 1),
    "one variance": (
        lambda r, x, m, v: (0.5 * ((x - r) ** 2 / 0.04 + math.log(0.04)).sum() + kl_sum(m, v)) / len(x), 1),
    "batch written out": (lambda r, x, m, v: (bce(r, x.view(B, D)) + kl_sum(m, v)) / B, 1),
    "no KL": (lambda r, x, m, v: bce(r, x) / len(x), 0),
    "continuous Bernoulli": (lambda r, x, m, v: vk.fused_elbo(r, x, m, v, likelihood="continuous_bernoulli"), 1),
}  # fmt: skip
ALL = TEN | MORE


def recon(name):
    return LOGITS.sigmoid() if name == "probabilities" else LOGITS


@functools.cache
def run(name):
    return vk.audit(ALL[name][0], (recon(name), X, MU, LOGVAR))


def text(audit, level="wrong"):
    return " / ".join(sentence for at, sentence in audit.findings if at == level)


@pytest.mark.parametrize("name", ALL)
def test_the_effective_beta(name):
    audit = run(name)
    assert audit.effective_beta == pytest.approx(ALL[name][1], rel=1e-4)  # two digits were asked for


@pytest.mark.parametrize("name", ALL)
def test_the_equal_call_gives_the_same_value_and_gradients(name):
    """The very text that is printed, run here, on values that the audit has not seen."""
    audit = run(name)
    g = torch.Generator().manual_seed(7)
    r, m, v = (torch.randn(B, n, generator=g, dtype=torch.float64) for n in (D, L, L))
    inputs = [t.requires_grad_() for t in (r.sigmoid() if name == "probabilities" else r, m, v)]
    scope = {"vk": vk, "torch": torch, "x": X.double(), "obs_logvar": PIXEL_LOGVAR.detach().double()}
    scope |= dict(zip(("recon", "mu", "logvar"), inputs, strict=True))
    ours, theirs = eval(audit.equal, scope), ALL[name][0](inputs[0], scope["x"], *inputs[1:])
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-4, atol=0)
    for a, b in zip(*(torch.autograd.grad(f.sum(), inputs, materialize_grads=True, allow_unused=True)
                      for f in (ours, theirs)), strict=True):  # fmt: skip
        assert (a - b).norm() <= 1e-4 * b.norm()
    assert audit.equal_error < 1e-4 and audit.equal in str(audit)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("logits", "per sample", "kld_weight")])
def test_the_call_that_is_meant_has_beta_1(name):
    audit = run(name)
    scope = {"vk": vk, "torch": torch, "obs_logvar": PIXEL_LOGVAR.detach()}

    def call(recon, x, mu, logvar):
        return eval(audit.meant, scope | {"recon": recon, "x": x, "mu": mu, "logvar": logvar})

    assert vk.audit(call, (recon(name), X, MU, LOGVAR)).effective_beta == pytest.approx(1, rel=1e-4)
    assert audit.meant_beta == pytest.approx(1, rel=1e-4) and "rec_weight" not in audit.meant


def test_a_beta_of_ones_own_is_kept():
    assert run("logits").meant == run("logits").equal == "vk.fused_elbo(recon, x, mu, logvar, beta=4.0)"
    assert "beta=3" in run("per sample").meant and 'reduction="none"' in run("per sample").meant
    assert f"beta={0.00025 * D / 2:g}" in run("kld_weight").meant  # a mean beside a weight of one's own: beta stays


SAID = {
    "mean/sum": ("wrong", f"averaged over the {D} elements"),
    "mean/mean": ("wrong", f"averaged over the {L} latent dims"),
    "probabilities": ("note", "read as probabilities"),
    "MSE": ("note", "without its 1/2"),
    "MSE with 0.5": ("note", r"log\(2 pi\) / 2 of each element is left out"),
    "wrong sign": ("wrong", "the KL has the wrong sign"),
    "divided twice": (
        "wrong",
        "reconstruction is averaged over the batch and the KL is divided by the batch twice",
    ),
    "L1": ("note", "Laplace density's log 2 of each element is left out"),
    "sum/sum": ("note", "the loss is summed over the batch"),
    "keras of old": ("wrong", f"KL divided by the {D} elements"),
    "per-pixel variance": ("fine", "variance is inside the loss"),
    "no KL": ("wrong", "there is no KL term"),
    "log sigma": ("note", "read as log sigma"),
    "batch written out": ("note", "took no batch of another size"),
    "per sample": ("fine", "one loss for each sample"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_wrong_is_said(name):
    level, sentence = SAID[name]
    assert re.search(sentence, text(run(name), level)), run(name)


def test_a_sound_loss_has_nothing_wrong():
    audit = vk.audit(vk.fused_elbo, (LOGITS, X.round(), MU, LOGVAR))
    assert [level for level, _ in audit.findings if level != "fine"] == []
    assert audit.equal == audit.meant == "vk.fused_elbo(recon, x, mu, logvar)"


@pytest.mark.parametrize("likelihood, n", [("gaussian", 2), ("laplace", 2), ("poisson", 1), ("negative_binomial", 2),
                                           ("zinb", 3)])  # fmt: skip
def test_every_likelihood_is_known(likelihood, n):
    x = torch.poisson(torch.full((B, D), 3.0), generator=generator)
    recon = tuple(torch.randn(B, D, generator=generator) for _ in range(n))

    def loss(recon, x, mu, logvar):
        return vk.fused_elbo(recon, x, mu, logvar, likelihood=likelihood, beta=0.3)

    audit = vk.audit(loss, (recon if n > 1 else recon[0], x, MU, LOGVAR))
    assert audit.likelihood == likelihood and audit.effective_beta == pytest.approx(0.3)
    assert audit.equal_error < 1e-6 and not text(audit)


def test_levels():
    x = torch.randint(0, 4, (B, 6), generator=generator)
    recon = torch.randn(B, 4, 6, generator=generator)
    audit = vk.audit(
        lambda r, x, m, v: (F.cross_entropy(r, x, reduction="sum") + kl_sum(m, v)) / B, (recon, x, MU, LOGVAR)
    )
    assert audit.likelihood == "categorical" and audit.effective_beta == pytest.approx(1) and not text(audit)


def test_a_loss_that_flattens_x():
    x = X.view(B, 3, 4, 4)
    audit = vk.audit(lambda r, x, m, v: bce(r, x.view(-1, D), "mean") + kl_sum(m, v) / len(x), (LOGITS, x, MU, LOGVAR))
    assert audit.effective_beta == pytest.approx(D, rel=1e-4) and "x.reshape(recon.shape)" in audit.equal
    assert audit.equal_error < 1e-4 and audit.meant_beta == pytest.approx(1)


def test_a_beta_of_each_dimension():
    beta = torch.linspace(0.5, 3, L, dtype=torch.float64)
    audit = vk.audit(lambda r, x, m, v: vk.fused_elbo(r, x, m, v, beta=beta), (LOGITS, X, MU, LOGVAR))
    torch.testing.assert_close(audit.effective_beta, beta)
    assert audit.equal_error < 1e-6 and "0.5 to 3, by dimension" in str(audit)


def test_images_and_latent_maps_and_uint8():
    x = torch.randint(0, 256, (4, 3, 5, 2), dtype=torch.uint8)
    recon = torch.randn(4, 3, 5, 2)
    mu, logvar = torch.randn(2, 4, 2, 3, 3)
    audit = vk.audit(lambda r, x, m, v: bce(r, x.to(r) / 255, "mean") + kl_sum(m, v) / len(x), (recon, x, mu, logvar))
    assert audit.effective_beta == pytest.approx(30, rel=1e-4) and audit.equal_error < 1e-4


def test_a_sigmoid_before_logits_targets_outside_and_soft_ones():
    loss = TEN["sum/sum"][0]
    assert "is there a sigmoid" in text(vk.audit(loss, (LOGITS.sigmoid(), X, MU, LOGVAR)))
    x = X.clone()
    x[0, :12] = 1.5
    assert f"{12 / (B * D):.2%} of x are outside [0, 1]" in text(vk.audit(loss, (LOGITS, x, MU, LOGVAR)))
    floor = torch.distributions.Bernoulli(probs=X.double()).entropy().sum(1).mean().item()
    assert f"{floor:.4g} nats a sample" in text(vk.audit(loss, (LOGITS, X, MU, LOGVAR)), "note")
    best = vk.nll(torch.logit(X.double()), X.double(), reduction="mean").item()
    assert best == pytest.approx(floor)  # the floor is reached, where the logits are those of x


def test_a_loss_of_another_form_is_not_forced_into_one():
    audit = vk.audit(lambda r, x, m, v: ((r - x) ** 4).sum() + kl_sum(m, v), (LOGITS, X, MU, LOGVAR))
    assert audit.effective_beta is None and audit.equal is None and "not that of a known likelihood" in text(audit)
    audit = vk.audit(lambda r, x, m, v: bce(r, x) + (m**2).sum(), (LOGITS, X, MU, LOGVAR))
    assert audit.effective_beta is None and "not those of the KL" in text(audit)
    for bent in (torch.sqrt, lambda kl: (kl - 3 * B).abs()):  # the KL's gradient, times a number: another at each point
        audit = vk.audit(lambda r, x, m, v, f=bent: bce(r, x) + f(kl_sum(m, v)), (LOGITS, X, MU, LOGVAR))
        assert audit.effective_beta is None and audit.equal is None


def test_a_clamp_that_the_example_meets_is_noticed():
    saturated = LOGITS.sigmoid().round()  # F.binary_cross_entropy holds -log 0 at 100
    audit = vk.audit(TEN["probabilities"][0], (saturated, X, MU, LOGVAR))
    assert audit.effective_beta == pytest.approx(1) and "is something clamped" in text(audit)


ERRORS = [
    (lambda: vk.audit(3, (LOGITS, X, MU, LOGVAR)), TypeError, "loss_fn: got int"),
    (lambda: vk.audit(vk.fused_elbo, (LOGITS, X)), TypeError, "example: got 2 values"),
    (lambda: vk.audit(vk.fused_elbo, (LOGITS, X, MU, LOGVAR[:, :2])), ValueError, "logvar: got shape"),
    (lambda: vk.audit(vk.fused_elbo, (LOGITS, X, MU[:2], LOGVAR[:2])), ValueError, "mu: got shape"),
    (lambda: vk.audit(lambda *_: 1.0, (LOGITS, X, MU, LOGVAR)), TypeError, "loss_fn: gave float"),
    (lambda: vk.audit(lambda r, *_: r, (LOGITS, X, MU, LOGVAR)), TypeError, "loss_fn: gave shape"),
    (lambda: vk.audit(lambda r, *_: r.detach().sum(), (LOGITS, X, MU, LOGVAR)), ValueError, "without a gradient"),
]


@pytest.mark.parametrize("call, error, message", ERRORS)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
