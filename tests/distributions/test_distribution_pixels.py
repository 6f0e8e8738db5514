"""The mixture of discretized logistics as a distribution: an event is the channels of a pixel."""

import pytest
import torch
import torch.distributions as td

import vae_kernels as vk

Mixture = vk.likelihoods.DiscretizedLogisticMixture
close = torch.testing.assert_close


def of_decoder(**options):
    """(the distribution of a decoder's output, the output, x of the decoder's layout, the likelihood)"""
    likelihood = Mixture(**{"components": 2, "levels": 4} | options)
    g = torch.Generator().manual_seed(0)
    numbers = 2 * (10 if likelihood.channels == 3 else 3)
    packed = torch.randn(3, numbers, 2, 5, generator=g, dtype=torch.float64)
    low, high = likelihood.x_range
    x = torch.randint(0, likelihood.levels, (3, likelihood.channels, 2, 5), generator=g).double()
    x = low + (high - low) * x / (likelihood.levels - 1)
    return likelihood.distribution(packed), packed, x, likelihood


@pytest.mark.parametrize("options", [{}, {"channels": 1}, {"x_range": (-1.0, 1.0), "min_logscale": -7.0}], ids=str)
def test_log_prob(options):
    made, packed, x, likelihood = of_decoder(**options)
    assert isinstance(made, td.Distribution) and type(made) is vk.distributions.DiscretizedLogisticMixture
    assert made.batch_shape == (3, 2, 5) and made.event_shape == (likelihood.channels,)
    ours = made.log_prob(x.movedim(1, -1))
    assert ours.shape == (3, 2, 5)
    close(ours.flatten(1).sum(1), -vk.nll(packed, x, likelihood=likelihood))
    whole = td.Independent(made, 2)
    close(whole.log_prob(x.movedim(1, -1)), -vk.nll(packed, x, likelihood=likelihood))
    assert made.expand((4, 3, 2, 5)).log_prob(x.movedim(1, -1)).shape == (4, 3, 2, 5)
    one = vk.distributions.DiscretizedLogisticMixture(packed[0, :, 0, 0], components=2, levels=4, **options)
    assert one.batch_shape == () and one.log_prob(x[0, :, 0, 0]).shape == ()
    close(one.log_prob(x[0, :, 0, 0]), ours[0, 0, 0])


def test_samples_are_in_the_support():
    made, *_ = of_decoder(x_range=(-1.0, 1.0))
    torch.manual_seed(0)
    drawn = made.sample((7,))
    assert drawn.shape == (7, 3, 2, 5, 3) and made.support.check(drawn).all()
    assert made.log_prob(drawn).shape == (7, 3, 2, 5)
    with pytest.raises(ValueError, match="support"):
        made.log_prob(drawn + 0.1)
    close(
        made.mean.movedim(-1, 1),
        vk.likelihoods.formula_of(made.likelihood).mean(
            made.packed.movedim(-1, 1), *vk.likelihoods.options_of(made.likelihood)
        ),
    )


def test_the_mean_is_near_that_of_samples():
    made, *_ = of_decoder(channels=1)
    torch.manual_seed(0)
    drawn = made.sample((20_000,))
    assert ((drawn.mean(0) - made.mean).abs() < 6 * drawn.std(0) / 20_000**0.5).all()


def test_errors():
    with pytest.raises(ValueError, match=r"packed: got shape \(3, 7\), expected a tensor \[..., 20\], as vk.like"):
        vk.distributions.DiscretizedLogisticMixture(torch.zeros(3, 7), components=2)
    with pytest.raises(ValueError, match="channels: got 2, expected 1 or 3"):
        vk.distributions.DiscretizedLogisticMixture(torch.zeros(3, 20), components=2, channels=2)
    with pytest.raises(NotImplementedError, match="has no such class"):
        of_decoder()[0].variance  # noqa: B018
