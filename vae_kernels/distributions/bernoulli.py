"""The Bernoulli distribution (formulas/bernoulli.py). logits = log(probs / (1 - probs))."""

from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import constraints

from .of_logits import OfLogits


class Bernoulli(OfLogits):
    """Bernoulli(probs) or Bernoulli(logits=...): formulas/bernoulli.py.

    With validate_args=False, log_prob also takes values between 0 and 1, as vk.log_prob does. probs may be exactly 0
    or 1, and their gradient there is 0, as in torch. The logarithm of an impossible value is then the most negative
    finite number.
    """

    likelihood = "bernoulli"
    torch_class = TorchBernoulli
    support = constraints.boolean
    has_enumerate_support = True

    @property
    def mean(self):
        return self.probs
