"""`vae-kernels bench steps`: each client trains with its loss in two ways, and a wrong loss is refused before the
timing, in float32 and under autocast."""

import copy
import dataclasses

import pytest
import torch

from vae_kernels.timing import check, clients, contenders, measure, steps
from vae_kernels.timing.table import LOSS

FAST = measure.Options(seconds=0.0, least=1, modes=(), memory=False)
TINY = {  # the same models at sizes for a test
    "mlp": clients.mlp(batch=16, dims=50, hidden=30, latents=8),
    "conv": clients.conv(batch=4, channels=3, size=8, latents=8, widths=(4, 8)),
    "cells": clients.cells(batch=16, genes=60, hidden=16, latents=4),
    "table": clients.table(batch=20, numbers=2, modes=3, categories=(4, 2, 5), hidden=16, latents=4),
    "text": clients.text(batch=6, tokens=5, words=20, width=16, latents=4),
    "hierarchy": clients.hierarchy(batch=2, size=8, blocks=(1, 2), width=8, latents=2),
}


def test_every_client_has_a_tiny_form():
    assert [type(client) for client in TINY.values()] == [clients.Model] * len(clients.MODELS)
    assert [c.case.likelihood for c in TINY.values()] == [c.case.likelihood for c in clients.MODELS]
    assert len({c.name for c in clients.MODELS}) == len(clients.MODELS)


@pytest.mark.full
@pytest.mark.parametrize("dtype", steps.DTYPES)
@pytest.mark.parametrize("name", TINY)
def test_a_training_step(name, dtype):
    """A step is timed by hand, with our loss and again; the loss alone by hand and ours. measure() checks each; the
    next tests show that these checks find a wrong loss."""
    found = list(steps.measure(TINY[name], dtype, FAST))
    whole = [contenders.EAGER, contenders.OURS, contenders.OURS]
    assert [(row["part"], row["kind"]) for row in found] == [
        *(("step", kind) for kind in whole),
        (LOSS, contenders.EAGER),
        (LOSS, contenders.OURS),
    ]
    assert found[2]["name"] == measure.AGAIN and {row["dtype"] for row in found} == {dtype}
    assert all(row["median_us"] > 0 and row["error"] >= 0 for row in found)


@pytest.mark.full
@pytest.mark.parametrize("dtype", steps.DTYPES)
def test_a_compiled_training_step(dtype):
    found = list(steps.measure(TINY["mlp"], dtype, dataclasses.replace(FAST, modes=("default",))))
    compiled = [(row["part"], row["name"]) for row in found if row["kind"] == contenders.COMPILE]
    assert compiled == [("step", "model and loss"), (LOSS, "bce_with_logits")]
    (both,) = (row for row in found if row["name"] == "compiled model and our loss")
    assert both["kind"] == contenders.OURS and both["kernels"] > 0


def prepared(client, dtype):
    """(model, x, context) of measure()"""
    torch.manual_seed(0)
    return client.make(), client.draw(torch.Generator().manual_seed(0)), steps.contexts("cpu", dtype)


def twisted(way, **functions):
    """A way to write the loss with another function, which gets the way and the arguments."""

    class Wrong(type(way)):
        pass

    for name, function in functions.items():
        setattr(Wrong, name, lambda self, *given, function=function: function(way, *given))
    return Wrong(*(getattr(way, field.name) for field in dataclasses.fields(way)))


def larger(t, factor):
    """t with a value that is larger by this factor, and with the gradient of t."""
    return t.detach() * factor + (t - t.detach())


def steeper(t, factor):
    """t, with a gradient that is larger by this factor."""
    return t.detach() + factor * (t - t.detach())


def sample_with(z_of=lambda mu, z: z, kl_of=lambda kl: kl):
    def sample(way, mu, *others):
        z, kl = way.sample(mu, *others)
        return z_of(mu, z), kl_of(kl)

    return {"sample": sample}


def loss_with(change):
    return {"loss": lambda way, recon, x, kls: change(way.loss(recon, x, kls))}


STEPS = {  # what is wrong -> a function of our way; the check of a whole step must find it
    "nothing": {},
    "the loss is larger": loss_with(lambda loss: larger(loss, 1.2)),
    "the gradient is steeper": loss_with(lambda loss: steeper(loss, 1.2)),
    "no gradient through z": sample_with(lambda mu, z: z.detach()),
    "no KL": sample_with(kl_of=lambda kl: 0 * kl),
}
ALONE = {  # the check of the loss alone must find a much smaller fault, in bfloat16 too
    "nothing": {},
    "the loss is larger": loss_with(lambda loss: larger(loss, 1.0001)),
    "the gradient is steeper": loss_with(lambda loss: steeper(loss, 1.05)),
    "more noise": sample_with(lambda mu, z: mu + 2 * (z - mu)),
    "the KL is larger": sample_with(kl_of=lambda kl: larger(kl, 1.05)),
}


@pytest.mark.parametrize("dtype", steps.DTYPES)
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("fault", STEPS)
def test_a_wrong_step_is_refused(name, dtype, fault):
    client = TINY[name]
    model, x, context = prepared(client, dtype)
    wrong = dataclasses.replace(client, ours=twisted(client.ours, **STEPS[fault]))
    expected, trained = steps.Expected(client, model, x, context), copy.deepcopy(model)
    if fault == "nothing":
        assert expected.error(wrong.fused, trained) >= 0
        pairs = zip(model.state_dict().values(), trained.state_dict().values(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)
    else:
        with pytest.raises(check.WrongResult, match="a step's relative error"):
            expected.error(wrong.fused, trained)


@pytest.mark.parametrize("dtype", steps.DTYPES)
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("fault", ALONE)
def test_a_wrong_loss_alone_is_refused(name, dtype, fault):
    client = TINY[name]
    model, x, context = prepared(client, dtype)
    outputs = steps.given(client, model, x, context)
    way = twisted(client.ours, **ALONE[fault])
    contender = contenders.Contender(contenders.OURS, "wrong", steps.of_way(way))
    run = steps.loss_step(contender.objective, outputs, x, context)
    if fault == "nothing":
        assert steps.loss_error(run, contender, client, outputs, x) >= 0
    else:
        with pytest.raises(check.WrongResult, match=r"the loss alone, .*(relative error|its noise has)"):
            steps.loss_error(run, contender, client, outputs, x)


def test_a_wrong_client_is_not_timed():
    client = TINY["mlp"]
    wrong = dataclasses.replace(client, ours=twisted(client.ours, **STEPS["no KL"]))
    with pytest.raises(check.WrongResult, match="vae_kernels, model and our loss: a step's"):
        list(steps.measure(wrong, "float32", FAST))


@pytest.mark.parametrize("dtype", steps.DTYPES)
@pytest.mark.parametrize("name", TINY)
def test_autocast_reaches_both_losses(name, dtype):
    """What the networks give has the dtype of autocast, and our loss takes these tensors as they come."""
    client = TINY[name]
    model, x, context = prepared(client, dtype)
    ((mu, logvar, *_), *_), recon = steps.given(client, model, x, context)
    assert {str(t.dtype) for t in (mu, logvar, recon[0])} == {f"torch.{dtype}"}
    with context():
        assert client.by_hand(model, x).dtype == client.fused(model, x).dtype == torch.float32
