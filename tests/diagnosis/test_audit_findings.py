"""vk.audit finds what is planted in a loss: constants that equal sizes, clamps, noise, detached parts, meanings of the
arguments. Each planted thing has a control beside it, in which the audit does not find it."""

import math
import random
import re

import pytest
import torch
import torch.nn.functional as F

import vae_kernels as vk

pytestmark = pytest.mark.usefixtures("one_thread")

G = torch.Generator().manual_seed(0)
B, L = 16, 20
CHANNELS, HEIGHT, WIDTH = 3, 6, 10
D = CHANNELS * HEIGHT * WIDTH
Z, ROWS, COLUMNS = 4, 6, 11


def normal(*shape):
    return torch.randn(*shape, generator=G)


X = torch.rand(B, CHANNELS, HEIGHT, WIDTH, generator=G).round()
RECON = normal(B, CHANNELS, HEIGHT, WIDTH)
MU, LOGVAR = normal(B, L), 0.5 * normal(B, L)
EXAMPLE = RECON, X, MU, LOGVAR
MAP = RECON, X, normal(B, Z, ROWS, COLUMNS), normal(B, Z, ROWS, COLUMNS)


def rec(r, x, how="sum"):
    return F.binary_cross_entropy_with_logits(r, x, reduction=how)


def kl(m, v):
    return 0.5 * (m**2 + v.exp() - 1 - v)


def text(audit, *levels):
    return " / ".join(sentence for at, sentence in audit.findings if at in (levels or ("wrong", "note", "fine")))


def of_kl(f):
    """A sound reconstruction beside f(mu, logvar)."""
    return lambda r, x, m, v: rec(r, x) / len(x) + f(m, v)


SOUND = of_kl(lambda m, v: kl(m, v).sum() / len(m))


# ---------------------------------------------------------------- constants that equal a size

# a constant that divides the KL -> what the audit says of the constant
SIZES = {
    "batch": (
        B,
        f"the KL is averaged over the batch and is divided by a constant, {B}, which is the size of this batch",
    ),
    "elements": (D, rf"KL divided by the {D} elements of x \(a constant of the loss\) and summed over"),
    "pixels": (HEIGHT * WIDTH, f"constant, {HEIGHT * WIDTH}, which is the size of axes 2 and 3 of x,"),
    "batch and elements": (B * D, rf"divided by the {D} elements of x \(a constant of the loss\)"),
    "latents": (Z * ROWS * COLUMNS, f"KL averaged over the {Z * ROWS * COLUMNS} latent dims by a constant"),
    "a grid of latents": (ROWS * COLUMNS, f"constant, {ROWS * COLUMNS}, which is the size of axes 2 and 3 of mu,"),
    "one latent axis": (COLUMNS, f"constant, {COLUMNS}, which is the size of axis 3 of mu,"),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_constant_that_is_a_size_is_named(name):
    number, said = SIZES[name]
    audit = vk.audit(of_kl(lambda m, v: kl(m, v).sum() / len(m) / number), MAP)
    assert re.search(said, text(audit, "wrong")), audit
    assert audit.effective_beta == pytest.approx(1 / number) and audit.meant_beta == pytest.approx(1)
    assert "attention: its effective beta is 1, and that of your loss is" in str(audit)


@pytest.mark.parametrize("number", [0.3, 7.7, 25.0])
def test_a_constant_that_is_no_size_is_a_weight(number):
    audit = vk.audit(of_kl(lambda m, v: kl(m, v).sum() / len(m) * number), MAP)
    assert not text(audit, "wrong") and "which is" not in str(audit) and "may be a size" not in str(audit)
    assert f"with a weight of {number:g}" in text(audit, "note")
    assert audit.meant_beta == pytest.approx(number) == audit.effective_beta


def test_a_round_weight_that_equals_a_size_is_no_error():
    """0.05 = 1 / 20 may be a beta that somebody chose."""
    audit = vk.audit(of_kl(lambda m, v: 0.05 * kl(m, v).sum() / len(m)), EXAMPLE)
    assert not text(audit, "wrong") and audit.meant_beta == pytest.approx(0.05)
    assert f"may be a size: 0.05 is 1 / {L}, and {L} is the number of latent dims" in text(audit, "note")


@pytest.mark.parametrize("own, chosen", [(3.0, False), (0.003, True)])
def test_a_weight_that_makes_up_for_a_mean_was_chosen(own, chosen):
    """Beside a mean over D elements, 3 times the KL is far from beta = 3. But 0.003 times the KL may be right."""
    audit = vk.audit(lambda r, x, m, v: rec(r, x, "mean") + own * kl(m, v).sum(1).mean(), EXAMPLE)
    said = f"a weight of its own, {own:g}, beside these sums and means: the effective beta is {own * D:g}"
    assert said in text(audit, "note" if chosen else "wrong"), audit
    assert audit.effective_beta == pytest.approx(own * D)
    assert audit.meant_beta == pytest.approx(own * D if chosen else own) and bool(text(audit, "wrong")) != chosen


def test_one_number_for_two_sizes_has_both_names():
    example = (RECON, X, normal(B, B), normal(B, B))
    audit = vk.audit(of_kl(lambda m, v: kl(m, v).sum() / len(m) / B), example)
    assert re.search(
        rf"averaged over the {B} latent dims by a constant \(or the size of this batch\)", text(audit, "wrong")
    )
    example = (RECON, X, normal(B, HEIGHT, 5), normal(B, HEIGHT, 5))
    audit = vk.audit(of_kl(lambda m, v: kl(m, v).sum() / len(m) / 30 / 5.5), example)  # 5.5 * 30 is no size
    assert not text(audit, "wrong") and "which is" not in str(audit)


LAST = "which is the size of this batch: right but for the last, smaller batch"
# losses whose beta is 1 in a full batch: the loss, the term that has the constant, beta
BATCH = {
    "the old loss of pytorch/examples": (
        lambda r, x, m, v: rec(r, x, "mean") + kl(m, v).sum() / (B * D), "KL", 1.0),
    "squared error over a constant": (
        lambda r, x, m, v: F.mse_loss(r, x, reduction="sum") / B + kl(m, v).sum(1).mean(), "reconstruction", 0.5),
    "a mean beside a KL over a constant, with a beta": (
        lambda r, x, m, v: rec(r, x) / len(x) + 3 * kl(m, v).sum() / B, "KL", 3.0),
    "both means, one of them by a constant": (
        lambda r, x, m, v: rec(r, x, "mean") + kl(m, v).sum() / (B * L) * L / D, "KL", 1.0),
    "an own beta beside a squared error over a constant": (
        lambda r, x, m, v: 0.5 * F.mse_loss(r, x, reduction="sum") / B + 0.01 * kl(m, v).sum(1).mean(),
        "reconstruction", 0.01),
}  # fmt: skip


@pytest.mark.parametrize("name", BATCH)
def test_a_batch_size_that_is_a_constant(name):
    """Case 08 and its variants. The beta is right in a full batch, so nothing is wrong, and the last batch is named."""
    loss, term, beta = BATCH[name]
    audit = vk.audit(loss, EXAMPLE)
    assert f"the {term} is divided by a constant, {B}, {LAST}, in which the {term}" in text(audit, "note"), audit
    assert not text(audit, "wrong") and audit.effective_beta == pytest.approx(beta)
    assert audit.meant_beta == pytest.approx(1.0 if beta == 0.5 else beta)


def test_a_batch_size_that_is_a_round_number():
    """0.1 may be a weight that somebody chose. But the other term is divided by the batch size, and this one is not."""
    few = [t[:10] for t in EXAMPLE]
    audit = vk.audit(of_kl(lambda m, v: kl(m, v).sum() / 10), few)
    assert f"the KL is divided by a constant, 10, {LAST}" in text(audit, "note"), audit
    assert audit.meant_beta == pytest.approx(1) == audit.effective_beta and not text(audit, "wrong")


IN_DOUBT = [(3.0, 10, "0.3 as 3 / 10"), (0.7182818, B, f"{0.7182818 / B:.4g} as 0.7183 / {B}")]


@pytest.mark.parametrize("beta, number, said", IN_DOUBT)
def test_a_weight_of_ones_own_over_a_batch_size_stays_in_doubt(beta, number, said):
    """No digits tell whether a weight of 0.3 is 3 over the size of the batch."""
    audit = vk.audit(of_kl(lambda m, v: beta * kl(m, v).sum() / number), [t[:number] for t in EXAMPLE])
    unless = f"unless the loss has {said}, where {number} is the size of this batch"
    assert f"beta depends on the batch size, {unless}" in text(audit, "note") and not text(audit, "wrong"), audit
    assert audit.meant_beta == pytest.approx(beta) == audit.effective_beta


def test_a_simple_weight_of_a_summed_kl_is_in_no_doubt():
    """0.3 has fewer digits than 0.3 * 16 = 4.8."""
    audit = vk.audit(of_kl(lambda m, v: 0.3 * kl(m, v).sum()), EXAMPLE)
    assert "the KL is summed over the batch: beta depends on the batch size" in text(audit, "wrong")


def test_a_third_is_no_channel():
    audit = vk.audit(of_kl(lambda m, v: 0.3333 * kl(m, v).sum() / len(m)), EXAMPLE)
    assert not text(audit, "wrong") and audit.meant_beta == pytest.approx(0.3333)


def test_the_batch_size_comes_before_another_size():
    """0.5 / 8 is 1 / 16, and x has 16 elements. But it is the division by 8, the batch, that is missing."""
    example = (normal(8, 16), normal(8, 16).sign().relu(), normal(8, 5), normal(8, 5))
    audit = vk.audit(of_kl(lambda m, v: 0.5 * kl(m, v).sum() / 8), example)
    assert "divided by a constant, 8, which is the size of this batch" in text(audit, "note"), audit
    assert audit.meant_beta == pytest.approx(0.5) and not text(audit, "wrong")


def test_a_round_batch_size_beside_a_squared_error():
    few = [t[:10] for t in EXAMPLE]
    audit = vk.audit(lambda r, x, m, v: F.mse_loss(r, x, reduction="sum") / 10 + kl(m, v).sum(1).mean(), few)
    assert f"the reconstruction is divided by a constant, 10, {LAST}" in text(audit, "note"), audit
    assert "a squared error without its 1/2, summed over" in text(audit, "note")
    assert audit.meant_beta == pytest.approx(1)


def test_a_batch_size_that_is_a_constant_beside_a_mask():
    mask = torch.rand(X.shape, generator=G) > 0.3

    def loss(r, x, m, v, mask):
        terms = F.binary_cross_entropy_with_logits(r, x, reduction="none")
        return (terms * mask).sum() / len(x) + kl(m, v).sum() / B

    audit = vk.audit(loss, EXAMPLE, weight=mask)
    assert f"the KL is divided by a constant, {B}, {LAST}" in text(audit, "note"), audit
    assert not text(audit, "wrong") and audit.meant_beta == pytest.approx(1) == audit.effective_beta


@pytest.mark.parametrize("name", BATCH)
def test_the_same_with_the_size_of_the_batch_has_no_such_note(name):
    """The control: a batch of another size as the constant, and len(x)."""
    loss = BATCH[name][0]
    other = [t[: B - 3] for t in EXAMPLE]
    assert "right but for the last" not in str(vk.audit(loss, other))
    assert "size of this batch" not in str(vk.audit(SOUND, EXAMPLE))


def test_both_terms_divided_by_the_same_constant():
    audit = vk.audit(lambda r, x, m, v: (rec(r, x) + kl(m, v).sum()) / B, EXAMPLE)
    assert f"the loss is divided by a constant, {B}, which is the size of this batch" in text(audit, "fine")
    assert {level for level, _ in audit.findings} == {"fine"}
    assert audit.meant == "vk.fused_elbo(recon, x, mu, logvar)"


POWERS = {  # the power of the batch size in the KL's weight, beside a mean -> what is said of the KL
    -1: "is multiplied by the batch size", 0: "is summed over the batch", 2: "is divided by the batch twice",
    3: "is divided by the batch size 3 times", -2: "is multiplied by the batch size 2 times",
}  # fmt: skip


@pytest.mark.parametrize("power", POWERS)
def test_each_power_of_the_batch_size_is_spelled_out(power):
    audit = vk.audit(of_kl(lambda m, v: kl(m, v).sum() * float(len(m)) ** -power), EXAMPLE)
    assert f"the KL {POWERS[power]}" in text(audit, "wrong") and "B^" not in str(audit)
    assert audit.effective_beta == pytest.approx(B ** (1 - power))


@pytest.mark.parametrize("averaged", [(1,), (2,), (3,), (1, 3), (2, 3)])
@pytest.mark.parametrize("of", ["x", "mu"])
def test_partial_means_are_named_by_axis(of, averaged):
    summed = tuple(k for k in (1, 2, 3) if k not in averaged)

    def partial(t):
        return t.mean(averaged, keepdim=True).sum(summed).mean()

    def loss(r, x, m, v):
        terms = F.binary_cross_entropy_with_logits(r, x, reduction="none")
        return partial(terms) + kl(m, v).sum() / len(x) if of == "x" else terms.sum() / len(x) + partial(kl(m, v))

    audit = vk.audit(loss, MAP)
    shape = (X if of == "x" else MAP[2]).shape
    size = math.prod(shape[k] for k in averaged)
    where = [
        f"{'axis' if len(axes) == 1 else 'axes'} {' and '.join(map(str, axes))} of {of} "
        f"({' x '.join(str(shape[k]) for k in axes)})"
        for axes in (summed, averaged)
    ]
    assert f"summed over {where[0]} and averaged over {where[1]}" in text(audit, "wrong"), audit
    assert audit.effective_beta == pytest.approx(size if of == "x" else 1 / size)


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
