"""vk.audit names a constant that equals a size, and an axis that a mean runs over. Each has a control beside it, in
which the audit names nothing."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from audited import (
    COLUMNS,
    EXAMPLE,
    HEIGHT,
    MAP,
    RECON,
    ROWS,
    SOUND,
    WIDTH,
    B,
    D,
    G,
    L,
    X,
    Z,
    kl,
    normal,
    of_kl,
    rec,
    text,
)

import vae_kernels as vk

pytestmark = pytest.mark.usefixtures("one_thread")


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
