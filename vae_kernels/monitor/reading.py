"""The terms of many steps made into one row: reduced on the device into one tensor, which is copied once."""

import math

import torch

ACTIVE = 0.01  # Burda et al. 2016, arXiv:1509.00519, section 5.2
SATURATED = 24 * math.log(2)  # 1 + e^-a rounds to 1 in float32 where e^-a < 2^-24, half of the step above 1
LOOKED_AT = 65536  # logits, at most: a share to 1 % needs no more


class Reading:
    """kept: for each step (loss, nll [B], kl [B], kl_per_dim or None). row() is the dict of Monitor."""

    def __init__(self, step, kept, mu, logvar, logits):
        self.step, self.sizes = step, [len(nll) for _, nll, _, _ in kept]
        losses, nlls, kls, dims = zip(*kept, strict=True)
        means = losses if losses[0].dim() == 0 else [loss.mean() for loss in losses]
        parts = {"loss": torch.stack(means).double().mean()}
        for name, terms in (("nll", nlls), ("kl", kls)):
            parts |= _term(name, torch.cat(terms).double())
        if dims[-1] is not None:
            parts["kl_per_dim"] = torch.stack(dims).double().mean(0)
        if mu is not None:
            spread = mu.detach().double().var(0, correction=min(1, len(mu) - 1))
            parts["active_units"] = (spread > ACTIVE).sum()
        if logvar is not None:
            parts["logvar_min"], parts["logvar_max"] = logvar.detach().aminmax()
        if logits is not None:
            some = logits.detach().flatten()[:: -(-logits.numel() // LOOKED_AT) or 1]
            parts["saturated"] = (some.abs() > SATURATED).double().mean()
        self.shapes = {name: part.numel() for name, part in parts.items()}
        packed = torch.cat([part.detach().double().reshape(-1) for part in parts.values()])
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
        numbers = iter(self.host.tolist())
        found = {name: [next(numbers) for _ in range(n)] for name, n in self.shapes.items()}
        counts = ("nonfinite_nll", "nonfinite_kl", "active_units")
        row = {"step": self.step}
        for name, values in found.items():
            if name == "kl_per_dim":
                row[name] = values
            elif not name.startswith("first_"):
                row[name] = int(values[0]) if name in counts else values[0]
        row["first_nonfinite"] = self._first(found)
        return row

    def _first(self, found):
        """The first sample whose term is not finite, in words."""
        for name in ("nll", "kl"):
            if not found[f"nonfinite_{name}"][0]:
                continue
            index, value = found[f"first_{name}"]
            step, sample = self._place(int(index))
            text = f"{name} of sample {sample} at step {step} is {value}"
            bad = [i for i, v in enumerate(found.get("kl_per_dim", [])) if not math.isfinite(v)]
            return text + (f", in latent dims {', '.join(map(str, bad))}" if name == "kl" and bad else "")
        return ""

    def _place(self, index):
        first = self.step - len(self.sizes) + 1
        for step, size in enumerate(self.sizes, first):
            if index < size:
                return step, index
            index -= size
        raise AssertionError("an index beyond the samples")


def _term(name, values):
    """Mean of the finite ones, count of the others, and where the first of those is and what."""
    bad = ~torch.isfinite(values)
    zeros = torch.where(bad, 0.0, values)
    first = bad.int().argmax() if len(values) else values.new_zeros((), dtype=torch.long)
    value = values.gather(0, first.view(1)) if len(values) else values.new_zeros(1)
    return {
        name: zeros.sum() / (~bad).sum(),
        f"nonfinite_{name}": bad.sum(),
        f"first_{name}": torch.cat([first.double().view(1), value]),
    }
