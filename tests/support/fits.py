"""A short training of a small model."""

import torch


def losses_of(model, x, steps, lr):
    """The loss of each step of Adam, on one batch."""
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    for _ in range(steps):
        optimizer.zero_grad()
        losses.append(model.loss(x))
        losses[-1].backward()
        optimizer.step()
    return losses
