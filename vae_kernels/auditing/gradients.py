"""Checks of a loss's gradients: whether they are the derivatives of its value, and what the graph says."""

from dataclasses import replace

import torch

from . import probe

APART = 1e-2  # relative: much more than the error of a central difference, much less than a detached term


def detached(loss_fn, at):
    """The names among recon, mu and logvar by which the loss has another derivative than autograd says: {name: whether
    autograd gives any gradient}. A central difference along random signs measures the derivative, with a step for the
    precision of the loss, and with one for float32, in which a loss may compute inside."""
    measured = probe.measure(loss_fn, at)
    found = {}
    for name in ("recon", "mu", "logvar"):
        grads = measured.recon if name == "recon" else (getattr(measured, name),)
        if all(_apart(loss_fn, at, measured, name, grads, e) for e in (measured.precision, torch.finfo().eps)):
            found[name] = any(bool(g.any()) for g in grads)
    return found


def _apart(loss_fn, at, measured, name, grads, precision):
    """Whether a central difference is far from the gradient."""
    step = precision ** (1 / 3)
    parts = at.recon if name == "recon" else (getattr(at, name),)
    generator = torch.Generator().manual_seed(1)
    signs = [torch.randint(0, 2, t.shape, generator=generator).to(t) * 2 - 1 for t in parts]
    values = []
    for h in (step, -step):
        moved = tuple(t + h * s for t, s in zip(parts, signs, strict=True))
        values.append(probe.measure(loss_fn, replace(at, **{name: moved if name == "recon" else moved[0]})).value)
    slope = (values[0] - values[1]) / (2 * step)
    expected = sum((g * s).sum().item() for g, s in zip(grads, signs, strict=True))
    size = sum(g.abs().sum().item() for g in grads)
    rounding = 4 * precision * abs(measured.value) / step
    return abs(slope - expected) > APART * max(abs(slope), abs(expected), 0.1 * size) + rounding


def bends(loss_fn, at):
    """The names of the bends of a KL, such as "abs" of |KL - C|, that the graph has between the loss and mu."""
    found = set()

    def loss(*arguments):
        result, mu = loss_fn(*arguments), arguments[2]
        bent = [node for node in _between(result.grad_fn, mu) if node.name() in BENDS]
        found.update(BENDS[node.name()] for node in bent if _passes(result, mu, node))
        return result

    probe.measure(loss, at)
    return found


def _passes(result, mu, node):
    """Whether mu gets a gradient through a node. A clamp of logvar gives mu none, also where the loss has mu and logvar
    in one tensor."""

    def grad():
        return torch.autograd.grad(result.sum(), mu, retain_graph=True, materialize_grads=True, allow_unused=True)[0]

    whole = grad()
    cut = node.register_prehook(lambda grads: tuple(None if g is None else torch.zeros_like(g) for g in grads))
    try:
        return not torch.equal(grad(), whole)
    finally:
        cut.remove()


BENDS = {"AbsBackward0": "abs", "ClampBackward1": "clamp", "ClampMinBackward0": "clamp", "MaximumBackward0": "clamp",
         "ClampBackward0": "clamp", "ReluBackward0": "clamp"}  # fmt: skip


def _between(node, leaf):
    """The nodes between a loss and a leaf."""
    reaches, order, stack = {}, [], [(node, False)]
    while stack:
        node, done = stack.pop()
        if node is None or (not done and node in reaches):
            continue
        children = [child for child, _ in node.next_functions if child is not None]
        if done:
            reaches[node] = getattr(node, "variable", None) is leaf or any(reaches.get(c, False) for c in children)
            order.append(node)
        else:
            reaches[node] = False
            stack += [(node, True), *((child, False) for child in children)]
    return [node for node in order if reaches[node]]
