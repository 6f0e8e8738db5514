"""The training loop and the measurement of an epoch. This file has no options, no files and no terminal."""

import math
import signal
import time
from contextlib import contextmanager

import torch
from torch.nn.parallel import DistributedDataParallel

from ..core import support
from ..core.dtypes import widest
from ..core.modes import evaluating
from ..doctor.measures import closed_form
from ..functional import gaussian_kl
from ..monitor import ACTIVE
from . import ranks
from .eager_loss import eager_loss

# The metrics of an epoch
ROW = (
    *("epoch", "train_loss_nats", "train_neg_elbo_nats", "test_neg_elbo_nats", "test_reconstruction_nats"),
    *("test_kl_nats", "active_units", "seconds"),
)


def once_read(kind, vae, x):
    """x as floats where encoder and loss would each read uint8 as x/255. A likelihood of levels gets the levels."""
    if kind == "eager" or not support.scaled(vae.likelihood, x.dtype) or support.steps_of(vae.likelihood) is not None:
        return x
    return support.read(x, vae.likelihood, torch.float32)


def objective(kind, vae, x, shard=None):
    """The scalar to minimise for a batch, in nats per image. kind: "fused" or "eager".

    shard: None, or (first, total), the place of x in a batch that is split over ranks. Then the result is scaled so
           that its mean over the ranks is the objective of this batch: DistributedDataParallel averages the gradients.
    """
    if kind == "eager":
        return eager_loss(vae, x)[0]
    if shard is None:
        return vae(x)
    return vae(x, reduction="sum", shard=shard) * (ranks.count() / shard[1])


def nll_and_kl(kind, vae, x, generator, shard=None):
    """The sums over x of the negative log-likelihood and of the KL, in nats, from the loss of this kind."""
    if kind == "fused":
        terms = vae.loss(x, generator=generator, shard=shard, return_terms=True)
        return terms.nll.sum(), terms.kl.sum()
    _, nll, kl = eager_loss(vae, x, generator)
    return nll * len(x), kl * len(x)


def batches(images, index, size, device):
    """Batches of the rows `index` of `images`, in order; `size` rows each, and fewer in the last batch. Each item is
    (this process's part of the batch, on `device`; its place: None, or (first, total))."""
    for rows in index.split(size):
        begin, end = ranks.part(len(rows))
        shard = (begin, len(rows)) if ranks.count() > 1 else None
        yield images[rows[begin:end]].to(device, non_blocking=True), shard


@torch.no_grad()
def measure(kind, vae, images, index, size, device):
    """(nll, kl) in nats per image, the posterior means [len(index), L], and the mean KL of each latent [L], of the rows
    `index` of `images`. The last is None if the KL to the prior has no closed form.

    Each image gets one posterior sample, with the same noise at each call, so that epochs differ by their weights only.
    The random state of the training and the training flag of each module are not changed. The ranks share the work, and
    every rank gets the result.
    """
    generator = torch.Generator(device).manual_seed(0)
    dtype = widest(device)
    total, means = torch.zeros(2, dtype=dtype, device=device), []
    dims = torch.zeros(math.prod(vae.latent_shape), dtype=dtype, device=device)
    with evaluating(vae):
        for x, shard in batches(images, index, size, device):
            x = once_read(kind, vae, x)
            total += torch.stack(nll_and_kl(kind, vae, x, generator, shard)).to(dtype)
            mu, logvar = vae.encode(x)
            if closed_form(vae.prior):
                each = gaussian_kl(mu, logvar, prior=vae.prior, per_dim=True, backend=vae.backend)
                dims += each.flatten(1).sum(0, dtype=dtype)
            own = mu.flatten(1)
            first, rows = shard or (0, len(own))
            means.append(own.new_zeros(rows, own.shape[1]))  # 0 in the rows of the other ranks, for the sum below
            means[-1][first : first + len(own)] = own
    nll, kl = (ranks.add(total) / len(index)).tolist()
    dims = ranks.add(dims) / len(index)
    return nll, kl, ranks.add(torch.cat(means)), dims.tolist() if closed_form(vae.prior) else None


class Interrupt:
    """True after Ctrl-C was pressed. fit() then ends the present step first, so half an optimizer step is never
    saved."""

    pressed = False

    def __bool__(self):
        return self.pressed

    @contextmanager
    def listen(self):
        def note(*_):
            self.pressed = True
            signal.signal(signal.SIGINT, before)  # a second Ctrl-C stops at once

        before = signal.signal(signal.SIGINT, note)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before)


def step_size(config, epoch):
    """The step size in this epoch, from 0. cosine: from lr to almost 0, half a wave (Loshchilov & Hutter 2017,
    arXiv:1608.03983, equation 5, without restarts)."""
    if config["schedule"] == "constant":
        return config["lr"]
    return config["lr"] * 0.5 * (1 + math.cos(math.pi * epoch / config["epochs"]))


def best(rows):
    """The row of the epoch with the smallest held-out -ELBO; of equal ones, the first."""
    return min(rows, key=lambda row: row["test_neg_elbo_nats"])


def out_of_patience(rows, patience):
    """Whether the last `patience` epochs have brought no better held-out -ELBO."""
    return patience is not None and bool(rows) and rows[-1]["epoch"] - best(rows)["epoch"] >= patience


def fit(vae, optimizer, data, config, progress, *, interrupt, on_step, on_epoch):
    """Train until config["epochs"] epochs are done, the patience is over, `interrupt` is true, or the loss is no longer
    finite.

    progress: the state to start from. It is changed in place. `rows` has a dict for each finished epoch; `step`,
              `loss_sum` [nats] and `seconds` belong to the epoch in progress. `dims` has the KL of each latent after
              each epoch, {epoch: [L]}, as far as it is known. The state is consistent when fit()
              returns and when fit() calls `on_epoch`.
    on_step:  called with the epoch (from 1), the steps done in it, its number of steps, the loss [0-d tensor], and x.
    on_epoch: called at the end of an epoch with its row of metrics.

    Returns False if the loss or a measure became nan or inf. Then do not save `progress` and the weights.
    """
    images, device, size, kind = data.images, config["device"], config["batch_size"], config["loss"]
    train, test = data.split()
    sample = train[: len(test)]  # as many images as the test set has, so that both means have equal noise
    steps = -(-len(train) // size)
    model = DistributedDataParallel(vae) if ranks.count() > 1 else vae
    if config["compiled"]:
        model = torch.compile(model)
    # The steps alone: what is measured is float32.
    lower = torch.autocast(device.type, torch.bfloat16, enabled=config["precision"] == "bf16")
    while len(progress["rows"]) < config["epochs"] and not out_of_patience(progress["rows"], config["patience"]):
        epoch = len(progress["rows"])
        for group in optimizer.param_groups:
            group["lr"] = step_size(config, epoch)
        # The order depends on the seed and the epoch only, so a resumed run continues at its place in the order.
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(config["seed"] * 1_000_003 + epoch))
        rest = train[order][progress["step"] * size :]
        loss_sum = torch.tensor(progress["loss_sum"] / ranks.count(), dtype=widest(device), device=device)
        started = time.perf_counter() - progress["seconds"]
        stop = False
        for x, shard in batches(images, rest, size, device):
            with lower:
                loss = objective(kind, model, once_read(kind, vae, x), shard)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach().to(loss_sum.dtype) * (shard[1] / ranks.count() if shard else len(x))
            progress["step"] += 1
            on_step(epoch + 1, progress["step"], steps, loss.detach(), x)
            stop = ranks.any_says(interrupt)
            if stop:
                break
        ranks.add(loss_sum)
        if stop and progress["step"] < steps:
            progress |= {"loss_sum": loss_sum.item(), "seconds": time.perf_counter() - started}
            return bool(loss_sum.isfinite())
        train_nll, train_kl, *_ = measure(kind, vae, images, sample, size, device)
        test_nll, test_kl, means, dims = measure(kind, vae, images, test, size, device)
        active = int((means.var(0, correction=0) > ACTIVE).sum())
        losses = loss_sum.item() / len(train), train_nll + train_kl, test_nll + test_kl, test_nll, test_kl
        row = dict(zip(ROW, (epoch + 1, *losses, active, time.perf_counter() - started), strict=True))
        if not all(abs(value) < float("inf") for value in row.values()):  # the comparison is false for nan too
            return False
        progress["rows"].append(row)
        if dims is not None:
            progress.setdefault("dims", {})[epoch + 1] = dims
        progress |= {"step": 0, "loss_sum": 0.0, "seconds": 0.0}
        on_epoch(row)
        if ranks.any_says(interrupt):
            break
    return True
