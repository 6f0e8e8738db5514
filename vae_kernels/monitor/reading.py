"""Makes one row of the terms of many steps. The terms are reduced on the device to one tensor, which is copied once."""

import functools
import math

import torch

from ..core import support
from ..core.dtypes import widest

ACTIVE = 0.01  # Burda et al. 2016, arXiv:1509.00519, section 5.2
SATURATED = 24 * math.log(2)  # 1 + e^-a rounds to 1 in float32 where e^-a < 2^-24, half of the step above 1
LOOKED_AT = 16384  # logits, at most: enough for a share with an error of 1 %


class Reading:
    """The reduction of some blocks of steps. row() gives the dict of Monitor.

    blocks: (kind, packed terms [steps, ...]). A kind begins with the layout that ElboTerms.packed() gives.
    target: (x or None, likelihood or None). weight, latent_weight: None, or tensors that broadcast to logits and to mu.
    What has the weight 0 does not count.

    At first only sums are computed. A sum shows whether all its terms were finite. If not, row() searches the terms,
    which are kept until then.
    """

    def __init__(self, step, blocks, mu, logvar, logits, target, weight, latent_weight):
        self.step = step
        self.blocks = [(_sizes(*layout), block) for (layout, *_), block in blocks]
        parts = {"sums": functools.reduce(torch.add, [_sums(*block) for block in self.blocks])}
        if mu is not None:
            parts["active_units"] = _active_units(mu.detach().to(widest(mu.device)), latent_weight)
        if logvar is not None:
            parts["logvar"] = _range(logvar.detach(), latent_weight)
        if logits is not None:
            parts["saturated"] = _saturated(logits.detach(), weight)
        x, self.likelihood = target
        self.dtype = None if x is None else x.dtype
        if x is not None:
            parts["x"] = _values(x.detach(), weight)
        self.shapes = {name: part.numel() for name, part in parts.items()}
        packed = torch.cat([part.reshape(-1) for part in parts.values()])  # of the dtype of the sums
        self.event = None
        if packed.is_cuda:
            self.host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
            self.host.copy_(packed, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()
        else:
            self.host = packed

    def ready(self):
        return self.event is None or self.event.query()

    def row(self):
        if self.event is not None:
            self.event.synchronize()
        numbers = self.host.tolist()
        found = {}
        for name, n in self.shapes.items():
            found[name], numbers = numbers[:n], numbers[n:]
        steps = sum(len(block) for _, block in self.blocks)
        loss, nll, kl, *dims = found["sums"]
        dims = [total / steps for total in dims]
        row = {"step": self.step, "loss": loss / steps}
        firsts = []
        for name, at, total in (("nll", 1, nll), ("kl", 2, kl)):
            n = sum(len(block) * sizes[at] for sizes, block in self.blocks)
            row[name] = total / n if n else math.nan
            row[f"nonfinite_{name}"] = 0
            if not math.isfinite(total):
                row[name], row[f"nonfinite_{name}"], first = self._search(name, at, dims)
                firsts.append(first)
        row["first_nonfinite"] = firsts[0] if firsts else ""
        row["problem"] = problem(row["nll"], dims, found.get("x"), self.likelihood, self.dtype)
        if "active_units" in found:
            row["active_units"] = int(found["active_units"][0])
        if "logvar" in found:
            row["logvar_min"], row["logvar_max"] = found["logvar"]
        if "saturated" in found:
            row["saturated"] = found["saturated"][0]
        if dims:
            row["kl_per_dim"] = dims
        return row

    def _search(self, name, at, dims):
        """(mean of the finite values, number of the others, a sentence about the first of the others). This waits for
        the device."""
        parts = [block.split_with_sizes(sizes, 1)[at] for sizes, block in self.blocks]
        values = torch.cat([part.flatten() for part in parts])
        finite = torch.isfinite(values)
        index = int((~finite).int().argmax())
        step, sample = self._place(index, [len(values) for part in parts for values in part])
        text = f"{name} of sample {sample} at step {step} is {values[index].item()}"
        bad = [d for d, v in enumerate(dims) if not math.isfinite(v)]
        if name == "kl" and bad:
            text += f", in latent dims {', '.join(map(str, bad))}"
        return values[finite].to(widest(values.device)).mean().item(), int((~finite).sum()), text

    def _place(self, index, sizes):
        for step, size in enumerate(sizes, self.step - len(sizes) + 1):
            if index < size:
                return step, index
            index -= size
        raise AssertionError("an index beyond the samples")


def _sizes(with_nll, with_kl, shape):
    """The number of elements of the loss, nll, kl and kl_per_dim in packed terms of this layout."""
    rows, *dims = shape
    return 1, rows * with_nll, rows * with_kl, math.prod(dims) if dims else 0


def _sums(sizes, block):
    """The sums over the steps. nll and kl are summed over the samples too, so each gives one number."""
    loss, nll, kl, dims = block.sum(0, dtype=widest(block.device)).split_with_sizes(sizes)
    return torch.cat([loss, nll.sum(0, keepdim=True), kl.sum(0, keepdim=True), dims])


def _active_units(mu, weight):
    """The number of dims of mu [B, ...] whose variance over the samples of a weight other than 0 is above ACTIVE. On a
    CPU torch.var takes eight times as long as these lines."""
    if weight is None:
        centred = mu - mu.mean(0)
        return (centred.square_().sum(0) > ACTIVE * max(1, len(mu) - 1)).sum()
    counts = (weight != 0).expand(mu.shape)
    samples = counts.sum(0)
    centred = mu - torch.where(counts, mu, 0.0).sum(0) / samples
    squares = torch.where(counts, centred.square_(), 0.0).sum(0)
    return (squares > ACTIVE * (samples - 1).clamp(min=1)).sum()


def _range(logvar, weight):
    """The least and the largest logvar."""
    if weight is None:
        return torch.stack(logvar.aminmax())
    least, largest = (torch.where(weight != 0, logvar, at) for at in (math.inf, -math.inf))
    return torch.stack([least.amin(), largest.amax()])


def _saturated(logits, weight):
    """The share of saturated logits, of some of the logits."""
    step = -(-logits.numel() // LOOKED_AT) or 1
    subset = logits.flatten()[::step].abs() > SATURATED
    if weight is None:
        return subset.sum() / len(subset)
    counts = (weight != 0).expand(logits.shape).flatten()[::step]
    return (subset & counts).sum() / counts.sum()


def _values(x, weight):
    """The least and the largest x, and the number of fractions, in the widest dtype."""
    x = x.to(widest(x.device))
    if weight is not None:  # the logits of levels have one dimension more than x
        weight = weight if weight.dim() <= x.dim() else weight.squeeze(1)
        x = torch.where(weight != 0, x, math.nan)
    counts = x == x
    least, largest = (torch.where(counts, x, at) for at in (math.inf, -math.inf))
    return torch.stack([least.amin(), largest.amax(), (counts & (x != x.round())).sum()])


def problem(nll, dims, x, likelihood, dtype):
    """A sentence about values that cannot be, or "". x: None, or (least, largest, fractions) of a target of this
    dtype."""
    if x is not None:
        least, largest, fractions = x
        levels = support.steps_of(likelihood) or 255 if support.scaled(likelihood, dtype) else None
        low, high = support.limits(likelihood) if levels is None else (0, levels)
        if least <= largest and (least < low or largest > high):
            wanted = support.expected(likelihood) if levels is None else f"levels 0 to {levels}"
            return f"x is between {least:.4g} and {largest + 0.0:.4g}, expected {wanted}"
        if fractions and support.whole(likelihood):
            return f"x holds {fractions:.0f} fractions, expected {support.expected(likelihood)}"
        if levels == 255 and largest == 1:
            return "x is uint8 and holds only 0 and 1, which are read as 0 and 1/255; give x.bool() or x.float()"
    if likelihood is not None and support.is_mass(likelihood) and nll < -support.ROUNDING:
        return f"the mean nll is {nll:.4g} nats, but a probability is at most 1"
    worst = max(range(len(dims)), key=dims.__getitem__, default=None)
    if worst is not None and dims[worst] > support.MOST_RATE:
        return f"the KL of latent dim {worst} is {dims[worst]:.4g} nats, more than a number can carry"
    return ""
