"""Whole training steps: the share of the loss in a step, and the time that a faster loss saves (Amdahl's law,
measured)."""

import copy
import time
from dataclasses import asdict, replace
from typing import NamedTuple

import torch
from torch import nn

from ..models.networks import conv_vae, mlp_vae
from ..models.vae import VAE
from . import check, counts, rivals
from .case import Case, draw
from .clock import interleave, summaries
from .contenders import BY_SAMPLE, COMPILE, EAGER, OURS, compiled, contenders
from .measure import AGAIN, step

QUIET = -60.0  # is added to logvar for the check: without noise two losses must agree


class Genes(nn.Module):
    """A decoder of single cells: it predicts log-mean and dropout logits, and learns one inverse dispersion a gene."""

    def __init__(self, latents, hidden, genes):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(latents, hidden), nn.ReLU(), nn.Linear(hidden, 2 * genes))
        self.log_inverse_dispersion = nn.Parameter(torch.zeros(genes))

    def forward(self, z):
        log_mean, dropout_logits = self.body(z).chunk(2, dim=1)
        return log_mean, self.log_inverse_dispersion, dropout_logits


class Log1p(nn.Module):
    def forward(self, x):
        return torch.log1p(x)


def mlp():
    return mlp_vae((784,), 20, (400,))


def conv():
    return conv_vae((3, 64, 64), 128)


def cells():
    encoder = nn.Sequential(Log1p(), nn.Linear(20000, 128), nn.ReLU(), nn.Linear(128, 2 * 10))
    return VAE(encoder, Genes(10, 128, 20000), likelihood="zinb", latent_shape=10)


class Model(NamedTuple):
    """name; make: a function that makes the model; shape: the shape of one x; case: the case of its loss."""

    name: str
    make: object
    shape: tuple
    case: Case


MODELS = [
    Model("MLP 784-400-20", mlp, (784,), Case(128, 784, 20, part="step")),
    Model("conv 3x64x64", conv, (3, 64, 64), Case(64, 12288, 128, part="step")),
    Model("single cells, 20000 genes", cells, (20000,), Case(128, 20000, 10, "step", "zinb", 3)),
]


def described(model):
    """The columns that say which model a row is of."""
    return {"model": model.name} | asdict(model.case)


def by_hand(vae, x):
    """The loss of a batch as one writes it by hand."""
    mu, logvar = vae.encode(x)
    recon = vae.decode(rivals.sample_by_hand(mu, logvar))
    params = recon if isinstance(recon, tuple) else (recon,)
    (rival, *_) = rivals.rivals(vae.likelihood, len(params)).values()
    return (rival(x, *params) + rivals.kl_by_hand(mu, logvar)) / len(x)


def fused(vae, x):
    return vae.loss(x)


def losses(modes):
    """{(kind, name): a function (vae, x) -> loss}"""
    found = {(EAGER, "model and loss"): by_hand}
    for mode in modes:
        suffix = "" if mode == "default" else f", {mode}"
        found[COMPILE, "model and loss" + suffix] = compiled(by_hand, mode)
    found[OURS, "model and our loss"] = fused
    found[OURS, AGAIN] = fused
    for mode in modes[:1]:
        found[OURS, "compiled model and our loss"] = compiled(fused, mode)
    return found


def measure(model, options):
    """Rows for a model's training step, Adam included, and rows for the loss alone: the best eager form and ours."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    clock = options.clock
    vae = model.make().to(clock.device)
    x = draw(replace(model.case, part="loss")).x.reshape(-1, *model.shape).to(clock.device)
    rows, runs = {}, {}
    for key, loss in losses(options.modes).items():
        mine = copy.deepcopy(vae)
        rows[key], run = _ready(key[0], loss, mine, x, clock)
        runs[("step", *key)] = lambda i: (), run
    for key, run in _loss_alone(model.case, clock.device).items():
        runs[("loss", *key)] = run
    times = summaries(interleave(runs, options.clock, options.seconds, options.least), options.least)
    shared = described(model) | {"threads": torch.get_num_threads()}
    for (part, kind, name), measured in times.items():
        row = shared | {"kind": kind, "name": name}
        row |= rows[kind, name] if part == "step" else {"part": "loss of the step"}
        yield row | measured


def _ready(kind, loss, vae, x, clock):
    """(row, step) for a loss. check.WrongResult if the loss is wrong on this model."""
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-4, fused=True)

    def run():
        optimizer.zero_grad()
        loss(vae, x).backward()
        optimizer.step()

    row = {"part": "step"}
    with counts.generated_kernels() as generated:
        begin = time.perf_counter()
        run()
        clock.synchronize()
        row["first_us"] = (time.perf_counter() - begin) * 1e6
        row["kernels"] = generated() or None  # zero where nothing was compiled
    if loss in (by_hand, fused):
        row["kernels"] = counts.operations(run, (), clock.device)
    row["error"] = _error(loss, vae, x)
    if not row["error"] <= check.RIVALS:
        text = f"a step's relative error is {row['error']:.1e}, allowed {check.RIVALS:.1e}"
        raise check.WrongResult(f"{kind}: {text}")
    return row, run


def _error(loss, vae, x):
    """The largest relative error of the loss and of the gradients by all weights, without noise, against by_hand in
    float64."""
    bias = vae.encoder[-1].bias
    kept = bias.detach().clone()
    with torch.no_grad():
        bias[len(bias) // 2 :] += QUIET
    results = []
    for function, model, data in ((by_hand, copy.deepcopy(vae).double(), x.double()), (loss, vae, x)):
        value = function(model, data)
        results.append([value, *torch.autograd.grad(value, list(model.parameters()))])
    with torch.no_grad():
        bias.copy_(kept)
    return max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(*results, strict=True))


def _loss_alone(case, device):
    """{(kind, name): (prepare, function)}: sampling, loss and their gradients, from a ready reconstruction."""
    alone = Case(case.batch, case.dims, case.latents, "objective", case.likelihood, case.outputs)
    tensors = draw(alone).to(device)
    prepare = lambda i: (tensors.leaves(),)  # noqa: E731
    found = [c for c in contenders(alone, (), few=True) if c.name not in BY_SAMPLE]
    return {(c.kind, c.name): (prepare, step(c.objective, alone)) for c in found}
