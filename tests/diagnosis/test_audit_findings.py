"""vk.audit finds what is planted in a loss: clamps, noise, detached parts, meanings of the arguments. Each planted
thing has a control beside it, in which the audit does not find it."""

import math
import random
import re

import pytest
import torch
import torch.nn.functional as F
from audited import EXAMPLE, LOGVAR, MU, RECON, SOUND, G, X, kl, normal, of_kl, rec, text

import vae_kernels as vk

pytestmark = pytest.mark.usefixtures("one_thread")


# ---------------------------------------------------------------- clamps

LIMITS = [(-30.0, 20.0), (-10.0, 10.0), (-5.0, None), (None, 4.0), (-2.5, 2.5), (-0.7, 0.3)]


@pytest.mark.parametrize("low, high", LIMITS)
def test_a_clamp_of_logvar(low, high):
    audit = vk.audit(of_kl(lambda m, v: kl(m, v.clamp(low, high)).sum() / len(m)), EXAMPLE)
    where = (
        f"outside [{low:g}, {high:g}]" if None not in (low, high) else f"below {low:g}" if low else f"above {high:g}"
    )
    outside = LOGVAR.lt(low or -math.inf) | LOGVAR.gt(high or math.inf)
    level = "wrong" if outside.any() else "note"
    assert f"the loss clamps logvar: {where} logvar gets no gradient" in text(audit, level), audit
    assert (f"{outside.double().mean():.1%} of the example" in text(audit, level)) == bool(outside.any())
    assert audit.effective_beta == pytest.approx(1) and "clamp" not in audit.meant and audit.equal_error < 1e-6


def test_a_loss_without_a_clamp_has_no_bound():
    assert "clamp" not in str(vk.audit(SOUND, EXAMPLE)) and "logarithm" not in str(vk.audit(SOUND, EXAMPLE))


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-1.0, 1.0), (-300.0, 300.0)])
def test_a_clamp_of_recon(low, high):
    loss = lambda r, x, m, v: F.mse_loss(r.clamp(low, high), x, reduction="sum") / len(x) + kl(m, v).sum() / len(x)  # noqa: E731
    audit = vk.audit(loss, EXAMPLE)
    outside = RECON.lt(low) | RECON.gt(high)
    level = "wrong" if outside.any() else "note"
    assert f"the loss clamps recon: outside [{low:g}, {high:g}] recon gets no gradient" in text(audit, level), audit
    assert audit.effective_beta == pytest.approx(0.5) and audit.equal_error < 1e-6


@pytest.mark.parametrize("eps", [1e-8, 1e-7, 1e-5])
def test_an_epsilon_inside_the_logarithms(eps):
    def loss(p, x, m, v):
        return -(x * (p + eps).log() + (1 - x) * (1 - p + eps).log()).sum() / len(x) + kl(m, v).sum() / len(x)

    audit = vk.audit(loss, (RECON.sigmoid(), X, MU, LOGVAR))
    assert f"the loss adds about {eps:.1g} inside a logarithm" in text(audit, "note"), audit
    assert audit.effective_beta == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("eps", [1e-8, 1e-5])
def test_an_epsilon_beside_the_sigmoid_of_logits(eps):
    def loss(r, x, m, v):
        p = r.sigmoid()
        return -(x * (p + eps).log() + (1 - x) * (1 - p + eps).log()).sum() / len(x) + kl(m, v).sum() / len(x)

    audit = vk.audit(loss, EXAMPLE)
    assert f"the loss adds about {eps:.1g} inside a logarithm: a probability" in text(audit, "note"), audit


@pytest.mark.parametrize("eps", [1e-8, 1e-5])
def test_an_epsilon_beside_the_mean_of_counts(eps):
    def loss(r, x, m, v):
        return (r.exp() - x * (r.exp() + eps).log()).sum() / len(x) + kl(m, v).sum() / len(x)

    audit = vk.audit(loss, (RECON, (3 * X).round(), MU, LOGVAR))
    assert f"the loss adds about {eps:.1g} inside a logarithm: a mean" in text(audit, "note"), audit


@pytest.mark.parametrize("eps", [1e-6, 1e-3])
def test_clamped_probabilities(eps):
    loss = lambda p, x, m, v: F.binary_cross_entropy(p.clamp(eps, 1 - eps), x, reduction="sum") + kl(m, v).sum()  # noqa: E731
    audit = vk.audit(loss, (RECON.sigmoid(), X, MU, LOGVAR))
    assert re.search(rf"the loss clamps recon: outside \[{eps:g}, {1 - eps:.6g}\]", text(audit, "note")), audit


# ---------------------------------------------------------------- gradients that are missing

DETACHED = {
    "the KL": (of_kl(lambda m, v: (kl(m, v).sum() / len(m)).detach()), ("mu", "logvar"), "gets no gradient", 0.0),
    "a number": (of_kl(lambda m, v: kl(m, v).sum().item() / len(m)), ("mu", "logvar"), "gets no gradient", 0.0),
    "mu": (of_kl(lambda m, v: kl(m.detach(), v).sum() / len(m)), ("mu",), "gets no gradient", None),
    "logvar": (of_kl(lambda m, v: kl(m, v.detach()).sum() / len(m)), ("logvar",), "gets no gradient", None),
    "recon": (
        lambda r, x, m, v: rec(r.detach(), x) / len(x) + kl(m, v).sum() / len(x), ("recon",), "gets no gradient", None),
    "half of the reconstruction": (
        lambda r, x, m, v: (rec(r, x) + rec(r.detach(), x)) / len(x) + kl(m, v).sum() / len(x), ("recon",),
        "is not the derivative of the loss", 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", DETACHED)
def test_a_detached_part(name):
    loss, arguments, said, beta = DETACHED[name]
    audit = vk.audit(loss, EXAMPLE)
    found = {a for a in ("recon", "mu", "logvar") if re.search(rf"\b{a}\b.*{said}", text(audit, "wrong"))}
    assert [s for level, s in audit.findings if level == "wrong" and said in s] and found >= set(arguments)
    assert sum(said in sentence for _, sentence in audit.findings) == len(arguments), audit
    assert audit.effective_beta == (None if beta is None else pytest.approx(beta)) and audit.equal is None


def test_a_loss_that_computes_in_float32_is_not_detached():
    """The value of such a loss is rounded, so a difference of values with a small step is no derivative."""
    loss = lambda r, x, m, v: (rec(r.float(), x.float()) + kl(m.float(), v.float()).sum().double()) / len(x)  # noqa: E731
    audit = vk.audit(loss, EXAMPLE)
    assert not text(audit, "wrong") and audit.effective_beta == pytest.approx(1, rel=1e-4)


def test_a_parameter_that_the_loss_does_not_use():
    loss = lambda r, x, m, v: 0.5 * F.mse_loss(r[0], x, reduction="sum") + kl(m, v).sum()  # noqa: E731
    audit = vk.audit(loss, ((RECON, RECON), X, MU, LOGVAR))
    assert "recon[1] has no gradient: the loss does not use it" in text(audit, "wrong")
    assert audit.effective_beta == pytest.approx(1) and "fused_elbo(recon[0], x" in audit.meant


PARTIAL = {
    "no logvar": (lambda m, v: 0.5 * m.pow(2), "logvar has no gradient"),
    "no mu": (lambda m, v: 0.5 * (v.exp() - v), "mu has no gradient"),
    "mu is not squared": (lambda m, v: -0.5 * (1 + v - m - v.exp()), r"0.5 mu \+ 0.5 exp\(logvar\) - 0.5 logvar"),
    "no logarithm": (lambda m, v: 0.5 * (m**2 + v.exp()), r"0.5 mu\^2 \+ 0.5 exp\(logvar\), times"),
    "mu counts twice": (lambda m, v: 0.5 * (2 * m**2 + v.exp() - v), r"1 mu\^2 \+ 0.5 exp\(logvar\) - 0.5 logvar"),
}


@pytest.mark.parametrize("name", PARTIAL)
def test_a_part_of_the_kl_is_missing(name):
    f, said = PARTIAL[name]
    audit = vk.audit(of_kl(lambda m, v: f(m, v).sum() / len(m)), EXAMPLE)
    assert re.search(said, text(audit, "wrong")), audit
    assert audit.effective_beta is None


# ---------------------------------------------------------------- bends of the KL


@pytest.mark.parametrize("nats", [0.0, 0.5, 12.0, 400.0])
def test_a_capacity(nats):
    audit = vk.audit(of_kl(lambda m, v: 1000 * (kl(m, v).sum(1) - nats).abs().mean()), EXAMPLE)
    if nats:
        assert f"a capacity of {nats:g} nats: the KL of each sample" in text(audit, "note")
        assert audit.effective_beta is None
    else:
        assert "|KL - C| with a capacity C, and C is 0" in text(audit, "note")
        assert audit.effective_beta == pytest.approx(1000)
    assert not text(audit, "wrong")
    assert "capacity" not in str(vk.audit(of_kl(lambda m, v: 1000 * kl(m, v).sum(1).mean()), EXAMPLE))


def test_a_clamp_of_logvar_beside_mu_in_one_tensor_is_no_bend_of_the_kl():
    """mu and logvar are chunks of one tensor, as in diffusers, so that the clamp of logvar lies between loss and mu."""

    def posterior(m, v):
        m, v = torch.cat((m, v), 1).chunk(2, 1)
        return kl(m, v.clamp(-30.0, 20.0)).sum() / len(m)

    audit = vk.audit(of_kl(posterior), EXAMPLE)
    assert "logvar: outside [-30, 20]" in text(audit, "note") and "free bits" not in str(audit), audit
    floored = of_kl(lambda m, v: posterior(m, v).clamp(min=0))
    assert "max(KL, C) with free bits C, and C is 0" in text(vk.audit(floored, EXAMPLE), "note")


def test_a_capacity_that_no_drawn_kl_reaches():
    """Wherever a KL is drawn, the gradient is that of -1000 KL."""
    stds = (RECON, X, MU, LOGVAR.exp())
    loss = of_kl(lambda m, v: 1000 * (kl(m, v).sum(1) - 700.0).abs().mean())
    assert "a capacity of 700 nats" in text(vk.audit(loss, stds), "note")


UNITS = {
    "per_dim": lambda k, nats: k.mean(0).clamp(min=nats).sum(),
    "per_sample": lambda k, nats: k.sum(1).clamp(min=nats).mean(),
    "per_batch_mean": lambda k, nats: k.sum(1).mean().clamp(min=nats),
}


@pytest.mark.parametrize("unit, nats", [("per_dim", 1.0), ("per_dim", 20.0), ("per_sample", 0.1), ("per_sample", 1.0),
                                        ("per_batch_mean", 0.1), ("per_batch_mean", 20.0)])  # fmt: skip
def test_free_bits(unit, nats):
    """The equal call has the same unit and the same nats, and was compared near the prior and far from the prior. All
    KLs that are drawn first may be above the floor, or below the floor."""
    audit = vk.audit(of_kl(lambda m, v: 0.3 * UNITS[unit](kl(m, v), nats)), EXAMPLE)
    assert f'free_bits=vk.FreeBits({nats:g}, "{unit}"), beta=0.3' in audit.equal and audit.equal_error < 1e-6
    assert audit.effective_beta == pytest.approx(0.3) == audit.meant_beta and not text(audit, "wrong")


# ---------------------------------------------------------------- noise


def sampled(m, v, noise):
    """The KL as log q(z) - log p(z) of one sample."""
    z = m + torch.exp(v / 2) * noise(m)
    return (-((z - m) ** 2) / (2 * v.exp()) - v / 2 + z**2 / 2).sum() / len(m)


NOISES = {  # mean and standard deviation
    "normal": (torch.randn_like, 0.0, 1.0),
    "normal of 0.01": (lambda t: 0.01 * torch.randn_like(t), 0.0, 0.01),
    "uniform": (torch.rand_like, 0.5, 12**-0.5),
    "normal of 1.2": (lambda t: 1.2 * torch.randn_like(t), 0.0, 1.2),
}


@pytest.mark.parametrize("name", NOISES)
def test_the_noise_of_a_sampled_kl(name):
    noise, mean, std = NOISES[name]
    torch.manual_seed(7)
    torch.rand(3)
    state = torch.get_rng_state()
    audit = vk.audit(of_kl(lambda m, v: 2 * sampled(m, v, noise)), EXAMPLE)
    assert torch.equal(state, torch.get_rng_state())  # the audit leaves the user's generator alone
    _judged(audit, mean, std)
    assert audit.effective_beta == pytest.approx(2) == audit.meant_beta and audit.equal is None


@pytest.mark.parametrize("name", NOISES)
def test_the_noise_of_sample(name):
    noise, mean, std = NOISES[name]
    _judged(vk.audit(SOUND, EXAMPLE, sample=lambda m, v: m + torch.exp(v / 2) * noise(m)), mean, std)


def _judged(audit, mean, std):
    level = "fine" if (mean, std) == (0.0, 1.0) else "wrong"
    found = re.search(r"noise .* has the mean (\S+) and the standard deviation (\S+?),", text(audit, level))
    assert found, audit
    error = 6 / 4000**0.5  # six standard errors of a mean of 4000 samples
    assert float(found[1]) == pytest.approx(mean, abs=error) and float(found[2]) == pytest.approx(
        std, rel=error, abs=1e-3
    )
    assert (level == "wrong") == bool(text(audit, "wrong"))


SAMPLES = {
    "evaluation mode": (lambda m, v: m, "gives mu itself, without noise"),
    "exp(logvar)": (
        lambda m, v: m + v.exp() * torch.randn_like(m),
        r"deviation exp\(1 \* logvar\); in the KL it is exp\(0.5",
    ),
    "the variance": (
        lambda m, v: m + F.softplus(v) * torch.randn_like(m),
        "another standard deviation than that of the KL",
    ),
    "one noise": (lambda m, v: m + torch.exp(v / 2) * torch.randn(m.shape[1]).to(m), "the same noise"),
    "no reparameterization": (lambda m, v: torch.normal(m, torch.exp(v / 2)), "z has no gradient by logvar"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_wrong_sample(name):
    sample, said = SAMPLES[name]
    assert re.search(said, text(vk.audit(SOUND, EXAMPLE, sample=sample), "wrong"))


def test_a_right_sample():
    for sample in (vk.reparameterize, lambda m, v: torch.distributions.Normal(m, torch.exp(v / 2)).rsample()):
        audit = vk.audit(SOUND, EXAMPLE, sample=sample)
        assert not text(audit, "wrong") and "the noise of sample has the mean 0" in text(audit, "fine")
    with pytest.raises(ValueError, match="sample: gave shape"):
        vk.audit(SOUND, EXAMPLE, sample=lambda m, v: m[:, :1])
    with pytest.raises(TypeError, match="sample: gave tuple"):
        vk.audit(SOUND, EXAMPLE, sample=lambda m, v: (m, v))


def test_a_reconstruction_that_draws_noise():
    loss = lambda r, x, m, v: F.mse_loss(r, x + torch.rand_like(x), reduction="sum") + kl(m, v).sum()  # noqa: E731
    audit = vk.audit(loss, EXAMPLE)
    assert audit.effective_beta is None and "give two values" in text(audit, "note")


# ---------------------------------------------------------------- reconstructions that are no likelihood


def test_what_an_unknown_reconstruction_is():
    weight = torch.tensor(5.0)
    loss = lambda r, x, m, v: F.binary_cross_entropy_with_logits(r, x, pos_weight=weight) + kl(m, v).sum()  # noqa: E731
    assert "x = 1 has 5 times the weight of x = 0" in text(vk.audit(loss, EXAMPLE), "note")
    loss = lambda r, x, m, v: F.mse_loss(r, x) + F.l1_loss(r, x) + kl(m, v).sum()  # noqa: E731
    assert "depends on recon - x alone" in text(vk.audit(loss, EXAMPLE), "note")


def test_bytes_that_the_loss_reads_as_they_are():
    x = (X > 0).to(torch.uint8)
    audit = vk.audit(lambda r, x, m, v: rec(r, x.to(r)) + kl(m, v).sum(), (RECON, x, MU, LOGVAR))
    assert "so give it x.float()" in text(audit, "note") and "x.float()" in audit.equal and audit.equal_error < 1e-6
    sound = vk.audit(lambda r, x, m, v: rec(r, x.to(r) / 255) + kl(m, v).sum(), (RECON, 255 * x, MU, LOGVAR))
    assert "x.float()" not in str(sound) and sound.effective_beta == pytest.approx(1)


# ---------------------------------------------------------------- whatever comes

SHAPES = [((1, 5), (1, 3)), ((2, 1), (2, 1)), ((4, 2, 3, 3), (4, 2, 2, 2)), ((6,), (6, 3)), ((9, 7), (9, 9))]
ANYTHING = {
    "bernoulli": SOUND,
    "clamps": lambda r, x, m, v: F.l1_loss(r.clamp(-1, 1), x) + kl(m, v.clamp(-3, 3)).sum(),
    "no reconstruction": lambda r, x, m, v: kl(m, v).sum(),
    "no KL": lambda r, x, m, v: F.mse_loss(r, x),
    "a capacity": lambda r, x, m, v: F.mse_loss(r, x, reduction="sum") + (kl(m, v).sum() - 3).abs(),
    "free bits": lambda r, x, m, v: F.mse_loss(r, x, reduction="sum") + kl(m, v).clamp(min=0.3).sum(),
    "NaN": lambda r, x, m, v: F.mse_loss(r, x, reduction="sum") + kl(m, v).sum() * math.nan,
    "infinity": lambda r, x, m, v: F.mse_loss(r, x, reduction="sum") + v.exp().exp().exp().sum(),
    "dropout": lambda r, x, m, v: F.mse_loss(F.dropout(r), x, reduction="sum") + kl(m, v).sum(),
    "a random weight": lambda r, x, m, v: F.mse_loss(r, x, reduction="sum") * torch.rand(()) + kl(m, v).sum(),
    "minus": lambda r, x, m, v: -F.mse_loss(r, x, reduction="sum") + kl(m, v).sum(),
}


@pytest.mark.parametrize("draw", [torch.randn, torch.zeros, torch.ones, torch.rand])
@pytest.mark.parametrize("x_shape, mu_shape", SHAPES)
@pytest.mark.parametrize("name", ANYTHING)
def test_an_audit_never_fails(name, x_shape, mu_shape, draw):
    example = draw(*x_shape), torch.rand(*x_shape).round(), draw(*mu_shape), draw(*mu_shape)
    audit = vk.audit(ANYTHING[name], example)
    assert str(audit)
    if name == "bernoulli":
        assert audit.effective_beta == pytest.approx(1)
    if name == "NaN":
        assert "NaN or infinite" in text(audit, "wrong")


@pytest.mark.full
@pytest.mark.parametrize("seed", range(60))
def test_losses_with_drawn_sizes_and_weights(seed):
    """Sizes are often equal, and weights are often 1 / size. The beta is right, and no sound loss is called wrong."""
    draw = random.Random(seed)
    b, n = draw.choice([3, 8, 10, 16, 20, 32, 50]), draw.choice([2, 5, 8, 10, 16, 20, 32])
    c, h = draw.choice([(1, 4), (3, 4), (1, 8)])
    own = draw.choice([1, 0.5, 2, 4, 0.1, 0.05, 1e-3, 2.5e-4, 1e-6, 0.3333, draw.random(), 10 * draw.random()])
    means, constant, gaussian = [draw.random() < 0.3 for _ in range(2)], draw.random() < 0.3, draw.random() < 0.5
    example = (normal(b, c, h, h), torch.rand(b, c, h, h, generator=G).round(), normal(b, n), normal(b, n))

    def loss(r, x, m, v):
        terms = F.mse_loss(r, x, reduction="none") if gaussian else F.binary_cross_entropy_with_logits(
            r, x, reduction="none")  # fmt: skip
        kls = kl(m, v).mean() if means[1] else kl(m, v).sum() / (b if constant else len(x))
        return (terms.mean() if means[0] else terms.sum() / len(x)) + own * kls

    audit = vk.audit(loss, example)
    beta = own * (c * h * h if means[0] else 1) / (n if means[1] else 1) / (2 if gaussian else 1)
    assert audit.effective_beta == pytest.approx(beta)
    assert audit.meant_beta == pytest.approx(beta) or "attention: its effective beta is" in str(audit)
    if not any(means):
        assert not text(audit, "wrong"), audit
        assert not constant or "size of this batch" in str(audit)
