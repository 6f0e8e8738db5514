"""vk.audit(step=): the share of the loss in a training step, the ceiling, the gain, and equal losses in all steps."""

import re
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vae_kernels as vk
from vae_kernels.auditing import calls, probe, steps

pytestmark = pytest.mark.usefixtures("one_thread")
B, D, L = 16, 30, 4


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(steps, "SECONDS", 0.05)
    monkeypatch.setattr(steps, "COMPARED", 10)


def by_hand(recon, x, mu, logvar):
    kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp()) / len(x)
    return F.binary_cross_entropy_with_logits(recon, x, reduction="sum") / len(x) + kl


class Training:
    """A small VAE, and its step. It counts the steps, and keeps the values of the loss."""

    def __init__(self, slow=0.0, calls=1):
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(D, 2 * L), nn.Linear(L, D)
        self.optimizer = torch.optim.SGD([*self.encoder.parameters(), *self.decoder.parameters()], 1e-3)
        self.slow, self.calls, self.values = slow, calls, []

    def example(self):
        x = torch.rand(B, D).round()
        mu, logvar = self.encoder(x).chunk(2, 1)
        return self.decoder(mu + (logvar / 2).exp() * torch.randn_like(mu)), x, mu, logvar

    def step(self, loss):
        time.sleep(self.slow)
        self.optimizer.zero_grad()
        for _ in range(self.calls):
            value = loss(*self.example())
            value.backward()
        self.optimizer.step()
        self.values.append(value.item())
        return value


def test_the_report_of_a_step():
    training = Training()
    weights = training.decoder.weight.detach().clone()
    audit = vk.audit(by_hand, training.example(), step=training.step)
    found = audit.step
    assert isinstance(found, steps.StepTimes) and found.compared == 10
    assert 0 < found.loss_us < found.step_us and 0 < found.equal_us < found.step_us
    assert found.share == found.loss_us / found.step_us
    assert found.ceiling == pytest.approx(found.step_us / (found.step_us - found.loss_us))
    assert found.gain == found.step_us / found.swapped_us
    assert found.difference < 1e-5  # float32: 30 elements and 4 latents of 16 samples
    assert len(training.values) > 10 + 2 * 5 and not torch.equal(training.decoder.weight, weights)  # it has trained
    for text in (str(audit), audit.html()):
        assert "In your training step" in text and f"{found.share:.0%} of the step" in text
        assert f"{found.ceiling:.2f}x, by Amdahl" in text and f"{found.gain:.2f}x" in text
        assert f"differ by at most {found.difference:.1g}, relative" in text


def test_a_step_that_is_not_the_loss_has_a_small_share():
    """A step that sleeps for 5 ms: the loss takes a small part of it, and no loss can gain much."""
    training = Training(slow=0.005)
    found = vk.audit(by_hand, training.example(), step=training.step).step
    assert found.step_us > 5000 and found.share < 0.4
    assert found.ceiling < 1.7 and found.ceiling == pytest.approx(1 / (1 - found.share))


@pytest.mark.full
def test_a_loss_that_takes_the_step_has_a_large_share():
    def slow(recon, x, mu, logvar):
        time.sleep(0.01)
        return by_hand(recon, x, mu, logvar)

    training = Training()
    found = vk.audit(slow, training.example(), step=training.step).step
    assert found.share > 0.5 and found.gain > 2 and found.told
    assert found.loss_us > 10_000 > found.equal_us


@pytest.mark.full
def test_each_call_of_the_loss_in_a_step_counts():
    def slow(recon, x, mu, logvar):
        time.sleep(0.004)
        return by_hand(recon, x, mu, logvar)

    training = Training(calls=3)
    found = vk.audit(slow, training.example(), step=training.step).step
    assert found.loss_us > 12_000 and found.share > 0.5


def test_a_difference_of_the_losses_is_seen():
    """The loss has another branch for the x of some steps, which the audit does not see at the example."""
    training, drawn = Training(), torch.rand(B, D).round()

    def branching(recon, x, mu, logvar):
        return by_hand(recon, x, mu, logvar) * (2.0 if x[0, 0] == 0.5 else 1.0)

    def step(loss):
        recon, _, mu, logvar = training.example()
        x = drawn.clone()
        x[0, 0] = 0.5
        loss(recon, x, mu, logvar).backward()

    found = vk.audit(branching, training.example(), step=step).step
    assert 0.4 < found.difference < 0.6
    assert "differ by at most 0.5, relative" in " ".join(f"{a} {b}" for a, b in found.rows())


@pytest.mark.full
def test_a_loss_with_a_mask_and_keywords():
    training, mask = Training(), torch.rand(B, D) > 0.3

    def masked(out, target, m, lv, mask):
        kl = -0.5 * torch.sum(1 + lv - m**2 - lv.exp()) / len(target)
        terms = F.binary_cross_entropy_with_logits(out, target, reduction="none")
        return (terms * mask).sum() / len(target) + kl

    def step(loss):
        recon, x, mu, logvar = training.example()
        loss(recon, target=x, m=mu, lv=logvar, mask=torch.rand(B, D) > 0.5).backward()

    audit = vk.audit(masked, training.example(), weight=mask, step=step)
    assert audit.step is not None and audit.step.difference < 1e-5
    assert "weight=weight" in audit.equal


@pytest.mark.full
def test_a_loss_per_sample():
    training = Training()

    def each(recon, x, mu, logvar):
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)
        return F.binary_cross_entropy_with_logits(recon, x, reduction="none").sum(1) + kl

    def step(loss):
        value = loss(*training.example())
        assert value.shape == (B,)
        value.mean().backward()

    assert vk.audit(each, training.example(), step=step).step.difference < 1e-5


def test_what_cannot_be_swapped_is_a_note():
    """A loss without an equal call, and a loss whose equal call needs a weight that the loss does not get."""
    training = Training()

    def huber(recon, x, mu, logvar):
        return F.huber_loss(recon, x) - 0.5 * torch.mean(1 + logvar - mu**2 - logvar.exp())

    def nan_is_missing(recon, x, mu, logvar):
        there = x == x
        return by_hand(torch.where(there, recon, 0.0), torch.where(there, x, 0.5), mu, logvar)

    recon, x, mu, logvar = training.example()
    mask = torch.rand(B, D) > 0.3
    holes = recon, torch.where(mask, x, torch.nan), mu, logvar
    for audit in (
        vk.audit(huber, training.example(), step=training.step),
        vk.audit(nan_is_missing, holes, weight=mask, step=training.step),
    ):
        assert audit.step is None and "In your training step" not in str(audit)
        assert any(level == "note" and "step: not measured" in sentence for level, sentence in audit.findings)
    assert training.values == []  # no step was run


def test_wrong_steps():
    example = Training().example()
    with pytest.raises(TypeError, match=r"step: got int, expected a function step\(loss\)"):
        vk.audit(by_hand, example, step=3)
    with pytest.raises(TypeError, match=r"step: got a function of \(\), expected one of the loss"):
        vk.audit(by_hand, example, step=lambda: None)
    with pytest.raises(ValueError, match=r"step: never called the loss"):
        vk.audit(by_hand, example, step=lambda loss: None)


def test_the_function_of_a_call_is_the_call():
    point = probe.point(Training().example())
    beta, call = torch.rand(L), "vk.fused_elbo(recon, x, mu, logvar, beta=beta)"
    made = calls.function((call, {"beta": beta.double()}), by_hand, point, (None, None))
    given = (point.recon[0], point.x, point.mu, point.logvar)
    assert torch.equal(made(*given), vk.fused_elbo(*given, beta=beta))
    assert calls.function(("x * weight", {}), by_hand, point, (None, None)) is None


def test_the_page_is_one_file_and_escapes_texts():
    audit = vk.audit(by_hand, Training().example())
    page = audit.html("A <loss> & more")
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert "<h1>A &lt;loss&gt; &amp; more</h1>" in page and "<loss>" not in page
    assert not re.search(r'(src|href)="(?!data:)', page) and "<script" not in page
    assert "In your training step" not in page
