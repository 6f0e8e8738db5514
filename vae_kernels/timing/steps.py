"""Whole training steps of the clients: the share of the loss in a step, and the time that a faster loss saves (Amdahl's
law, measured).

What is checked before the timing:

- The whole step, without noise: the loss and its gradients by all weights, against the loss by hand in float64. In
  float32 each gradient may have the error of the rivals (check.py). In bfloat16 the networks round too, by much more
  than a loss does. A gradient that is a small difference of large numbers, such as that of a shift before batch norm,
  may then be noise in every implementation. So in bfloat16 the gradients of a network are one vector. The error of
  this vector may be twice that of the step by hand, and four roundings of bfloat16.
- The loss alone, with noise, from what the networks gave to it, in the dtype in which they gave it: the loss and its
  gradients by the networks' outputs, against this library's reference in float64. The network's roundings are not in
  this error, so what is allowed is the same as for all other cases (check.py), in bfloat16 too.
"""

import contextlib
import copy
import time
from dataclasses import asdict, replace

import torch
from torch.utils._pytree import tree_leaves, tree_map

from .. import functional
from . import check, counts
from .clients import MODELS, Model, cells, conv, mlp  # noqa: F401 - names that version 0.1 had here
from .clock import interleave, summaries
from .contenders import COMPILE, EAGER, OURS, Contender
from .measure import AGAIN
from .networks import Genes, Log1p  # noqa: F401
from .table import LOSS

DTYPES = "float32", "bfloat16"  # bfloat16: the forward pass is under autocast
CASES = [(client, dtype) for client in MODELS for dtype in DTYPES]
STEP = "step"
QUIET = -60.0  # is added to each log-variance for the check of a step: without noise two losses must agree


def described(client, dtype):
    """The columns that say which step a row is of."""
    return asdict(client.case) | {"model": client.name, "dtype": dtype}


def measure(client, dtype, options):
    """Rows for a client's training step, Adam included, and rows for the loss alone: by hand, compiled and ours."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    clock = options.clock
    model = client.make().to(clock.device)
    x = client.draw(torch.Generator().manual_seed(0)).to(clock.device)
    context = contexts(clock.device, dtype)
    expected = Expected(client, model, x, context)
    rows, runs = {}, {}
    for contender in losses(client, options.modes):
        key = STEP, contender.kind, contender.name
        rows[key], run = _ready(contender, model, x, context, expected, clock)
        runs[key] = lambda i: (), run
    outputs = given(client, model, x, context)
    for contender in alone(client, options.modes):
        key = LOSS, contender.kind, contender.name
        run = loss_step(contender.ready(), outputs, x, context)
        rows[key] = {"error": loss_error(run, contender, client, outputs, x)}
        runs[key] = lambda i: (leaves(outputs),), run
    times = summaries(interleave(runs, options.clock, options.seconds, options.least), options.least)
    shared = described(client, dtype) | {"threads": torch.get_num_threads()}
    for (part, kind, name), measured in times.items():
        yield shared | {"part": part, "kind": kind, "name": name} | rows[part, kind, name] | measured


def contexts(device, dtype):
    """A function that gives the context of a forward pass."""
    if dtype == "bfloat16":
        return lambda: torch.autocast(device, torch.bfloat16)
    return contextlib.nullcontext


def losses(client, modes):
    """The contenders for a step. An objective is a function (model, x) -> loss."""
    named = lambda name, mode: name if mode == "default" else f"{name}, {mode}"  # noqa: E731
    return [
        Contender(EAGER, "model and loss", client.by_hand),
        *(Contender(COMPILE, named("model and loss", mode), client.by_hand, mode) for mode in modes),
        Contender(OURS, "model and our loss", client.fused),
        Contender(OURS, AGAIN, client.fused),
        *(Contender(OURS, "compiled model and our loss", client.fused, mode) for mode in modes[:1]),
    ]


# ---------------------------------------------------------------- a step


def _ready(contender, model, x, context, expected, clock):
    """(row, step) for a contender. check.WrongResult if its loss is wrong on this model."""
    mine, loss = copy.deepcopy(model), contender.ready()
    optimizer = torch.optim.Adam(mine.parameters(), lr=1e-4, fused=True)

    def run():
        optimizer.zero_grad()
        with context():
            value = loss(mine, x)
        value.backward()
        optimizer.step()

    row = {}
    with counts.generated_kernels() as generated:
        begin = time.perf_counter()
        run()
        clock.synchronize()
        row["first_us"] = (time.perf_counter() - begin) * 1e6
        row["kernels"] = generated() or None  # zero where nothing was compiled
    if contender.mode is None:
        row["kernels"] = counts.operations(run, (), clock.device)
    try:
        row["error"] = expected.error(loss, mine)
    except check.WrongResult as wrong:
        raise check.WrongResult(f"{contender.kind}, {contender.name}: {wrong}", wrong.error) from None
    return row, run


def silent(model):
    """A copy of the model whose posteriors have no noise."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for layer in model.posteriors():
            layer.bias[len(layer.bias) // 2 :] += QUIET
    return model


def results(loss, model, x, context):
    """[loss, *gradients by all weights]"""
    with context():
        value = loss(model, x)
    return [value, *torch.autograd.grad(value, list(model.parameters()))]


def errors(found, expected):
    """The largest difference of each tensor, relative to the largest magnitude that it should have."""
    pairs = zip(found, expected, strict=True)
    return [((a.detach().double() - b).abs().max() / b.abs().max()).item() for a, b in pairs]


def by_network(found, model):
    """[loss, *gradients], with the gradients of each network of the model (encoder, decoder) as one vector."""
    loss, *gradients = (t.detach().double() for t in found)
    parts = {}
    for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        parts.setdefault(name.partition(".")[0], []).append(gradient.flatten())
    return [loss, *(torch.cat(part) for part in parts.values())]


class Expected:
    """What a step of the silent model must give: the results by hand in float64, and how wrong each may be."""

    def __init__(self, client, model, x, context):
        self.x, self.context, quiet = x, context, silent(model)
        self.state, self.before = quiet.state_dict(), model.state_dict()
        self.rounded = context is not contextlib.nullcontext
        exact = copy.deepcopy(quiet).double(), x.double() if x.is_floating_point() else x
        self.truth = [t.detach() for t in results(client.by_hand, *exact, contextlib.nullcontext)]
        self.allowed = [check.RIVALS] * len(self.truth)
        if self.rounded:
            own = self.errors(client.by_hand, copy.deepcopy(quiet))
            self.allowed = [2 * error + check.allowed(torch.bfloat16, ours=True) for error in own]

    def errors(self, loss, model):
        """The relative errors of the loss and of the gradients: of each weight, or of each network."""
        found = results(loss, model, self.x, self.context)
        if not self.rounded:
            return errors(found, self.truth)
        pairs = zip(by_network(found, model), by_network(self.truth, model), strict=True)
        return [((a - b).norm() / b.norm()).item() for a, b in pairs]

    def error(self, loss, model):
        """The largest relative error of the results of this loss. The model has the first weights again afterwards.
        check.WrongResult if an error is larger than allowed."""
        model.load_state_dict(self.state)
        found = self.errors(loss, model)
        model.load_state_dict(self.before)
        for error, allowed in zip(found, self.allowed, strict=True):
            if not error <= allowed:
                raise check.WrongResult(f"a step's relative error is {error:.1e}, allowed {allowed:.1e}", error)
        return max(found)


# ---------------------------------------------------------------- the loss alone


class Kept:
    """A way to write the loss (ways.py) that keeps what the networks give to it."""

    def __init__(self, way):
        self.way, self.latents, self.recon = way, [], ()

    def sample(self, *latent):
        self.latents.append(latent)
        return self.way.sample(*latent)

    def loss(self, recon, x, kls):
        self.recon = recon
        return self.way.loss(recon, x, kls)


def given(client, model, x, context):
    """(latents, recon): the arguments of sample() and the outputs of the decoder, as the networks give them."""
    kept = Kept(client.hand)
    with context(), torch.no_grad():
        model(x, kept)
    return kept.latents, kept.recon


def leaves(outputs):
    """The same tensors as new leaves for autograd. The memory is shared."""
    return tree_map(lambda t: t.detach().requires_grad_(), outputs)


def alone(client, modes):
    """The contenders for the loss. An objective is a function ((latents, recon), x) -> (loss, [z of each latent])."""
    hand, ours = client.hand, client.ours
    found = [Contender(EAGER, hand.name, of_way(hand)), Contender(OURS, ours.name, of_way(ours))]
    return found + [Contender(COMPILE, hand.name, of_way(hand), mode) for mode in modes[:1]]


def of_way(way):
    def objective(outputs, x):
        latents, recon = outputs
        drawn = [way.sample(*latent) for latent in latents]
        return way.loss(recon, x, [kl for _, kl in drawn]), [z for z, _ in drawn]

    return objective


def from_z(outputs):
    """The gradients that a decoder would send back to each z."""
    g = torch.Generator().manual_seed(1)
    return [torch.randn(mu.shape, generator=g).to(mu) / len(mu) for mu, *_ in outputs[0]]


def loss_step(objective, outputs, x, context):
    """Sampling, loss and their gradients: a function of new leaves -> (loss, zs, gradients)."""
    back = from_z(outputs)

    def run(fresh):
        with context():
            loss, zs = objective(fresh, x)
        ends = [None, *(g.to(z.dtype) for g, z in zip(back, zs, strict=True))]
        return loss, zs, torch.autograd.grad([loss, *zs], tree_leaves(fresh), ends)

    return run


def loss_error(run, contender, client, outputs, x):
    """The largest relative error of a loss alone. check.WrongResult if an error is larger than allowed."""
    try:
        return check.worst(_loss_errors(run, client, outputs, x), contender.kind == OURS)
    except check.WrongResult as wrong:
        title = f"the loss alone, {contender.kind}, {contender.name}"
        raise check.WrongResult(f"{title}: {wrong}", wrong.error) from None


def _loss_errors(run, client, outputs, x):
    """[(error, dtype)] of the loss and of the gradient of each output. The contender's own z gives its noise back."""
    loss, zs, gradients = run(leaves(outputs))
    exact = tree_map(lambda t: t.detach().double().requires_grad_(), outputs)
    latents, recon = exact
    kls, through_z = [], 0.0
    for (mu, logvar, *prior), z, back in zip(latents, zs, from_z(outputs), strict=True):
        noise = (z.detach() - mu.detach()) * torch.exp(-0.5 * logvar.detach())
        check.check_noise(noise, torch.finfo(z.dtype).eps)
        through_z = through_z + ((mu + torch.exp(0.5 * logvar) * noise) * back.to(z.dtype)).sum()
        kls.append(functional.gaussian_kl(mu, logvar, prior=prior[0] if prior else None, backend="torch"))
    truth = replace(client.ours, backend="torch").loss(recon, x, kls)
    expected = truth.detach(), *torch.autograd.grad(truth + through_z, tree_leaves(exact))
    found = loss, *gradients
    return list(zip(errors(found, expected), (t.dtype for t in found), strict=True))
