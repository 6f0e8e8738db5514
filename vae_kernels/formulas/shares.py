"""What the row kind shares: a soft-max over the event, whose shares are the means of counts.

    log mean_j = log_total + log softmax(logits)_j,        the soft-max over all dimensions but dimension 0

With log_total, the first parameter of a likelihood of counts is such logits. "multinomial" has no other form.
"""

import torch


def log_mean(logits, log_total):
    """log_total + log softmax(logits), of the shape of logits; log_total is [B, 1, ...]."""
    return log_total + _rows(logits).log_softmax(1).view(logits.shape)


def total(t):
    """The sum of each sample, [B]."""
    return _rows(t).sum(1)


def _rows(t):
    return t.flatten(1) if t.dim() > 1 else t.unsqueeze(1)


def absent(x, log_mean):
    """Where the mean is 0 and the count is 0: p(x) = 1 there, whatever the other parameters are. The derivatives of the
    formulas are NaN at a log-mean of -inf."""
    return (x == 0) & (log_mean == -torch.inf)


def without_absent(function, x, log_mean):
    """function(x, log_mean), element by element, and 0 where both are absent."""
    gone = absent(x, log_mean)
    return torch.where(gone, 0, function(x, torch.where(gone, 0, log_mean)))
