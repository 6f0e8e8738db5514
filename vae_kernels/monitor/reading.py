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
        parts |= _terms(torch.stack([torch.cat(nlls), torch.cat(kls)]).double())
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
        row = {"step": self.step, "loss": found["loss"][0]}
        row["nll"], row["kl"] = found["terms"]
        row["nonfinite_nll"], row["nonfinite_kl"] = map(int, found["counts"])
        row["first_nonfinite"] = self._first(found)
        for name in ("active_units", "logvar_min", "logvar_max", "saturated"):
            if name in found:
                row[name] = int(found[name][0]) if name == "active_units" else found[name][0]
        if "kl_per_dim" in found:
            row["kl_per_dim"] = found["kl_per_dim"]
        return row

    def _first(self, found):
        """The first sample whose term is not finite, in words."""
        for i, name in enumerate(("nll", "kl")):
            if not found["counts"][i]:
                continue
            index, value = found["first"][i], found["first_values"][i]
            step, sample = self._place(int(index))
            text = f"{name} of sample {sample} at step {step} is {value}"
            bad = [d for d, v in enumerate(found.get("kl_per_dim", [])) if not math.isfinite(v)]
            return text + (f", in latent dims {', '.join(map(str, bad))}" if name == "kl" and bad else "")
        return ""

    def _place(self, index):
        first = self.step - len(self.sizes) + 1
        for step, size in enumerate(self.sizes, first):
            if index < size:
                return step, index
            index -= size
        raise AssertionError("an index beyond the samples")


def _terms(values):
    """[2, N], nll and kl: mean of the finite ones, count of the others, and where the first of those is and what."""
    bad = ~torch.isfinite(values)
    counts = bad.sum(1)
    parts = {"terms": torch.where(bad, 0.0, values).sum(1) / (values.shape[1] - counts), "counts": counts}
    if values.shape[1]:
        first = bad.int().argmax(1, keepdim=True)
        parts |= {"first": first, "first_values": values.gather(1, first)}
    return parts
