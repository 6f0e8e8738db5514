"""log p(x) by importance sampling, and how reliable the estimate is: how many draws count, and the error over
samples."""

import math
from dataclasses import dataclass

import torch

from .. import conditions
from ..estimators.importance import log_marginal_likelihood

OF_LOG_P = 128, 256, 1024  # samples, draws of the posterior for each, and the most draws where few of them count
# An estimate that falls short of log p(x) by more nats than this is called a lower bound. Exact models gave the
# threshold: below 0.005 the true shortfall was at most 0.01 nats, for posteriors too wide, too narrow and off, also
# where the variance of the weights is infinite.
TIGHT = 0.005


@dataclass(frozen=True)
class LogP:
    """An estimate of log p(x) by importance sampling, and its difference to the ELBO of the same samples.

    value, error    mean of log p(x) in nats, and its standard error over the samples
    sampling_error  the part of error that more draws would remove; too small if few draws count
    gap, gap_error  mean of log p(x) - ELBO, and its standard error over the samples
    samples         number of samples
    draws           number of draws of q(z|x) for the median sample: the sample whose `effective` is the median
    effective       effective number of these draws (Kong 1992)
    shortfall       the estimate of log p(x) - value, in nats: the mean of 1/2 (1 / effective - 1 / draws). This is the
                    leading term of the bias of the logarithm of a mean (Nowozin 2018, Debiasing evidence
                    approximations, ICLR). It is far too small if few draws count
    """

    value: float
    error: float
    sampling_error: float
    gap: float
    gap_error: float
    samples: int
    draws: int
    effective: float
    shortfall: float

    @property
    def bound(self) -> bool:
        """Whether the shortfall is so large that value, and gap too, must be read as lower bounds."""
        return not self.shortfall <= TIGHT


def log_p(model, x, weight, loss, counts, generator, condition=None):
    """The LogP of the first samples of x. loss: -ELBO of each sample of x.

    counts: (samples, draws) or (samples, draws, most). With `most`, a sample whose shortfall is more than TIGHT gets
    more draws, `most` together.
    """
    samples, draws, most = (*counts, counts[1])[:3]
    x, weight = x[:samples], None if weight is None else weight[:samples]
    condition = conditions.rows_of(condition, slice(samples))
    value, effective = _sampled(model, x, weight, condition, draws, generator)
    n = torch.full_like(value, draws)
    few = shortfall(effective, n) > TIGHT
    if most - draws > 1 and few.any():  # log_marginal_likelihood needs two draws
        weight, condition = None if weight is None else weight[few], conditions.rows_of(condition, few)
        again = _sampled(model, x[few], weight, condition, most - draws, generator)
        value[few], effective[few] = joined((value[few], effective[few], draws), (*again, most - draws))
        n[few] = most
    gap, count = value + loss[: len(x)], len(x)
    middle = effective.argsort()[(count - 1) // 2]
    return LogP(
        value=value.mean().item(),
        error=(value.std() / math.sqrt(count)).item(),
        sampling_error=(((n / effective - 1).clamp(min=0) / (n - 1)).sum().sqrt() / count).item(),
        gap=gap.mean().item(),
        gap_error=(gap.std() / math.sqrt(count)).item(),
        samples=count,
        draws=int(n[middle]),
        effective=effective[middle].item(),
        shortfall=shortfall(effective, n).mean().item(),
    )


def _sampled(model, x, weight, condition, draws, generator):
    found = log_marginal_likelihood(model, x, draws, condition=condition, weight=weight, generator=generator)
    return found.value, found.effective_samples


def shortfall(effective, draws):
    """The estimated bias of log 1/N sum w, see LogP. Equal weights have none."""
    return (0.5 * (1 / effective - 1 / draws)).clamp(min=0)


def joined(*parts):
    """(log 1/N sum w, effective number of draws) of all draws together. parts: (value, effective, draws)."""
    first = [value + math.log(draws) for value, _, draws in parts]  # log sum w
    second = [2 * total - torch.log(effective) for total, (_, effective, _) in zip(first, parts, strict=True)]
    first, second = (torch.stack(t).logsumexp(0) for t in (first, second))
    return first - math.log(sum(draws for *_, draws in parts)), torch.exp(2 * first - second)
