"""vk.Monitor: the numbers that describe a training. The monitor reads these numbers from the device every n steps,
without a wait.

A step costs one small copy: the packed terms of fused_elbo(..., return_terms=True) go to a row of a buffer on the
device. When the rows are read, a few kernels reduce all of them. The terms are copied for two reasons. Tensors that are
kept from every step lie between the gradients in memory: malloc must then ask the system for new memory at each step,
which takes more time than the loss. And each replay of a CUDA graph overwrites the terms of the replay before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..core import checks, dtensor, weights
from ..core.terms import ElboTerms
from ..typing import LikelihoodLike
from .groups import check_dims, checked_groups, of_groups, table
from .reading import ACTIVE, SATURATED, Reading
from .sinks import Sink, sinks

__all__ = ["ACTIVE", "SATURATED", "Monitor", "table"]


class Monitor:
    """Collects ElboTerms, and after every `every` steps gives a row of numbers to its sinks.

        monitor = vk.Monitor(every=100, to="runs/metrics.csv")
        terms = vk.fused_elbo(recon, x, mu, logvar, return_terms=True)
        terms.loss.backward()
        monitor.update(terms, mu=mu, logvar=logvar, logits=recon)
        ...
        monitor.close()

    A row is a dict. The nats are means over the finite samples since the last row:

        step                         the last step of the row, counted from 1
        loss, nll, kl                nats per sample (loss: as it is reduced)
        nonfinite_nll, nonfinite_kl  number of samples since the last row whose term is nan or inf
        first_nonfinite              "", or the term, step, sample and value of the first of them, and the dims of a kl
        problem                      "", or a sentence about values that cannot be: a KL of more than 1000 nats in one
                                     dim; with a likelihood, a negative nll of a probability; with x, values outside
                                     the support, and uint8 that holds only 0 and 1 and is read as 0 and 1/255
        kl_per_dim                   a list of nats, the latent dims flattened; only if the terms have it
        kl_per_group, active_groups  the KL summed over the dims of each group, and how many groups have more than 0.01
                                     nats; only with groups=. vae_kernels.monitor.table(row) is a text with these nats
        active_units                 number of dims whose posterior mean varies by more than 0.01 over this step's batch
                                     (Burda et al. 2016, arXiv:1509.00519, section 5.2); only with mu. With a
                                     latent_weight the variance is over the samples whose weight is not 0
        logvar_min, logvar_max       of this step's batch, where latent_weight is not 0; only with logvar
        saturated                    share of this step's logits with |logit| > 24 log 2, where float32 rounds the
                                     probability of the likelier outcome to 1; only with logits. It is computed from
                                     every n-th logit, at most 16384 of them; logits of weight 0 do not count

    On a GPU a row is copied to pinned memory while the device works on. The first update() that finds the copy finished
    gives the row to the sinks. close() waits for the last row.

    every: the number of steps between rows, >= 1. step: the number of steps before this run, for a resumed run.
    likelihood: None, or the likelihood of the loss. With it, a row says if nll or x cannot be right.
    groups: None, or an integer G: the latent dims, flattened, are G groups of one size. Or the sizes of the groups. A
        hierarchy with one KL for each group, fused_elbo(kl=[B, G]), has groups=G.
    to: a path that ends in .csv; a TensorBoard SummaryWriter, or another object with add_scalar; a callable that takes
        the row; or a list of these.
    """

    def __init__(
        self,
        every: int = 100,
        to: Sink | Sequence[Sink] = (),
        *,
        step: int = 0,
        likelihood: LikelihoodLike | None = None,
        groups: int | Sequence[int] | None = None,
    ) -> None:
        for name, value, least in (("every", every, 1), ("step", step, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: got {value!r}, expected an integer >= {least}")
        if likelihood is not None:
            checks.likelihood(likelihood)
        self.every, self.step, self.likelihood, self.groups = every, step, likelihood, checked_groups(groups)
        self._sinks, self._reading = sinks(to), None
        self._steps = 0  # the number of steps since the last row
        # The kind of a step is the layout, dtype and device of its packed terms. The terms of the first kind are rows
        # of one buffer, which _rows lists. A step of another kind, such as the smaller last batch of an epoch, is kept
        # in _others: {index of the step: (kind, terms [1, ...])}.
        self._buffer: Any = None
        self._kind, self._rows = None, ()
        self._others: dict = {}

    def update(
        self,
        terms: ElboTerms,
        *,
        mu: torch.Tensor | None = None,
        logvar: torch.Tensor | None = None,
        logits: torch.Tensor | Mapping[str, torch.Tensor] | None = None,
        x: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
        latent_weight: torch.Tensor | None = None,
    ) -> None:
        """Add one step. terms: ElboTerms. mu, logvar [B, ...], logits and x are read only at the step that ends a row.

        logits: a tensor, or the recon of a likelihood with logits as a mapping, {"logits": tensor}.
        x: the target of the loss. It needs the likelihood, which Monitor(likelihood=) takes.
        weight, latent_weight: the weights that the loss had. The terms contain these weights already. weight says which
            logits and which x count, and latent_weight says which elements of mu and logvar count. weight broadcasts to
            logits, and latent_weight to mu.
        """
        if not isinstance(terms, ElboTerms):
            raise TypeError(f"terms: got {type(terms).__name__}, expected what return_terms=True gives")
        if x is not None:
            checks.tensor("x", x, checks.TARGETS)
            if self.likelihood is None:
                raise ValueError("x: has no effect without the likelihood of the loss, as in Monitor(likelihood=...)")
        if weight is not None or latent_weight is not None:
            _check_weights(weight, latent_weight, logits, mu, logvar)
        packed, layout = terms.packed()
        check_dims(self.groups, layout[2][1:])
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
            self._read(mu, logvar, logits, x, weight, latent_weight)

    def _make_room(self, packed, kind):
        """Make room for the terms of a step, and copy the terms."""
        if dtensor.any_of((packed,)):
            raise TypeError("terms: got DTensors, expected plain tensors, as each rank has of its own samples")
        self._kind = self._kind or kind
        if kind != self._kind:
            self._others[self._steps] = kind, packed.clone()[None]
            return
        n = min(self.every, max(128, 2 * self._steps))
        with torch.inference_mode(False):  # later steps may run inside or outside inference mode
            buffer = torch.empty(n, len(packed), dtype=packed.dtype, device=packed.device)
        if self._rows:
            buffer[: self._steps] = self._buffer[: self._steps]
        self._buffer, self._rows = buffer, buffer.unbind()
        self._rows[self._steps].copy_(packed)

    def _blocks(self):
        """The steps since the last row, in order. Successive steps of one kind are a block: (kind, terms [steps,
        ...])."""
        blocks, begin = [], 0
        for end, other in [*self._others.items(), (self._steps, None)]:
            if begin < end:
                blocks.append((self._kind, self._buffer[begin:end]))
            blocks += [other] if other else []
            begin = end + 1
        return blocks

    def _read(self, mu=None, logvar=None, logits=None, x=None, weight=None, latent_weight=None):
        logits = _logits(logits)
        for name, t in (("mu", mu), ("logvar", logvar), ("logits", logits)):
            if t is not None:
                checks.tensor(name, t)
        self._deliver(wait=True)  # the row before this one, whose copy has long finished
        target = x, self.likelihood
        self._reading = Reading(self.step, self._blocks(), mu, logvar, logits, target, weight, latent_weight)
        if len(self._others) == self._steps:  # no step was of the first kind: the next step sets a new first kind
            self._kind, self._rows = None, ()
        self._steps, self._others = 0, {}
        self._deliver(wait=False)
        if self._reading is not None:  # the reading may still need the terms in this buffer: take a new buffer
            self._rows = ()

    def _deliver(self, wait):
        if self._reading is None or not (wait or self._reading.ready()):
            return
        row, self._reading = self._reading.row(), None
        row |= of_groups(row, self.groups)
        for sink in self._sinks:
            sink(row)

    def close(self) -> None:
        """Give the last row to the sinks, even if it has fewer than `every` steps."""
        if self._steps:
            self._read()
        self._deliver(wait=True)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _logits(logits):
    """The tensor of logits, which may come in a mapping."""
    if not isinstance(logits, Mapping):
        return logits
    if "logits" not in logits:
        raise ValueError(f"logits: got the keys {', '.join(map(repr, logits))}, expected 'logits'")
    return logits["logits"]


def _check_weights(weight, latent_weight, logits, mu, logvar):
    """A weight needs a tensor whose elements it selects. The terms have had their weights in the loss."""
    latent = logvar if mu is None else mu
    for name, w, of, of_name in (
        ("weight", weight, _logits(logits), "logits"),
        ("latent_weight", latent_weight, latent, "logvar" if mu is None else "mu"),
    ):
        if w is None:
            continue
        if of is None:
            needs = "logits" if name == "weight" else "mu or logvar"
            raise ValueError(f"{name}: has no effect without {needs}; the terms have the weights of their loss")
        weights.check(name, w, checks.tensor(of_name, of), of_name, "no argument here")
