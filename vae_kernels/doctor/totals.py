"""A model as the doctor sees it beside log_total: a decoder that puts out log-means in place of logits of shares."""

from ..core import rows
from ..formulas import shares
from ..likelihoods import by_name, name_of
from ..priors import ConditionalGaussian


class WithTotal:
    """A VAE whose condition is (log_total, the condition of the VAE, if it has one). So each sample keeps its total
    where the doctor takes some of the samples, or copies of them. All else is that of the VAE."""

    def __init__(self, model):
        if isinstance(model.prior, ConditionalGaussian):
            raise ValueError("log_total: given to a model with a ConditionalGaussian, expected another prior or None")
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def encode(self, x, *, condition):
        return self._model.encode(x, condition=_own(condition))

    def decode(self, z, x=None, *, condition):
        given = by_name(self._model.decode(z, x, condition=_own(condition)), self.likelihood)
        first = next(iter(given))
        total = rows.log_total(condition[0], given[first], name_of(self.likelihood))
        return given | {first: shares.log_mean(given[first], total)}


def _own(condition):
    return condition[1] if len(condition) > 1 else None
