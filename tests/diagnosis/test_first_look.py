"""The doctor looks first: at numbers that are not finite, at the support of x, at the decoder's range, at scales."""

import math
import re
from functools import partial

import pytest
import torch
from torch import nn

import vae_kernels as vk

D, L, N = 12, 2, 64
diagnose = partial(vk.diagnose, log_p=None)


pytestmark = pytest.mark.usefixtures("seeded")


def linear(likelihood="bernoulli", last=(), outputs=1, wide=20.0, **settings):
    """A VAE whose decoder is linear up to the modules of `last`; its outputs are large."""
    decoder = nn.Sequential(nn.Linear(L, outputs * D), *last)
    decoder[0].weight.data *= wide
    return vk.VAE(nn.Linear(D, 2 * L), decoder, likelihood=likelihood, latent_shape=L, **settings)


def bits(n=N):
    return torch.rand(n, D).round()


# ---------------------------------------------------------------- numbers that are not finite


def broken(what):
    """(model, data) with a number that is not finite in this place."""
    model, x = linear(), bits()
    if what == "a weight":
        model.encoder.weight.data[1, 5] = math.nan
    elif what == "a bias of the decoder":
        model.decoder[0].bias.data[:2] = torch.tensor([math.inf, math.nan])
    elif what == "a buffer":
        model.decoder.append(nn.BatchNorm1d(D))
        model.decoder[-1].running_var[3] = math.inf
    elif what == "a trained variance":
        model = linear("gaussian", obs_logvar=nn.Parameter(torch.tensor(-math.inf)))
    elif what == "a prior":
        model = linear(prior=(nn.Parameter(torch.tensor([0.0, math.nan])), nn.Parameter(torch.zeros(2))))
    elif what == "a logvar of 3000":
        model.encoder.bias.data[L + 1] = 3000.0
    elif what == "mu overflows":
        model.encoder.weight.data[1] = 3e38
        x = torch.cat([torch.zeros(40, D), torch.ones(24, D)])
    elif what == "the decoder divides by 0":
        model.decoder.append(Reciprocal())
    return model, x


class Reciprocal(nn.Module):
    def forward(self, h):
        return h / torch.arange(-4.0, D - 4)


BROKEN = {
    "a weight": "1 of the 48 elements of the parameter encoder.weight are not finite: nan",
    "a bias of the decoder": "2 of the 12 elements of the parameter decoder.0.bias are not finite: nan and inf",
    "a buffer": "1 of the 12 elements of the buffer decoder.1.running_var are not finite: inf",
    "a trained variance": "1 of the 1 elements of the parameter obs_logvar are not finite: -inf",
    "a prior": "1 of the 2 elements of the parameter prior_mu are not finite: nan",
    "a logvar of 3000": "the KL of sample 0 is inf; 100.0% of its batch is not finite; logvar is between -",
    "mu overflows": "mu of latent 1 of sample 40 is inf",
    "the decoder divides by 0": "the decoder's logits 4 of sample 0 is ",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_not_finite_is_named(what):
    model, x = broken(what)
    found = diagnose(model, x)
    assert found.level == "ill" and not found.finite
    assert found.verdicts[0].symptom == "not finite" and found.verdicts[0].evidence.startswith(BROKEN[what]), found
    assert [v.symptom for v in found.verdicts] == ["not finite", "data", "effective beta"]
    assert str(found).startswith("ill: 64 samples\n") and "nan samples" not in str(found)
    for name in ("measures", "views"):
        with pytest.raises(ValueError, match=f"{name}: there are none, as the model is not finite"):
            getattr(found, name)
    with pytest.raises(ValueError, match="not finite"):
        found.html()


def test_the_sample_is_counted_over_the_batches():
    model, x = broken("mu overflows")
    assert diagnose(model, x, batch_size=9)["not finite"].evidence.startswith("mu of latent 1 of sample 40 is inf")


def test_since_when_it_is_not_finite():
    model, x = broken("a weight")
    since = [diagnose(model, x, history=h)["not finite"].evidence for h in ([3.0, math.nan, math.nan], [3.0, 2.0])]
    assert since[0].endswith("the loss is not finite since epoch 2")
    assert since[1].endswith("the loss was finite after each epoch")


def test_the_place_of_a_nan_in_the_data():
    x = torch.rand(8, 3, 4)
    x[3, 1, 2] = x[5, 0, 0] = math.nan
    model = vk.VAE(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), nn.Linear(2, 12), latent_shape=2)
    with pytest.raises(ValueError, match=r"data: got 2 elements .* the first at sample 3, place \(1, 2\); if"):
        diagnose(model, x)


# ---------------------------------------------------------------- x under this likelihood

UNFIT = {  # likelihood, x, words of the evidence, words of the advice
    "images on [-1, 1]": ("bernoulli", torch.linspace(-1, 1, N * D), "49.9|50.0|50.1", r"\(x \+ 1\) / 2"),
    "normalised images": ("bernoulli", torch.linspace(-2.1, 2.6, N * D), "below the support, .* above", "Gaussian"),
    "images up to 255": ("continuous_bernoulli", torch.arange(N * D).float() % 256, "above the support", "by 255"),
    "int64 up to 255": ("bernoulli", torch.arange(N * D) % 256, "above the support", "by 255"),
    "levels of 1/256 up to 2": ("discretized_logistic", torch.linspace(0, 2, N * D), "above the support", "Gaussian"),
    "log1p of counts": ("poisson", torch.arange(N * D).float().fmod(9).log1p(), "are no integers", "without a log"),
    "counts for 10,000": ("negative_binomial", torch.rand(N * D) * 30, "are no integers", "without a log"),
    "counts less their mean": ("poisson", torch.arange(N * D).float() % 9 - 4, "44.* below the support", "counted"),
    "a level of -100": ("categorical", torch.arange(N * D) % 5 - 100, "100.00% are below", "mask"),
    "more levels than logits": ("categorical", torch.arange(N * D) % 7, "28.* above the support", "0 to K - 1"),
    "bytes of bits": ("bernoulli", (torch.arange(N * D) % 2).byte(), "between 0 and 0.0039", r"x.bool\(\)"),
}


OUTPUTS = {"negative_binomial": 2, "zinb": 3, "discretized_logistic": 2}


def model_for(likelihood):
    if likelihood == "categorical":
        decoder = nn.Sequential(nn.Linear(L, 5 * D), nn.Unflatten(1, (5, D)))
        return vk.VAE(nn.Linear(D, 2 * L), decoder, likelihood=likelihood, latent_shape=L)
    return vk.mlp_vae((D,), L, (8,), likelihood, outputs=OUTPUTS.get(likelihood, 1))


@pytest.mark.parametrize("case", UNFIT)
def test_x_outside_the_support(case):
    likelihood, x, evidence, advice = UNFIT[case]
    found = diagnose(model_for(likelihood), x.view(N, D))
    verdict = found["data"]
    assert found.level == verdict.level == "ill"
    assert re.search(evidence, verdict.evidence) and re.search(advice, verdict.advice), verdict
    if found.finite:  # a level without logits has a nll of NaN
        others = [v for v in found.verdicts if v.symptom not in ("data", "decoder output", "effective beta")]
        assert others and all(v.level == "watch" and v.evidence.startswith("not judged") for v in others)
        assert found.change == {}


FIT = {
    "bytes": ("bernoulli", (torch.arange(N * D) % 256).byte()),
    "bool": ("bernoulli", torch.arange(N * D) % 2 == 0),
    "bits as float": ("bernoulli", (torch.arange(N * D) % 2).float()),
    "black images": ("bernoulli", torch.zeros(N * D, dtype=torch.uint8)),
    "the ends": ("continuous_bernoulli", torch.linspace(0, 1, N * D)),
    "bytes as counts": ("poisson", (torch.arange(N * D) % 2).byte()),
    "counts as float": ("zinb", torch.arange(N * D).float() % 9),
    "levels": ("categorical", torch.arange(N * D) % 5),
    "the line": ("laplace", torch.randn(N * D)),
}


@pytest.mark.parametrize("case", FIT)
def test_x_inside_the_support(case):
    likelihood, x = FIT[case]
    verdict = diagnose(model_for(likelihood), x.view(N, D))["data"]
    assert verdict.level == "healthy" and not verdict.cause, verdict


def test_bytes_of_four_bits():
    x = (torch.arange(N * D) % 17).byte().view(N, D)  # as scikit-learn's digits are
    verdict = diagnose(linear(), x)["data"]
    assert verdict.level == "watch" and "at most 16, but is read as x/255" in verdict.cause
    assert "x / 16" in verdict.advice
    assert diagnose(linear(), (x * 15).byte())["data"].level == "healthy"
    assert diagnose(linear("poisson"), x)["data"].level == "healthy"


def test_what_the_mask_hides_is_not_in_the_data():
    x, mask = bits(), torch.ones(N, D, dtype=torch.bool)
    x[:, 3], mask[:, 3] = -100.0, False
    assert diagnose(linear(), x, weight=mask)["data"].evidence == "values between 0 and 1, expected [0, 1]"
    assert diagnose(linear(), x)["data"].level == "ill"
    table = torch.rand(N, D) + 5
    evidence = diagnose(linear("gaussian"), table, weight=mask)["data"].evidence
    assert evidence.startswith("values between 5")  # and not from 0, which stands where x is missing


SCALED = {  # factors of the columns, level, words
    "one scale": (torch.ones(D), "healthy", ""),
    "three decades": (torch.logspace(0, 3.2, D), "watch", "column 11 has a range of"),
    "1e-3 beside 1e5": (torch.tensor([1e-3, 1.0, 1e5, *[1.0] * (D - 3)]), "ill", "column 2 .* column 0 has 0.00"),
    "all of 1e4": (torch.full((D,), 1e4), "watch", "values between"),
    "all of 1e-4": (torch.full((D,), 1e-4), "watch", "values between"),
}


@pytest.mark.parametrize("case", SCALED)
def test_the_scales_of_columns(case):
    factors, level, words = SCALED[case]
    model = vk.mlp_vae((D,), L, (8,), "gaussian")
    model.encoder[-1].weight.data *= 1e-6  # so that the huge columns do not overflow
    verdict = diagnose(model, torch.randn(N, D) * factors)["data"]
    assert verdict.level == level and re.search(words, verdict.evidence), verdict
    assert ("standardise" in verdict.advice) == (level != "healthy")


def test_columns_with_a_variance_each_may_have_scales():
    model = vk.mlp_vae((D,), L, (8,), "gaussian", obs_logvar=nn.Parameter(torch.zeros(D)))
    model.encoder[-1].weight.data *= 1e-6
    assert diagnose(model, torch.randn(N, D) * torch.logspace(-3, 3, D))["data"].level == "watch"


def test_flat_images_are_no_table_of_scales():
    """A pixel that is 1/255 in one image and 0 in the others."""
    x = torch.rand(N, D)
    x[:, 0] = 0.0
    x[5, 0] = 1 / 255
    assert diagnose(vk.mlp_vae((D,), L, (8,), "gaussian"), x)["data"].level == "healthy"


def test_grey_values_up_to_255_beside_a_gaussian():
    x = torch.arange(N * D).float().view(N, D) % 256
    verdict = diagnose(vk.mlp_vae((D,), L, (8,), "gaussian"), x)["data"]
    assert verdict.level == "watch" and verdict.advice == "divide x by 255"


# ---------------------------------------------------------------- the decoder's output

BOUNDED = {  # likelihood, last modules, words of the cause
    "a sigmoid": ("bernoulli", [nn.Sigmoid()], "ends in a sigmoid or softmax.*takes logits"),
    "a softmax": ("bernoulli", [nn.Softmax(1)], "ends in a sigmoid or softmax"),
    "a hard sigmoid": ("continuous_bernoulli", [nn.Hardsigmoid()], "ends in a sigmoid"),
    "a tanh": ("bernoulli", [nn.Tanh()], "ends in a tanh"),
    "a clamp": ("bernoulli", [nn.Hardtanh()], "ends in a tanh"),
    "a ReLU": ("bernoulli", [nn.ReLU()], "ends in a ReLU"),
    "a log-sigmoid": ("bernoulli", [nn.LogSigmoid()], "ends in a log-sigmoid"),
    "a rate in place of its logarithm": ("poisson", [nn.Softplus()], "ReLU, softplus or exp.*a logarithm"),
    "shares": ("poisson", [nn.Softmax(1)], "takes log_rate, a logarithm"),
}


@pytest.mark.parametrize("case", BOUNDED)
def test_an_output_that_is_bounded(case):
    likelihood, last, words = BOUNDED[case]
    model = linear(likelihood, last)
    found = diagnose(model, bits())
    verdict = found["decoder output"]
    assert found.level == verdict.level == "ill", found
    assert re.search(words, verdict.cause) and "away" in verdict.advice
    assert all(v.level != "healthy" or v.symptom in ("data", "effective beta") for v in found.verdicts)


class Times(nn.Module):
    def forward(self, h):
        return 8 * torch.tanh(h)


FREE = {
    "a linear layer": ("bernoulli", []),
    "a bound that is wide": ("bernoulli", [Times()]),
    "a leaky ReLU": ("bernoulli", [nn.LeakyReLU()]),
    "a Gaussian's mean in [0, 1]": ("gaussian", [nn.Sigmoid()]),
    "a Laplace's mean in [-1, 1]": ("laplace", [nn.Tanh()]),
    "log-rates": ("poisson", []),
}


@pytest.mark.parametrize("case", FREE)
def test_an_output_that_is_not_bounded_or_may_be(case):
    likelihood, last = FREE[case]
    verdict = diagnose(linear(likelihood, last), bits())["decoder output"]
    assert verdict.level == "healthy" and " is between " in verdict.evidence


def test_outputs_that_are_small_are_not_bounded():
    """An untrained decoder puts out numbers within [-1, 1], and within [0, 1] with another bias; it has no tanh."""
    model = linear(wide=0.1)
    model.decoder[0].bias.data.fill_(0.5)
    found = diagnose(model, bits())
    assert "logits is between 0." in found["decoder output"].evidence
    assert found["decoder output"].level == "healthy"
    model.decoder[0].weight.data.zero_()  # and one that does not read z
    assert diagnose(model, bits())["decoder output"].level == "healthy"


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Tanh(), nn.ReLU()])
def test_a_mean_that_cannot_reach_the_data(last):
    verdict = diagnose(linear("gaussian", [last]), torch.randn(N, D) * 2)["decoder output"]
    assert verdict.level == "ill" and "a loc that reaches the data" in verdict.cause and "scale x" in verdict.advice


class Levels(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.last = last

    def forward(self, h):
        return self.last(h.view(-1, 5, D))


@pytest.mark.parametrize(
    "last, level", [(nn.Identity(), "healthy"), (nn.LogSoftmax(1), "healthy"), (nn.Softmax(1), "ill")]
)
def test_the_logits_of_levels(last, level):
    x = torch.randint(0, 5, (N, D))
    assert diagnose(linear("categorical", [Levels(last)], outputs=5), x)["decoder output"].level == level


# ---------------------------------------------------------------- impossible values


def test_a_rate_that_no_latent_holds():
    model = linear("gaussian")
    model.encoder.bias.data[0] = 1e15
    found = diagnose(model, torch.randn(N, D))
    assert found["impossible values"].level == "ill" and "the rate is 5e+29 nats" in found["impossible values"].evidence
    levels = {v.symptom: v.level for v in found.verdicts}
    assert levels["rate and distortion"] == levels["no better than the mean"] == "watch"
    assert "impossible values" not in {v.symptom for v in diagnose(linear("gaussian"), torch.randn(N, D)).verdicts}


def test_a_probability_above_1():
    from vae_kernels.doctor.first import impossible

    nll, kl = torch.tensor([3.0, -2.0, 1.0]), torch.ones(3)
    for likelihood in ("bernoulli", "discretized_logistic", "poisson", "negative_binomial", "zinb", "categorical"):
        assert impossible(nll, kl, 1, likelihood).evidence.startswith("the nll of sample 1 is -2 nats")
        assert impossible(nll.abs(), kl, 1, likelihood) is None
    for density in ("gaussian", "laplace", "continuous_bernoulli"):
        assert impossible(nll, kl, 1, density) is None
