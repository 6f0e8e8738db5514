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


@dataclass(frozen=True)
class Pictures:
    """Images [n, C, H, W] on the CPU.

    data, reconstructions, samples  some of the data, their decoded posterior means, decoded draws of the prior. Missing
                                    pixels of the data are halfway between low and high
    dims, traversals                [D] latent dims, and [D * STEPS, ...]: the first of the data, with each dim moved
    low, high                       the range of the data: low is drawn black, high is drawn white
    """

    data: torch.Tensor
    reconstructions: torch.Tensor
    samples: torch.Tensor
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


def look(model, x, labels, classes, measures, points, weight=None, condition=None):
    """The Views of a model that is in evaluation mode. points: the means, codes and draws of Views. weight: None, or a
    mask in the shape of x. condition: None, or that of x."""
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
    weight = None if weight is None else weight[:SHOWN]
    condition = conditions.rows_of(condition, slice(SHOWN))
    return Views(**views, pictures=_pictures(model, x[:SHOWN], weight, condition, measures, means, draws))


def _pictures(model, x, weight, condition, measures, means, draws):
    first = conditions.rows_of(condition, slice(1))
    like = model.encode(x[:1], condition=first)[0]

    def decoded(z, condition):
        return model._mean(model.decode(z.to(like).reshape(-1, *like.shape[1:]), condition=condition)).cpu()

    used = measures.spread if measures.kl_per_dim is None else measures.kl_per_dim
    dims = used.argsort(descending=True)[:TRAVERSED].tolist()
    data, low, high = _in_range(values(model, x).cpu(), None if weight is None else weight.cpu())
    return Pictures(
        data=data,
        reconstructions=decoded(means[:SHOWN], condition),
        samples=decoded(draws[:SHOWN], condition),
        dims=dims,
        traversals=decoded(traversals(means, dims), conditions.copies(first, len(dims) * STEPS)),
        low=low,
        high=high,
    )


def _in_range(data, weight):
    """(data with its missing pixels in grey, low, high)"""
    seen = data if weight is None or not weight.any() else data[weight]
    unit = seen.min() >= 0 and seen.max() <= 1
    low, high = (0.0, 1.0) if unit else (seen.min().item(), seen.max().item())
    grey = data.new_full((), (low + high) / 2)
    return data if weight is None else torch.where(weight, data, grey), low, high


def traversals(means, dims):
    """[D * STEPS, L]: the first of the means. One dim at a time moves over the range of all means."""
    steps = torch.linspace(-REACH, REACH, STEPS, dtype=means.dtype)
    z = means[0].repeat(len(dims), STEPS, 1)
    for row, dim in enumerate(dims):
        z[row, :, dim] = means[:, dim].mean() + steps * means[:, dim].std()
    return z.flatten(0, 1)
