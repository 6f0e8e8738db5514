"""The tensors that the report draws. With them a Diagnosis needs no model to draw its report."""

from dataclasses import dataclass

import torch

from .. import conditions
from .measures import is_image, values

SHOWN = 8
STEPS = 7
REACH = 2.5  # standard deviations of the posterior means, to both sides
TRAVERSED = 6
CODES = 2000  # points on the map
SAMPLES = 64
PAIRS = 4  # interpolations


@dataclass(frozen=True)
class Pictures:
    """Images [n, C, H, W] on the CPU.

    data, reconstructions, losses   some of the data, their decoded posterior means, and -ELBO of each in nats, [n].
                                    Missing pixels of the data are halfway between low and high
    worst, worst_reconstructions,   the same of the data with the largest -ELBO, the largest first
    worst_losses
    samples                         decoded draws of the prior
    interpolations                  [PAIRS * STEPS, ...]: from the posterior mean of the first of the data, in equal
                                    steps, to the means of the next ones
    dims, traversals                [D] latent dims, and [D * STEPS, ...]: the first of the data, with each dim moved
    low, high                       the range of the data: low is drawn black, high is drawn white
    """

    data: torch.Tensor
    reconstructions: torch.Tensor
    losses: torch.Tensor
    worst: torch.Tensor
    worst_reconstructions: torch.Tensor
    worst_losses: torch.Tensor
    samples: torch.Tensor
    interpolations: torch.Tensor
    dims: list
    traversals: torch.Tensor
    low: float
    high: float


@dataclass(frozen=True)
class Views:
    """means: [N, L], of the posteriors. codes: [N, L], a draw of each posterior. labels: [N] indices into classes, or
    None. draws: [M, L], of the prior. pictures: None if there are no images; why_not says why."""

    means: torch.Tensor
    codes: torch.Tensor
    labels: torch.Tensor | None
    classes: list
    draws: torch.Tensor
    pictures: Pictures | None
    why_not: str = ""


def look(model, x, labels, classes, measures, points, losses, weight=None, condition=None):
    """The Views of a model that is in evaluation mode. points: the means, codes and draws of Views. losses: -ELBO of
    each x, [N]. weight: None, or a mask in the shape of x. condition: None, or that of x."""
    means, codes, draws = points
    if labels is not None:
        labels = labels.cpu()[:CODES]
        classes = list(range(int(labels.max()) + 1)) if classes is None else list(classes)
    views = {"means": means[:CODES], "codes": codes[:CODES], "draws": draws, "labels": labels, "classes": classes or []}
    if not is_image(x) or x.dim() != 4 or x.shape[1] not in (1, 3):
        why = f"samples of shape {tuple(x.shape[1:])} are no images of one or three channels"
        return Views(**views, pictures=None, why_not=why)
    if model.autoregressive:
        return Views(**views, pictures=None, why_not="an autoregressive decoder reconstructs from x itself")
    return Views(**views, pictures=_pictures(model, x, weight, condition, measures, means, draws, losses))


def _pictures(model, x, weight, condition, measures, means, draws, losses):
    first = conditions.rows_of(condition, slice(1))
    like = model.encode(x[:1], condition=first)[0]

    def decoded(z, condition):
        return model._mean(model.decode(z.to(like).reshape(-1, *like.shape[1:]), condition=condition)).cpu()

    used = measures.spread if measures.kl_per_dim is None else measures.kl_per_dim
    dims = used.argsort(descending=True)[:TRAVERSED].tolist()
    some, worst = torch.arange(min(SHOWN, len(x))), losses.argsort(descending=True)[:SHOWN]
    low, high = _range(values(model, x[:CODES]), None if weight is None else weight[:CODES])

    def shown(rows):
        """(data with missing pixels in grey, reconstructions, losses) of these rows."""
        at = rows.to(x.device)
        data = values(model, x[at]).cpu()
        if weight is not None:
            data = torch.where(weight[at].cpu(), data, data.new_full((), (low + high) / 2))
        return data, decoded(means[rows], conditions.rows_of(condition, at)), losses[rows]

    data, reconstructions, of_each = shown(some)
    worst, worst_reconstructions, worst_losses = shown(worst)
    between = interpolations(means)
    return Pictures(
        data=data,
        reconstructions=reconstructions,
        losses=of_each,
        worst=worst,
        worst_reconstructions=worst_reconstructions,
        worst_losses=worst_losses,
        samples=decoded(draws[:SAMPLES], conditions.rows_of(condition, slice(SAMPLES))),
        interpolations=decoded(between, conditions.copies(first, len(between))),
        dims=dims,
        traversals=decoded(traversals(means, dims), conditions.copies(first, len(dims) * STEPS)),
        low=low,
        high=high,
    )


def _range(seen, weight):
    """(low, high) of what is observed."""
    seen = seen if weight is None else seen[weight]
    unit = not seen.numel() or (seen.min() >= 0 and seen.max() <= 1)
    return (0.0, 1.0) if unit else (seen.min().item(), seen.max().item())


def interpolations(means):
    """[P * STEPS, L]: P lines from the first of the means to the next ones."""
    ends = means[1 : 1 + PAIRS]
    part = torch.linspace(0, 1, STEPS, dtype=means.dtype)[None, :, None]
    return (means[:1, None] * (1 - part) + ends[:, None] * part).flatten(0, 1)


def traversals(means, dims):
    """[D * STEPS, L]: the first of the means. One dim at a time moves over the range of all means."""
    steps = torch.linspace(-REACH, REACH, STEPS, dtype=means.dtype)
    z = means[0].repeat(len(dims), STEPS, 1)
    for row, dim in enumerate(dims):
        z[row, :, dim] = means[:, dim].mean() + steps * means[:, dim].std()
    return z.flatten(0, 1)
