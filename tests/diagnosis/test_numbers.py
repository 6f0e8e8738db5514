"""The numbers of the doctor say what they are worth: models whose log p(x) and I(x; z) are known exactly."""

import math
from dataclasses import replace

import pytest
import torch
from test_diagnose import EIGENVALUES, NOISE, L, data, log_p, ppca

import vae_kernels as vk
from vae_kernels.doctor import quantities
from vae_kernels.doctor.estimates import mutual_information
from vae_kernels.doctor.grey import grey_share
from vae_kernels.doctor.marginal import TIGHT, LogP, joined, shortfall

F64 = torch.float64


pytestmark = pytest.mark.usefixtures("seeded")


def off(wider=0.0, shift=0.0):
    """The linear VAE with a posterior whose variances are e^wider of the true ones, and whose mean is off by `shift`
    true standard deviations in each latent."""
    model = ppca(NOISE, NOISE)
    with torch.no_grad():
        sigma = (NOISE / EIGENVALUES).sqrt()  # of the true posterior
        model.encoder.bias[:L] += shift * sigma
        model.encoder.bias[L:] += wider
    return model


# ---------------------------------------------------------------- log p(x)


def test_the_exact_posterior_gives_log_p_and_its_error_over_samples():
    x = data()
    p = vk.diagnose(off(), x, log_p=(256, 64)).measures.log_p
    truth = log_p(x)[:256]
    assert p.value == pytest.approx(truth.mean().item(), abs=1e-4)
    assert p.error == pytest.approx(truth.std().item() / 16, rel=1e-3) and p.sampling_error < 1e-4 < p.error
    assert not p.bound and p.effective == pytest.approx(64, rel=1e-3) and p.shortfall < 1e-6
    assert quantities.log_p(p) == f"{p.value:.2f} nats (64 of 64 draws count), +- {p.error:.2f} over 256 samples"


@pytest.mark.parametrize("wider, shift", [(1.0, 0.0), (0.5, 0.5), (-0.3, 0.3), (0.0, 2.0), (-2.0, 0.0), (-1.0, 1.5)])
@pytest.mark.parametrize("draws", [64, 256])
def test_a_value_that_is_no_bound_is_right_and_a_bound_is_below(wider, shift, draws):
    """Too wide, too narrow and off: what is not called a bound is right to 0.01 nats and 4 sampling errors."""
    x = data()
    p = vk.diagnose(off(wider, shift), x, log_p=(256, draws)).measures.log_p
    error = p.value - log_p(x)[:256].mean().item()
    assert error < 4 * p.sampling_error + 1e-4
    if not p.bound:
        assert abs(error) < 0.01 + 4 * p.sampling_error
    assert (
        p.bound == (p.shortfall > TIGHT) == quantities.log_p(p).startswith(">= ") == quantities.gap(p).startswith(">=")
    )


@pytest.mark.parametrize("wider, shift", [(0.0, 2.0), (-2.0, 0.0), (-1.0, 1.5)])
def test_few_draws_that_count_cannot_be_misread(wider, shift):
    """The value of few draws is more than 4 of its sampling errors below the truth. So the text has no sampling error:
    the value is a bound, which more draws raise, and the error is that over the samples."""
    x = data()
    few = vk.diagnose(off(wider, shift), x, log_p=(256, 16)).measures.log_p
    truth = log_p(x)[:256].mean().item()
    assert few.bound and few.effective < 8 and truth - few.value > 4 * few.sampling_error
    counting = f"({few.effective:.0f} of 16 draws count)"
    assert quantities.log_p(few) == f">= {few.value:.2f} nats {counting}, +- {few.error:.2f} over 256 samples"
    more = vk.diagnose(off(wider, shift), x, log_p=(256, 512)).measures.log_p
    assert few.value < more.value < truth + 4 * more.sampling_error and more.bound


def test_more_draws_where_few_count_and_only_there():
    x = data()
    wide, most = off(1.0), (64, 32, 512)
    fixed, more = (vk.diagnose(wide, x, log_p=counts).measures.log_p for counts in ((64, 32), most))
    assert fixed.draws == 32 and fixed.bound and more.draws == 512 and more.shortfall < fixed.shortfall / 8
    assert abs(more.value - log_p(x)[:64].mean().item()) < 4 * more.sampling_error + more.shortfall
    assert vk.diagnose(off(), x, log_p=most).measures.log_p.draws == 32  # the exact posterior needs no more


def test_draws_in_two_parts_are_joined():
    log_w = torch.randn(30, 5, dtype=F64) * 3

    def of(part):
        first, second = part.logsumexp(0), (2 * part).logsumexp(0)
        return first - math.log(len(part)), torch.exp(2 * first - second)

    value, effective = joined((*of(log_w[:12]), 12), (*of(log_w[12:]), 18))
    torch.testing.assert_close((value, effective), of(log_w), rtol=1e-12, atol=1e-12)


def test_the_shortfall_is_the_bias_of_the_logarithm():
    """Log-normal weights of a small variance: log of the mean of n weights is s^2 / (2 n) short, to leading order."""
    s, n = 0.3, 20
    log_w = s * torch.randn(n, 200_000, dtype=F64) - s * s / 2  # the mean of w is 1
    first, second = log_w.logsumexp(0), (2 * log_w).logsumexp(0)
    bias = -(first - math.log(n)).mean().item()
    found = shortfall(torch.exp(2 * first - second), torch.tensor(float(n))).mean().item()
    assert found == pytest.approx(bias, rel=0.15) and bias == pytest.approx(math.expm1(s * s) / (2 * n), rel=0.15)


def test_a_value_has_no_more_decimals_than_its_error_allows():
    p = LogP(-102.943, 2.316, 0.05, 6.0874, 0.518, 128, 256, 4.8, 0.1)
    assert quantities.log_p(p) == ">= -102.9 nats (5 of 256 draws count), +- 2.3 over 128 samples"
    assert quantities.gap(p) == ">= 6.09 +- 0.52 nats"
    errors = [(-45.0432, 0.1239), (-1234.56, 0.996), (-1234.56, 12.34), (1.0, 0.0)]
    expected = [("-45.04", "0.12"), ("-1234.6", "1.0"), ("-1235", "12"), ("1.00", "0.00")]
    assert [quantities.with_error(*pair) for pair in errors] == expected


@pytest.mark.full
def test_card_table_figure_and_terminal_say_the_same():
    pytest.importorskip("matplotlib", reason="matplotlib, which draws the report, is not installed")
    found = vk.diagnose(off(0.0, 2.0), data(), log_p=(64, 16))
    m, page = found.measures, found.html()
    texts = [quantities.log_p(m.log_p), quantities.gap(m.log_p), quantities.information(m), quantities.minus_elbo(m)]
    texts += [quantities.sigmas(m.round_trip_prior), quantities.share(m.unlike), quantities.share(m.hole_share)]
    texts += [quantities.rate(m), quantities.distortion(m), quantities.active(m)]
    shown = page.replace("&gt;", ">")
    for text in texts:
        assert text in str(found) and shown.count(text.replace("+-", "±")) >= 2, text
    assert "log p(x), at least" in page and "I(x; z) is known as a bound only" in page


def test_the_line_of_log_p_is_above_the_elbo_of_all_samples():
    """log p(x) is that of a part of the samples. Its line must not move when this part is easier than the others."""
    figures = pytest.importorskip("vae_kernels.doctor.figures", reason="matplotlib, which draws them, is not installed")
    m = vk.diagnose(off(1.0), data(), log_p=(8, 64)).measures
    for value in (m.log_p.value, m.log_p.value + 100):
        axes = figures.axes()
        figures.rate_distortion(axes, replace(m, log_p=replace(m.log_p, value=value)))
        lines = {line.get_label().split(",")[0]: line.get_ydata()[0] for line in axes.get_lines()}
        assert lines["same ELBO"] - lines["log p(x)"] == pytest.approx(m.log_p.gap, rel=1e-5)


def test_errors_over_the_samples():
    x, model = data(), off()
    m = vk.diagnose(model, x, log_p=None).measures
    noise = torch.Generator().manual_seed(0)
    nll, kl = [], []
    for part in x.split(256):
        z, of_z = vk.sample_kl(*model.encode(part), generator=noise)
        nll.append(vk.nll(model.decode(z), part, likelihood="gaussian", obs_logvar=math.log(NOISE)))
        kl.append(of_z)
    nll, kl = torch.cat(nll).double(), torch.cat(kl).double()
    errors = [each.std().item() / 32 for each in (nll, kl, nll + kl)]
    assert [m.nll_error, m.kl_error, m.elbo_error] == pytest.approx(errors, rel=1e-5)


@pytest.mark.parametrize("given, message", [((5, 8, 4), r"log_p\[2\] \(most draws\): got 4, expected an integer >= 8")])
def test_errors_of_log_p(given, message):
    with pytest.raises(ValueError, match=message):
        vk.diagnose(off(), data(), log_p=given)


# ---------------------------------------------------------------- I(x; z)


def channel(n, latents, information):
    """(estimate, its error) of a Gaussian channel with this I(x; z), whose aggregate posterior is N(0, I)."""
    noise = math.exp(-2 * information / latents)  # I = latents / 2 log(1 / noise)
    mu = torch.randn(n, latents, dtype=F64) * math.sqrt(1 - noise)
    logvar = torch.full_like(mu, math.log(noise))
    return mutual_information(mu, logvar, mu + math.sqrt(noise) * torch.randn_like(mu))


class OfInformation:
    def __init__(self, n, found):
        self.samples, (self.information, self.error) = n, found


@pytest.mark.parametrize("n", [200, 500, 1024])
@pytest.mark.parametrize("latents", [1, 5, 20])
@pytest.mark.parametrize("truth", [0.3, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 12.0])
def test_information_is_right_or_a_bound(n, latents, truth):
    m = OfInformation(n, channel(n, latents, truth))
    assert m.information < truth + 4 * m.error + 1e-9 and m.information <= math.log(n)
    text = quantities.information(m)
    if not text.startswith(">="):  # a bound says nothing of the distance
        assert abs(m.information - truth) < 4 * m.error + 0.1 and "+-" in text
    else:
        assert truth > math.log(n) - 4 and "+-" not in text


def test_the_words_at_the_limit():
    def words(n, value):
        return quantities.information(OfInformation(n, (value, 0.004)))

    assert words(500, 6.2146) == ">= 6.2 nats, the limit of 500 samples"
    assert words(500, 5.0) == ">= 5.0 nats, near 6.2, the limit of 500 samples"
    assert words(500, 3.0) == "3.00 +- 0.00 nats"
    assert words(500, -0.001) == "0.00 +- 0.00 nats" and words(500, -0.02) == "-0.02 +- 0.00 nats"
    assert words(20, 0.1) == "0.10 +- 0.00 nats" and words(20, 2.9).startswith(">= 2.9 nats, the limit")


# ---------------------------------------------------------------- grey pixels

DRAWN = torch.rand(2, 240, 1, 6, 6, generator=torch.Generator().manual_seed(0))  # the same in every process
BINARY, GREY = (DRAWN[0] > 0.5).float(), DRAWN[1]
BYTES = (BINARY * 255).to(torch.uint8)


@pytest.mark.parametrize(
    "x, likelihood, weight, expected",
    [
        (BINARY, "bernoulli", None, 0),
        (BYTES, "bernoulli", None, 0),
        (BINARY.bool(), "bernoulli", None, 0),
        (GREY, "bernoulli", None, 1),
        (BYTES // 2, "bernoulli", None, BINARY.double().mean().item()),
        (torch.where(BINARY > 0, GREY, 0), "bernoulli", BINARY > 0, 1),
        (torch.where(BINARY > 0, GREY, 0), "bernoulli", BINARY == 0, 0),
        (
            torch.where(GREY < 0.01, GREY, BINARY),
            vk.likelihoods.Bernoulli(),
            None,
            (GREY < 0.01).double().mean().item(),
        ),
        (GREY, "continuous_bernoulli", None, 0),
        (GREY, "gaussian", None, 0),
    ],
)
def test_the_share_of_grey(x, likelihood, weight, expected):
    assert grey_share(x, likelihood, weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.full
def test_grey_is_said_by_the_card_the_table_and_the_figure():
    pytest.importorskip("matplotlib", reason="matplotlib, which draws the report, is not installed")
    model = vk.mlp_vae((1, 6, 6), 2, (8,))
    one = BINARY.clone()
    one[3, 0, 2, 2] = 0.5
    for x, words in ((GREY, "100.0% of the values are grey"), (one, "under 0.1% of the values are grey"), (BINARY, "")):
        found = vk.diagnose(model, x, log_p=None)
        page = found.html()
        assert ("cross entropy" in str(found)) == bool(words) and words in found["rate and distortion"].evidence
        assert page.count("which is no log-likelihood") == (4 if words else 0)  # card, caption and its text, table
