"""vk.Monitor: the numbers that say how a training is, read from the device every n steps and never waited for.

A step costs one small copy: what fused_elbo(..., return_terms=True) gives, one tensor, goes to a row of a buffer on the
device, and all rows are reduced by a few kernels when they are read. A copy, not the step's own tensor: what stays from
every step lies between its gradients, and malloc then asks the system for those anew, which takes more than the loss;
and a CUDA graph's replay writes to the same tensor again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..core import checks, dtensor
from ..core.terms import ElboTerms
from .reading import ACTIVE, SATURATED, Reading
from .sinks import Sink, sinks

__all__ = ["ACTIVE", "SATURATED", "Monitor"]


class Monitor:
    """Collects ElboTerms, and hands a row of numbers to its sinks every `every` steps.

        monitor = vk.Monitor(every=100, to="runs/metrics.csv")
        terms = vk.fused_elbo(recon, x, mu, logvar, return_terms=True)
        terms.loss.backward()
        monitor.update(terms, mu=mu, logvar=logvar, logits=recon)
        ...
        monitor.close()

    A row is a dict; nats are means over the finite samples since the last row:

        step                         the step it was read at, counted from 1
        loss, nll, kl                nats per sample (loss as it is reduced)
        nonfinite_nll, nonfinite_kl  samples since the last row whose term is nan or inf
        first_nonfinite              "" or which term, step, sample and value, and the dims of a kl
        kl_per_dim                   a list of nats, the latent dims flattened; where the terms have it
        active_units                 dims whose posterior mean varies by more than 0.01 over this step's batch (Burda
                                     et al. 2016, arXiv:1509.00519, section 5.2); where mu is given
        logvar_min, logvar_max       of this step's batch, where logvar is given
        saturated                    share of this step's logits with |logit| > 24 log 2, where float32 takes the
                                     likelier outcome's probability for 1, of at most 65536 evenly spaced ones; where
                                     logits are given

    On a GPU a row is copied to pinned memory while the device goes on, and handed over by the first update that finds
    it there; close() waits for the last.

    every: steps between rows, >= 1. step: how many there were before, on resuming.
    to: a path that ends in .csv; a TensorBoard SummaryWriter, or whatever has add_scalar; a callable that takes the
        row; or a list of these.
    """

    def __init__(self, every: int = 100, to: Sink | Sequence[Sink] = (), *, step: int = 0) -> None:
        for name, value, least in (("every", every, 1), ("step", step, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: got {value!r}, expected an integer >= {least}")
        self.every, self.step = every, step
        self._sinks, self._reading = sinks(to), None
        self._steps = 0  # since the last row; each has its place in
        self._buffer: Any = None
        self._kind, self._rows = None, ()  # the packed terms of steps of one kind, and
        self._others: dict = {}  # place: (kind, terms [1, ...]) of those of another, as an epoch's last may be

    def update(
        self,
        terms: ElboTerms,
        *,
        mu: torch.Tensor | None = None,
        logvar: torch.Tensor | None = None,
        logits: torch.Tensor | Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """One step. terms: ElboTerms; mu, logvar [B, ...] and logits are looked at only where a row is due.

        logits: a tensor, or the recon of a likelihood with logits as a mapping, {"logits": tensor}.
        """
        if not isinstance(terms, ElboTerms):
            raise TypeError(f"terms: got {type(terms).__name__}, expected what return_terms=True gives")
        packed, layout = terms.packed()
        kind = layout, packed.dtype, packed.device
        if kind == self._kind and self._steps < len(self._rows):
            self._rows[self._steps].copy_(packed)
        else:
            self._make_room(packed, kind)
        self._steps += 1
        self.step += 1
        if self._reading is not None:
            self._deliver(wait=False)
        if self.step % self.every == 0:
            self._read(mu, logvar, logits)

    def _make_room(self, packed, kind):
        """For a copy of these terms, and copy them."""
        if dtensor.any_of((packed,)):
            raise TypeError("terms: got DTensors, expected plain tensors, as each rank has of its own samples")
        self._kind = self._kind or kind
        if kind != self._kind:
            self._others[self._steps] = kind, packed.clone()[None]
            return
        n = min(self.every, max(128, 2 * self._steps))
        with torch.inference_mode(False):  # steps with and without it may follow
            buffer = torch.empty(n, len(packed), dtype=packed.dtype, device=packed.device)
        if self._rows:
            buffer[: self._steps] = self._buffer[: self._steps]
        self._buffer, self._rows = buffer, buffer.unbind()
        self._rows[self._steps].copy_(packed)

    def _blocks(self):
        """The steps since the last row, in their order: (kind, terms [steps, ...]) of each run of one kind."""
        blocks, begin = [], 0
        for place, other in [*self._others.items(), (self._steps, None)]:
            if begin < place:
                blocks.append((self._kind, self._buffer[begin:place]))
            blocks += [other] if other else []
            begin = place + 1
        return blocks

    def _read(self, mu=None, logvar=None, logits=None):
        if isinstance(logits, Mapping):
            if "logits" not in logits:
                raise ValueError(f"logits: got the keys {', '.join(map(repr, logits))}, expected 'logits'")
            logits = logits["logits"]
        for name, t in (("mu", mu), ("logvar", logvar), ("logits", logits)):
            if t is not None:
                checks.tensor(name, t)
        self._deliver(wait=True)  # the row before this one; long there
        self._reading = Reading(self.step, self._blocks(), mu, logvar, logits)
        if len(self._others) == self._steps:  # the first step of all was unlike the others
            self._kind, self._rows = None, ()
        self._steps, self._others = 0, {}
        self._deliver(wait=False)
        if self._reading is not None:  # which has this memory as long as it may have to look through it
            self._rows = ()

    def _deliver(self, wait):
        if self._reading is None or not (wait or self._reading.ready()):
            return
        row, self._reading = self._reading.row(), None
        for sink in self._sinks:
            sink(row)

    def close(self) -> None:
        """Hand over what there is, also of fewer than `every` steps."""
        if self._steps:
            self._read()
        self._deliver(wait=True)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
