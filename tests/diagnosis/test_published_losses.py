"""vk.audit of losses in the forms that people publish, written anew here. The effective beta of each follows on paper
from the sizes, and the audit says "wrong" only where something is wrong.

Each form names where it is seen. The effective beta is the KL's weight over that of the nll, both summed over a sample.
"""

import functools
import math
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tiers import every
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

import vae_kernels as vk

pytestmark = pytest.mark.usefixtures("one_thread")

B, L = 12, 7
C, H, W = 3, 4, 10
D = C * H * W
T, WORDS = 9, 11  # tokens
Z, GRID = 6, (5, 3)  # the channels and the grid of a latent map
G = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=G)


X = torch.rand(B, C, H, W, generator=G)
COUNTS = torch.poisson(torch.full((B, D), 3.0), generator=G)
VECTOR = normal(B, L), normal(B, L)
MAP = normal(B, Z, *GRID), normal(B, Z, *GRID)
IMAGES = (normal(B, C, H, W), X.round(), *VECTOR)
SOFT = (normal(B, C, H, W), X, *VECTOR)
SIGNED = (normal(B, C, H, W), 2 * X - 1, *VECTOR)
PROBABILITIES = (torch.sigmoid(normal(B, C, H, W)), X.round(), *VECTOR)
ROWS = (normal(B, D), X.round(), *VECTOR)
MAPS = (normal(B, C, H, W), X, *MAP)
STDS = (normal(B, C, H, W), X, VECTOR[0], VECTOR[1].exp())
TWO = ((normal(B, C, H, W), normal(B, C, H, W).exp()), X, *VECTOR)
TOKENS = (normal(B, WORDS, T), torch.randint(0, WORDS, (B, T), generator=G), *VECTOR)
GENES = (normal(B, D), COUNTS, *VECTOR)
MEANS = ((normal(B, D).exp(), normal(B, D).exp()), COUNTS, *VECTOR)
BETA, COEFFICIENT = 4.0, 0.00025


def bce(r, x, how="sum"):
    return F.binary_cross_entropy_with_logits(r, x, reduction=how)


def mse(r, x, how="sum"):
    return F.mse_loss(r, x, reduction=how)


def kld(m, v):
    """The six lines' KL, of each latent."""
    return -0.5 * (1 + v - m.pow(2) - v.exp())


def kl_mean(m, v):
    return kld(m, v).flatten(1).sum(1).mean()


def std(v):
    return torch.exp(0.5 * v)


def distributions_kl(m, v):
    return kl_divergence(Normal(m, std(v)), Normal(torch.zeros_like(m), torch.ones_like(v)))


def softplus_kl(m, rho):
    return kl_divergence(Normal(m, F.softplus(rho)), Normal(0.0, 1.0)).sum(1).mean()


def cyclic(step, period=100, ratio=0.5):
    return min(1.0, (step % period) / (period * ratio))


def scvi_like(recon, x, m, v):
    mean, theta = recon
    log_sum = torch.log(theta + mean)
    log_p = theta * (theta.log() - log_sum) + x * (mean.log() - log_sum)
    log_p = log_p + torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    return (-log_p.sum(1) + distributions_kl(m, v).sum(1)).mean()


def form(loss, beta, example=SOFT, said="", level="fine", meant=1.0):
    """level: of the sentence `said`; "wrong" if and only if something is wrong. meant: the effective beta of the call
    that is meant."""
    return SimpleNamespace(**locals())


FORMS = {
    # pytorch/examples, and the tutorials that copy it
    "pytorch/examples": form(
        lambda r, x, m, v: F.binary_cross_entropy(r.flatten(1), x.flatten(1), reduction="sum") + kld(m, v).sum(), 1,
        PROBABILITIES, "the loss is summed over the batch", "note"),
    "pytorch/examples of 2017": form(
        lambda r, x, m, v: F.binary_cross_entropy(r, x) + kld(m, v).sum() / (B * D), 1, PROBABILITIES,
        rf"KL is divided by a constant, {B}, which is the size of this batch: right but for the last, smaller", "note"),
    "the same with len(x)": form(
        lambda r, x, m, v: F.binary_cross_entropy(r, x) + kld(m, v).sum() / (len(x) * D), 1, PROBABILITIES,
        rf"averaged over the {D} elements; KL divided by the {D} elements of x \(a constant"),
    "the same without the division": form(
        lambda r, x, m, v: bce(r, x, "mean") + kld(m, v).sum(), B * D, IMAGES,
        "reconstruction is averaged over the batch and the KL is summed over the batch: beta depends", "wrong"),
    "a conditional VAE of a blog": form(
        lambda r, x, m, v: bce(r.view(-1, D), x.view(-1, D)) / len(x) + kld(m, v).sum() / len(x), 1, IMAGES,
        f"summed over the {D} elements"),
    "a Kaggle notebook, times the pixels": form(
        lambda r, x, m, v: bce(r, x, "mean") * D + kl_mean(m, v), 1, IMAGES,
        f"averaged over the {D} elements and multiplied by a constant, {D}, which is the number of elements of x"),
    "the batch size of a config": form(
        lambda r, x, m, v: (mse(r, x) + kld(m, v).sum()) / B, 1 / 2, SOFT,
        f"divided by a constant, {B}, which is the size of this batch: a last, smaller batch has a smaller loss"),
    "squared error over the batch size of a config": form(
        lambda r, x, m, v: mse(r, x) / B + kl_mean(m, v), 1 / 2, SOFT,
        f"reconstruction is divided by a constant, {B}, which is the size of this batch: right but", "note"),
    # Keras ports
    "Keras": form(
        lambda r, x, m, v: (D * bce(r, x, "none").flatten(1).mean(1) + kld(m, v).sum(1)).mean(), 1, IMAGES,
        f"averaged over the {D} elements and multiplied by a constant, {D}, which is"),
    "Keras with K.mean": form(
        lambda r, x, m, v: (D * bce(r, x, "none").flatten(1).mean(1) + kld(m, v).mean(1)).mean(), 1 / L, IMAGES,
        f"KL averaged over the {L} latent dims", "wrong"),
    "Keras, summed over height and width": form(
        lambda r, x, m, v: bce(r, x, "none").sum((2, 3)).mean() + kl_mean(m, v), C, IMAGES,
        rf"summed over axes 2 and 3 of x \({H} x {W}\) and averaged over axis 1 of x \({C}\)", "wrong"),
    # pythae
    "pythae, squared error": form(
        lambda r, x, m, v: (0.5 * mse(r.flatten(1), x.flatten(1), "none").sum(-1) + kld(m, v).sum(-1)).mean(), 1),
    "pythae, before the 0.5": form(
        lambda r, x, m, v: (mse(r.flatten(1), x.flatten(1), "none").sum(-1) + kld(m, v).sum(-1)).mean(), 1 / 2, SOFT,
        "a squared error without its 1/2", "note"),
    "pythae, beta-VAE": form(
        lambda r, x, m, v: (bce(r.flatten(1), x.flatten(1), "none").sum(-1) + BETA * kld(m, v).sum(-1)).mean(), BETA,
        IMAGES, f"with a weight of {BETA:g}", "note", meant=BETA),
    # lightning-bolts
    "lightning-bolts": form(
        lambda r, x, m, v: mse(r, x, "mean") + 0.1 * distributions_kl(m, v).mean(), 0.1 * D / (2 * L), SOFT,
        "a weight of its own, 0.1, beside these sums and means", "note", meant=0.1 * D / (2 * L)),
    # AntixK/PyTorch-VAE
    "PyTorch-VAE, kld_weight": form(
        lambda r, x, m, v: mse(r, x, "mean") + COEFFICIENT * kl_mean(m, v), COEFFICIENT * D / 2, SOFT,
        "a weight of its own, 0.00025", "note", meant=COEFFICIENT * D / 2),
    "PyTorch-VAE, beta-VAE": form(
        lambda r, x, m, v: mse(r, x, "mean") + BETA * COEFFICIENT * kl_mean(m, v), BETA * COEFFICIENT * D / 2, SOFT,
        "beside these sums and means", "note", meant=BETA * COEFFICIENT * D / 2),
    "PyTorch-VAE, M_N of the batch size": form(
        lambda r, x, m, v: mse(r, x, "mean") + len(x) / 50000 * kl_mean(m, v), B / 50000 * D / 2, SOFT,
        "beta depends on the batch size", "wrong", meant=B / 50000 * D / 2),
    # disentanglement_lib ports
    "disentanglement_lib": form(
        lambda r, x, m, v: bce(r, x, "none").sum((1, 2, 3)).mean() + 16 * kl_mean(m, v), 16, IMAGES,
        "with a weight of 16", "note", meant=16),
    # autoencoders of latent diffusion
    "latent diffusion": form(
        lambda r, x, m, v: (r - x).abs().sum() / len(x) + 1e-6 * kld(m, v).sum() / len(x), 1e-6, MAPS,
        "with a weight of 1e-06", "note", meant=1e-6),
    "latent diffusion, with logvar": form(
        lambda r, x, m, v: ((r - x).abs() / math.exp(0.5) + 0.5).sum() / len(x) + 1e-6 * kld(m, v).sum() / len(x), 1e-6,
        MAPS, "scale is inside the loss", meant=1e-6),
    "fine-tuning with means": form(
        lambda r, x, m, v: mse(r, x, "mean") + 1e-6 * kld(m, v).sum((1, 2, 3)).mean(), 1e-6 * D / 2, MAPS,
        "a weight of its own, 1e-06", "note", meant=1e-6 * D / 2),
    "the KL's channels summed, its grid averaged": form(
        lambda r, x, m, v: bce(r, x) / len(x) + kld(m, v).sum(1).mean(), 1 / math.prod(GRID), MAPS,
        rf"KL summed over axis 1 of mu \({Z}\) and averaged over axes 2 and 3 of mu \({GRID[0]} x {GRID[1]}\)",
        "wrong"),
    "the clamp of diffusers": form(
        lambda r, x, m, v: mse(r, x) / 2 / len(x) + kld(m, v.clamp(-30.0, 20.0)).sum() / len(x), 1, MAPS,
        r"the loss clamps logvar: outside \[-30, 20\] logvar gets no gradient. No value", "note"),
    # forms of Medium and Stack Overflow
    "everything averaged": form(
        lambda r, x, m, v: mse(r, x, "mean") + kld(m, v).mean(), D / (2 * L), SOFT,
        f"averaged over the {D} elements; KL averaged over the {L} latent dims", "wrong"),
    "a mean, times a thousand": form(
        lambda r, x, m, v: 1000 * mse(r, x, "mean") + kl_mean(m, v), D / 2000, SOFT,
        "beside these sums and means", "note", meant=D / 2000),
    "the KL averaged over the wrong axis": form(
        lambda r, x, m, v: bce(r, x) / len(x) + kld(m, v).sum(0).mean(), B / L, IMAGES,
        "KL is summed over the batch", "wrong"),
    "the KL without its half": form(
        lambda r, x, m, v: (bce(r, x) - (1 + v - m**2 - v.exp()).sum()) / len(x), 2, IMAGES,
        "a KL has whose factor 1/2 was forgotten", "note", meant=2),
    "both without their halves": form(
        lambda r, x, m, v: (mse(r, x) - (1 + v - m**2 - v.exp()).sum()) / len(x), 1, SOFT,
        "both terms lack their factor 1/2"),
    "the KL without its 1": form(
        lambda r, x, m, v: (bce(r, x) + 0.5 * (m**2 + v.exp() - v).sum()) / len(x), 1, IMAGES,
        "the -1/2 of each latent dimension's KL is left out", "note"),
    "minus": form(lambda r, x, m, v: (bce(r, x) - kld(m, v).sum()) / len(x), -1, IMAGES, "wrong sign", "wrong"),
    "divided by the latents": form(
        lambda r, x, m, v: bce(r, x) / len(x) + kl_mean(m, v) / m.shape[1], 1 / L, IMAGES,
        f"averaged over the {L} latent dims", "wrong"),
    "L1": form(lambda r, x, m, v: F.l1_loss(r, x, reduction="sum") / len(x) + kl_mean(m, v), 1),
    "L1, averaged": form(lambda r, x, m, v: F.l1_loss(r, x) + kl_mean(m, v), D, SOFT, "averaged over the", "wrong"),
    # schedules, at one step
    "cyclic beta": form(
        lambda r, x, m, v: bce(r, x) / len(x) + cyclic(130) * kl_mean(m, v), cyclic(130),
        IMAGES, "with a weight of 0.6",
        "note", meant=cyclic(130)),
    "a warm-up at step 0": form(
        lambda r, x, m, v: bce(r, x) / len(x) + 0.0 * kl_mean(m, v), 0,
        IMAGES, "the weight of the KL is 0 at this call",
        "note"),
    "free bits of each latent": form(
        lambda r, x, m, v: bce(r, x) / len(x) + kld(m, v).clamp(min=0.25).sum(1).mean(), 1, IMAGES,
        "free bits of 0.25 nats: the KL of each latent dim of each sample", "note", meant=None),
    "free bits of inverse autoregressive flows": form(
        lambda r, x, m, v: bce(r, x) / len(x) + kld(m, v).mean(0).clamp(min=0.5).sum(), 1, IMAGES,
        "free bits of 0.5 nats: the mean KL of each latent dim over the batch", "note"),
    "free bits of DreamerV2": form(
        lambda r, x, m, v: bce(r, x) / len(x) + 0.1 * torch.clamp(kl_mean(m, v), min=3.0), 0.1, IMAGES,
        "free bits of 3 nats: the mean KL of the batch", "note", meant=0.1),
    "free bits of MusicVAE": form(
        lambda r, x, m, v: (bce(r, x, "none").flatten(1).sum(1) + 0.2 * F.relu(kld(m, v).sum(1) - 2.0)).mean(), 0.2,
        IMAGES, "free bits of 2 nats: the KL of each sample", "note", meant=0.2),
    # other meanings of the encoder's output
    "log sigma": form(
        lambda r, x, m, v: bce(r, x) / len(x) + (0.5 * (m**2 + (2 * v).exp() - 1) - v).sum(1).mean(), 1, IMAGES,
        "logvar is read as log sigma", "note"),
    "the softplus of the standard deviation": form(
        lambda r, x, m, v: bce(r, x) / len(x) + softplus_kl(m, v), 1, IMAGES,
        "the softplus of logvar is read as the standard deviation", "note"),
    "standard deviations": form(
        lambda r, x, m, v: bce(r, x) / len(x) + kl_divergence(Normal(m, v), Normal(0.0, 1.0)).sum(1).mean(), 1, STDS,
        "logvar is read as the standard deviation", "note"),
    "variances": form(
        lambda r, x, m, v: bce(r, x) / len(x) + 0.5 * (m**2 + v - 1 - v.log()).sum(1).mean(), 1, STDS,
        "logvar is read as the variance itself", "note"),
    "another prior": form(
        lambda r, x, m, v: bce(r, x) / len(x) + kl_divergence(Normal(m, std(v)), Normal(1.0, 2.0)).sum(1).mean(), 1,
        IMAGES, r"the prior is N\(1, 4\)", "note"),
    # torch.distributions, and the losses of torch.nn
    "Independent": form(
        lambda r, x, m, v: (-Independent(Bernoulli(logits=r), 3).log_prob(x) + distributions_kl(m, v).sum(1)).mean(), 1,
        IMAGES),
    "kl_divergence, averaged": form(
        lambda r, x, m, v: -Independent(Bernoulli(logits=r), 3).log_prob(x).mean() + distributions_kl(m, v).mean(),
        1 / L, IMAGES, f"KL averaged over the {L} latent dims", "wrong"),
    "a Normal of standard deviation 0.1": form(
        lambda r, x, m, v: (-Normal(r, 0.1).log_prob(x).flatten(1).sum(1) + distributions_kl(m, v).sum(1)).mean(),
        1, SOFT,
        "variance is inside the loss"),
    "gaussian_nll_loss": form(
        lambda r, x, m, v: F.gaussian_nll_loss(r[0], x, r[1], full=True, reduction="sum") / len(x) + kl_mean(m, v), 1,
        TWO, r"recon\[1\] is read as the variance itself", "note"),
    "gaussian_nll_loss, averaged": form(
        lambda r, x, m, v: F.gaussian_nll_loss(r[0], x, r[1]) + kl_mean(m, v), D, TWO, f"averaged over the {D}",
        "wrong"),
    "poisson_nll_loss": form(
        lambda r, x, m, v: F.poisson_nll_loss(r, x, reduction="sum") / len(x) + kl_mean(m, v), 1, GENES,
        r"the log\(x!\) of each count is left out", "note"),
    "a negative binomial of means, as scvi-tools has it": form(
        scvi_like, 1, MEANS, r"recon\[1\] is read as the inverse dispersion itself", "note"),
    "text, averaged over the tokens": form(
        lambda r, x, m, v: F.cross_entropy(r, x) + kl_mean(m, v), T, TOKENS, f"averaged over the {T} elements",
        "wrong"),
    "text, soft-max before cross_entropy": form(
        lambda r, x, m, v: F.cross_entropy(r.softmax(1), x, reduction="sum") / len(x) + kl_mean(m, v), 1, TOKENS,
        "takes the soft-max of recon, and then reads the result as logits", "wrong"),
    # what the loss does with recon and x
    "a sigmoid inside": form(
        lambda r, x, m, v: 0.5 * mse(torch.sigmoid(r), x) / len(x) + kl_mean(m, v), 1, SOFT,
        "the loss takes the sigmoid of recon"),
    "a tanh inside": form(
        lambda r, x, m, v: 0.5 * mse(torch.tanh(r), x) / len(x) + kl_mean(m, v), 1, SIGNED,
        "the loss takes the tanh of recon"),
    "two sigmoids": form(
        lambda r, x, m, v: bce(torch.sigmoid(r), x) / len(x) + kl_mean(m, v), 1, IMAGES,
        "takes the sigmoid of recon, and then reads the result as logits", "wrong"),
    "x is made binary": form(
        lambda r, x, m, v: bce(r, (x > 0.5).to(r)) / len(x) + kl_mean(m, v), 1, SOFT, "the loss rounds x"),
    "x from [-1, 1]": form(
        lambda r, x, m, v: bce(r, (x + 1) / 2) / len(x) + kl_mean(m, v), 1,
        SIGNED, r"moves x from \[-1, 1\] to \[0, 1\]"),
    "recon clamped to [0, 1]": form(
        lambda r, x, m, v: 0.5 * mse(r.clamp(0, 1), x) / len(x) + kl_mean(m, v), 1, SOFT,
        r"the loss clamps recon: outside \[0, 1\]", "wrong"),
    "an epsilon in the logarithms": form(
        lambda r, x, m, v: -(x * (r + 1e-7).log() + (1 - x) * (1 - r + 1e-7).log()).sum() / len(x) + kl_mean(m, v), 1,
        PROBABILITIES, "adds about 1e-07 inside a logarithm", "note"),
    "a row of x as an image": form(
        lambda r, x, m, v: bce(r, x.view(-1, D), "mean") + kl_mean(m, v), D, ROWS, f"averaged over the {D} elements",
        "wrong"),
}  # fmt: skip

# forms without one effective beta
BENT = {
    "a capacity, as in PyTorch-VAE": form(
        lambda r, x, m, v: mse(r, x, "mean") + 10 * (kl_mean(m, v) - 5.0).abs(), None, SOFT,
        rf"a capacity of 5 nats: the mean KL of the batch .* effective beta is {5 * D}, below it -{5 * D}", "note"),
    "a capacity of each sample": form(
        lambda r, x, m, v: (bce(r, x, "none").flatten(1).sum(1) + 30 * (kld(m, v).sum(1) - 4.0).abs()).mean(), None,
        IMAGES, "a capacity of 4 nats: the KL of each sample .* is 30, below it -30", "note"),
    "kl_div of the codes": form(
        lambda r, x, m, v: bce(r, x) + F.kl_div(F.log_softmax(m, 1), F.softmax(0 * m, 1), reduction="sum"),
        None, IMAGES, "logvar has no gradient", "wrong"),
    "only mu is penalised": form(
        lambda r, x, m, v: bce(r, x) / len(x) + 0.5 * m.pow(2).sum(1).mean(), None, IMAGES, "logvar has no gradient",
        "wrong"),
    "exp was forgotten": form(
        lambda r, x, m, v: bce(r, x) - 0.5 * (1 + v - m.pow(2) - v).sum(), None, IMAGES, "logvar has no gradient",
        "wrong"),
    "a squared error's optimal variance": form(
        lambda r, x, m, v: 0.5 * D * mse(r, x, "mean").log() + kl_mean(m, v), None, SOFT, "changes from point to point",
        "wrong"),
    "Huber": form(
        lambda r, x, m, v: F.smooth_l1_loss(r, x, reduction="sum") + kld(m, v).sum(), None, SOFT,
        "the gradient of recon is not that of a known likelihood", "wrong"),
}  # fmt: skip
ALL = FORMS | BENT


@functools.cache
def run(name):
    return vk.audit(ALL[name].loss, ALL[name].example)


def text(audit, level):
    return " / ".join(sentence for at, sentence in audit.findings if at == level)


@pytest.mark.parametrize("name", every(4, FORMS))
def test_the_effective_beta(name):
    assert run(name).effective_beta == pytest.approx(FORMS[name].beta, rel=5e-3)


@pytest.mark.parametrize("name", BENT)
def test_a_form_without_one_effective_beta(name):
    assert run(name).effective_beta is None and run(name).equal is None


@pytest.mark.parametrize("name", every(4, ALL))
def test_what_is_said(name):
    """The sentence is there, and "wrong" stands there only if something is wrong."""
    assert re.search(ALL[name].said, text(run(name), ALL[name].level)), run(name)
    assert (ALL[name].level == "wrong") == bool(text(run(name), "wrong")), run(name)


@pytest.mark.parametrize("name", every(4, FORMS))
def test_the_call_that_is_meant(name):
    """It has the effective beta that is meant. If this beta is another than that of the loss, the report says both."""
    audit, meant = run(name), FORMS[name].meant
    if meant is None:
        assert audit.meant is None
        return
    assert audit.meant_beta == pytest.approx(meant, rel=5e-3)
    if audit.meant_beta != pytest.approx(audit.effective_beta, rel=5e-3):
        assert re.search("attention: its effective beta is .*, and that of your loss is", str(audit))


@pytest.mark.parametrize("name", every(4, FORMS))
def test_the_equal_call_was_compared(name):
    audit = run(name)
    assert audit.equal is None or audit.equal_error < 1e-3
    assert (audit.equal is None) == (name == "free bits of each latent")  # fused_elbo does not have this unit
