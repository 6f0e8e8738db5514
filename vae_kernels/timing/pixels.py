"""A likelihood of pixels for the timings: the tensors of a case, and the loss as people write it."""

import torch
import torch.nn.functional as F

COMPONENTS, CHANNELS = 10, 3


def draw(case, g):
    """x of 8 bits in [0, 1], [B, 3, pixels]; and numbers of 10 components for each pixel, whose locations are near x.
    The dims of the case are those of x."""
    pixels = max(1, case.dims // CHANNELS)
    random = lambda *size: torch.randn(case.batch, *size, pixels, generator=g)  # noqa: E731
    x = torch.randint(256, (case.batch, CHANNELS, pixels), generator=g) / 255
    loc = x.unsqueeze(2) + 0.1 * random(CHANNELS, COMPONENTS)
    rest = torch.stack((loc, 0.3 * random(CHANNELS, COMPONENTS) - 3, 0.3 * random(CHANNELS, COMPONENTS)), 2)
    return x, (torch.cat((random(COMPONENTS), rest.flatten(1, 3)), 1),)


def discretized_logistic_mixture(x, packed):
    """The loss of a mixture of discretized logistics (arXiv:1701.05517), for x in [0, 1], with the usual care for small
    masses: a mass below 1e-5 is the density times the width of a bin."""
    k = packed.shape[1] // 10
    logits, rest = packed[:, :k], packed[:, k:].unflatten(1, (3, 3, k))
    loc, logscale, t = rest[:, :, 0], rest[:, :, 1].clamp(min=-7.0), torch.tanh(rest[:, :, 2])
    x = x.unsqueeze(2)
    green = loc[:, 1] + t[:, 0] * x[:, 0]
    blue = loc[:, 2] + t[:, 1] * x[:, 0] + t[:, 2] * x[:, 1]
    centred, inverse = x - torch.stack((loc[:, 0], green, blue), 1), torch.exp(-logscale)
    upper, lower = inverse * (centred + 0.5 / 255), inverse * (centred - 0.5 / 255)
    mass = torch.sigmoid(upper) - torch.sigmoid(lower)
    middle = inverse * centred
    density = middle - logscale - 2 * F.softplus(middle) - 5.541263545158426  # log 255
    inside = torch.where(mass > 1e-5, mass.clamp(min=1e-12).log(), density)
    log_p = torch.where(x < 0.001, upper - F.softplus(upper), torch.where(x > 0.999, -F.softplus(lower), inside))
    return -torch.logsumexp(log_p.sum(1) + logits.log_softmax(1), 1).sum()
