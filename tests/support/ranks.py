"""test_ranks.py runs this file under torchrun, on two CPU ranks. Each check compares the ranks with one process."""

import copy
import itertools
import json
import math
import signal
import sys
import traceback
from datetime import timedelta

import tables
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from typer.testing import CliRunner

import vae_kernels as vk
from vae_kernels import cli
from vae_kernels.cli import checkpoint, fit, terminal

BATCH, LATENTS = 7, 3  # an odd batch: one rank has 4 samples, the other has 3
close = torch.testing.assert_close


def rows():
    """(the indices of this rank's samples, the first of them)"""
    parts = torch.arange(BATCH).tensor_split(dist.get_world_size())
    own = parts[dist.get_rank()]
    return own, own[0].item()


def vae():
    """A VAE in which everything that can be learned is learned. It is in float64, so sums in another order differ by
    1e-15 only."""
    torch.manual_seed(0)
    prior = [torch.nn.Parameter(torch.randn(LATENTS)) for _ in range(2)]
    observation = torch.nn.Parameter(torch.zeros(1))  # FSDP2 cannot shard a 0-d parameter
    model = vk.mlp_vae((1, 4, 4), LATENTS, (8,), "gaussian", obs_logvar=observation, prior=prior, beta=0.5)
    return model.double()


def data():
    return torch.rand(BATCH, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def one_process(model):
    """The loss and the gradients of the whole batch in one process."""
    torch.manual_seed(5)
    loss = model.loss(data())
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


def of_this_rank(model, **settings):
    """This rank's part of the loss. DDP and FSDP take the mean over the ranks, and this mean is the loss of one
    process."""
    own, first = rows()
    torch.manual_seed(5)
    out = model(data()[own], reduction="sum", shard=(first, BATCH), **settings)
    if settings:
        assert out.loss.requires_grad and not any(t.requires_grad for t in out.parts())
        assert out.nll.shape == out.kl.shape == (len(own),) and out.kl_per_dim.shape == (LATENTS,)
        close((out.nll + 0.5 * out.kl).sum(), out.loss.detach())
        close(out.packed()[0], torch.cat([out.loss.detach()[None], *out.parts()]))
    return (out.loss if settings else out) * dist.get_world_size() / BATCH


def check_ddp():
    loss, expected = one_process(vae())
    model = DistributedDataParallel(vae())
    part = of_this_rank(model)
    part.backward()
    close({name: p.grad for name, p in model.module.named_parameters()}, expected)
    part = part.detach()
    dist.all_reduce(part)
    close(part / dist.get_world_size(), loss)


def check_ddp_finds_the_loss_among_the_terms():
    """DDP searches the output of the model for tensors, to see which parameters are used. DDP must find the loss inside
    ElboTerms, or it would call every parameter unused."""
    _, expected = one_process(vae())
    for settings in ({"find_unused_parameters": True}, {"static_graph": True}):
        model = vae()
        model.unused = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        model = DistributedDataParallel(model, **settings)
        for _ in range(2):
            model.zero_grad()
            of_this_rank(model, return_terms=True).backward()
            grads = {name: p.grad for name, p in model.module.named_parameters()}
            unused = grads.pop("unused")
            assert unused is None or not unused.any()
            close(grads, expected)


def check_ddp_with_two_forwards_before_a_backward():
    """At each forward pass, DDP copies the buffers of the first rank to the other ranks, and autograd does not see
    this. The tensors of a control are not buffers, so two forward passes before a backward pass work, and each rank
    keeps its own values."""
    own, _ = rows()
    model = vae()
    model.beta, model.rec_weight = vk.controls.LinearWarmup(4, 0.5), vk.controls.Geco(1.0, speed=0.1, momentum=0.5)
    model.double()
    parallel, twin = DistributedDataParallel(model), copy.deepcopy(model)
    for _ in range(2):
        (parallel(data()[own]) + parallel(data()[own])).backward()
        model.beta.step()
        model.rec_weight.update(torch.full((3,), 2.0 + dist.get_rank(), dtype=torch.float64))
    assert model.beta.item() == twin.beta.item() == 0.75
    expected = math.exp(0.1 * 2 * (1 + dist.get_rank()))  # two steps with the violation of this rank's own nll
    assert model.rec_weight.item() == twin.rec_weight.item() and math.isclose(twin.rec_weight.item(), expected)


def check_fsdp2():
    _, expected = one_process(vae())
    model = vae()
    model.beta = vk.controls.Constant(0.5)
    model.double()
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    of_this_rank(model).backward()
    close({name: p.grad.full_tensor() for name, p in model.named_parameters()}, expected)


def check_fsdp2_finds_the_loss_among_the_terms():
    """FSDP2 gathers the parameters again when the backward pass reaches a tensor of the output. So FSDP2 must find the
    loss inside ElboTerms."""
    _, expected = one_process(vae())
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for settings in ({}, {"mp_policy": MixedPrecisionPolicy(output_dtype=torch.float64)}):
        model = fully_shard(vae(), mesh=mesh, reshard_after_forward=True, **settings)
        for _ in range(2):
            model.zero_grad()
            of_this_rank(model, return_terms=True).backward()
            close({name: p.grad.full_tensor() for name, p in model.named_parameters()}, expected)


def check_noise_of_ranks():
    """Ranks with the same seed and a shard draw the noise that one process draws. Ranks with different seeds draw
    different noise."""
    own, first = rows()
    mu, logvar = torch.zeros(BATCH, LATENTS), torch.zeros(BATCH, LATENTS)
    torch.manual_seed(3)
    whole = vk.reparameterize(mu, logvar)
    torch.manual_seed(3)
    assert torch.equal(vk.reparameterize(mu[own], logvar[own], shard=(first, BATCH)), whole[own])
    torch.manual_seed(3 + dist.get_rank())
    z = vk.reparameterize(mu, logvar)
    both = [torch.empty_like(z) for _ in range(2)]
    dist.all_gather(both, z)
    assert not torch.isin(both[0], both[1]).any()


def step(recon, obs, x, mu, logvar, m, v, beta, reduction, seed=9, weight=None, latent_weight=None):
    """All results of a step: the terms, the sample, and the gradients of all inputs."""
    inputs = [t.detach().requires_grad_() for t in (recon, obs, mu, logvar, m, v)]
    recon, obs, mu, logvar, m, v = inputs
    torch.manual_seed(seed)
    z, kl = vk.sample_kl(mu, logvar, prior=(m, v), latent_weight=latent_weight, n_samples=2)
    settings = {"likelihood": "gaussian", "obs_logvar": obs, "beta": beta, "rec_weight": 0.5, "reduction": reduction}
    settings |= {"weight": weight, "latent_weight": latent_weight}
    terms = vk.fused_elbo(recon, x, mu, logvar, prior=(m, v), return_terms=True, **settings)
    moments = torch.cat((mu, logvar), 1).detach()
    both = vk.sample_kl(moments, n_samples=None)[0]
    total = terms.loss.sum() * 3 + (z * z).sum() + kl.mean()
    grads = torch.autograd.grad(total, inputs)
    of_moments = vk.fused_elbo({"loc": recon}, x, moments=moments, prior=(m, v), **settings).sum()
    return [z, kl, terms.loss, terms.nll, terms.kl, terms.kl_per_dim, both, *grads, of_moments]


def check_dtensor():
    """DTensors have the results and gradients of one process. The samples are sharded evenly, unevenly (a rank may have
    none), or replicated."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for batch in (6, 7, 1):
        g = torch.Generator().manual_seed(2)
        random = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64)  # noqa: E731, B023
        recon, x, mu, logvar = random(batch, 5), random(batch, 5), random(batch, 3), random(batch, 3)
        obs, m, v, beta = random(5), random(3), random(1)[0], random(3).abs()
        for reduction in ("mean", "sum", "none"):
            expected = step(recon, obs, x, mu, logvar, m, v, beta, reduction)
            for place in (Shard(0), Replicate()):
                samples = [distribute_tensor(t, mesh, [place]) for t in (recon, x, mu, logvar)]
                shared = [distribute_tensor(t, mesh, [Replicate()]) for t in (obs, m, v, beta)]
                recon_, x_, mu_, logvar_ = samples
                ours = step(recon_, shared[0], x_, mu_, logvar_, *shared[1:], reduction)
                assert all(isinstance(t, DTensor) for t in ours)
                assert all(t.placements == (place,) for t in ours[3:5] + ours[7:8])
                close([t.full_tensor() for t in ours], expected)
            compare_weights_of_dtensors(mesh, (recon, obs, x, mu, logvar, m, v, beta, reduction))
    logits = torch.randn(7, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    levels = torch.arange(21).view(7, 3).remainder(5).to(torch.uint8)  # "categorical" has a recon that is wider than x
    settings = {"likelihood": "categorical", "reduction": "mean"}
    ours = vk.nll(*(distribute_tensor(t, mesh, [Shard(0)]) for t in (logits, levels)), **settings)
    close(ours.full_tensor(), vk.nll(logits, levels, **settings))
    compare_terms(mesh, logits, levels)


def compare_weights_of_dtensors(mesh, arguments):
    """A weight with one number for each sample is sharded as x is; every other weight is the same on all ranks. A plain
    tensor is taken as a tensor that is the same on all ranks."""
    recon, obs, x, mu, logvar, m, v, beta, reduction = arguments
    g = torch.Generator().manual_seed(4)
    weights = [torch.rand(s, generator=g) > 0.4 for s in (x.shape, (len(x), 1), x.shape[1:], (1, *x.shape[1:]))]
    latents = [torch.rand(s, generator=g) > 0.4 for s in (mu.shape, mu.shape[1:], (len(mu), 1), ())]
    shared_out = [distribute_tensor(t, mesh, [Shard(0)]) for t in (recon, x, mu, logvar)]
    whole = [distribute_tensor(t, mesh, [Replicate()]) for t in (obs, m, v, beta)]
    for weight, latent_weight in zip(weights, latents, strict=True):
        given = {"weight": weight, "latent_weight": latent_weight}
        expected = step(*arguments, **given)
        places = {k: [Shard(0) if w.dim() == 2 and len(w) == len(x) else Replicate()] for k, w in given.items()}
        as_dtensors = {k: distribute_tensor(w, mesh, places[k]) for k, w in given.items()}
        for form in (given, as_dtensors):
            ours = step(shared_out[0], whole[0], *shared_out[1:], *whole[1:], reduction, **form)
            close([t.full_tensor() for t in ours], expected)


def compare_terms(mesh, logits, levels):
    """log_prob of DTensors, with its gradients: of positions, and with a parameter that all samples share."""
    loc = logits[..., 0]
    for params, x, likelihood in (((logits,), levels, "categorical"), ((loc, loc[0]), loc + 1, "gaussian")):
        found = []
        for place in (None, Shard(0), Replicate()):
            lay = lambda t, p=place: t if p is None else distribute_tensor(t, mesh, [p])  # noqa: E731
            own = [(lay(t) if t.shape[0] == 7 else lay(t, place and Replicate())).requires_grad_() for t in params]
            log_p = vk.log_prob(tuple(own), lay(x), likelihood=likelihood)
            assert log_p.shape == x.shape and (place is None or log_p.placements == (place,))
            grads = torch.autograd.grad((log_p * log_p).sum(), own)
            found.append([t.full_tensor() if place else t for t in (log_p, *grads)])
        close(found[1], found[0])
        close(found[2], found[0])


def check_dtensor_rows():
    """log_total is sharded as the batch is. A plain one is taken as a tensor that is the same on all ranks."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    g = torch.Generator().manual_seed(3)
    logits, total = torch.randn(7, 5, dtype=torch.float64, generator=g), torch.rand(7, dtype=torch.float64, generator=g)
    x, gene = torch.randint(4, (7, 5), generator=g), torch.randn(5, dtype=torch.float64, generator=g)
    for likelihood, reduction in itertools.product(("negative_binomial", "multinomial"), ("mean", "none")):
        found = []
        for place in (None, Shard(0), Replicate()):
            lay = lambda t, p=place: (t if p is None else distribute_tensor(t, mesh, [p])).detach().requires_grad_()  # noqa: E731
            inputs = [lay(logits)]
            given = {"likelihood": likelihood, "reduction": reduction}
            target = x if place is None else distribute_tensor(x, mesh, [place])
            if likelihood != "multinomial":
                inputs += [lay(gene, place and Replicate()), lay(total)]
                given["log_total"] = inputs[2]
            nll = vk.nll(tuple(inputs[:2]), target, **given)
            grads = torch.autograd.grad((nll * nll).sum(), inputs)
            found.append([t.full_tensor() if place else t for t in (nll, *grads)])
        close(found[1], found[0])
        close(found[2], found[0])
        plain = vk.nll(
            *(distribute_tensor(t, mesh, [Shard(0)]) for t in (logits, x)), likelihood="poisson", log_total=total
        )
        close(plain.full_tensor(), vk.nll(logits, x, likelihood="poisson", log_total=total))


def check_dtensor_tables():
    """A table: its terms, its weight of each cell, and a logscale that all samples share or that each sample has."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    columns = ("gaussian", ("categorical", 3), "poisson", ("laplace", "tanh"))
    for codes, form in itertools.product((False, True), ("column", "cell")):
        likelihood, x, params = tables.draw(columns, 7, codes, torch.float64, form)
        weight = torch.arange(28).view(7, 4) % 5 != 2
        found = []
        for place in (None, Shard(0), Replicate()):
            lay = lambda t, p=place: t if p is None else distribute_tensor(t, mesh, [p])  # noqa: E731
            own = [lay(t) if t.dim() == 2 else lay(t, place and Replicate()) for t in params]
            own = [t.detach().requires_grad_() for t in own]
            given = {"likelihood": likelihood, "kl": lay(torch.zeros(7)), "weight": lay(weight)}
            terms = vk.fused_elbo(tuple(own), lay(x), **given, return_terms=True)
            log_p = vk.log_prob(tuple(own), lay(x), likelihood=likelihood)
            assert log_p.shape == (7, 4) and (place is None or log_p.placements == (place,))
            grads = [*torch.autograd.grad(terms.loss, own), *torch.autograd.grad((log_p * log_p).sum(), own)]
            results = (terms.loss, terms.nll, terms.nll_per_column, log_p, *grads)
            found.append([t.full_tensor() if place else t for t in results])
        close(found[1], found[0])
        close(found[2], found[0])


def check_dtensor_refusals():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    t = torch.rand(4, 6)
    terms = lambda: vk.fused_elbo(*[distribute_tensor(t, mesh, [Shard(0)])] * 4, return_terms=True)  # noqa: E731
    wrong = [
        (lambda: vk.nll(distribute_tensor(t, mesh, [Shard(1)]), t), ValueError, "expected Shard(0) or Replicate()"),
        (lambda: vk.nll(DTensor.from_local(t, mesh, [Partial()]), t), ValueError, "expected Shard(0) or Replicate()"),
        (lambda: vk.nll(t, distribute_tensor(t, mesh, [Shard(0)])), TypeError, "a plain one beside DTensors"),
        (
            lambda: vk.nll(distribute_tensor(t.expand(2, 4, 6), mesh, [Shard(1)]), t, n_samples=2),
            TypeError,
            "n_samples: takes no DTensors",
        ),
        (lambda: vk.Monitor().update(terms()), TypeError, "terms: got DTensors"),
        (
            lambda: vk.gaussian_kl(distribute_tensor(t, mesh, [Shard(0)]), t.clone().requires_grad_()),
            TypeError,
            "plain",
        ),
        (lambda: vk.reparameterize(*[distribute_tensor(t, mesh, [Shard(0)])] * 2, shard=(0, 4)), ValueError, "shard: "),
    ]
    refused(wrong)


def refused(wrong):
    """Each call raises an error of this kind, with these words."""
    for call, kind, words in wrong:
        try:
            call()
        except kind as error:
            assert words in str(error), str(error)
        else:
            raise AssertionError(f"no error that says {words}")


def kl_of_rows(weights, own):
    """A KL [B, 4, 2] in nats of these samples, which the weights [4, 2] multiply."""
    numbers = torch.rand(BATCH, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    numbers[:, 1] *= torch.linspace(0, 3, BATCH, dtype=torch.float64)[:, None]  # the means of the ranks differ
    return numbers[own] * weights


def check_functions_of_the_mean_kl_over_ranks():
    """Value and gradient of a term with group= are those of one process with the whole batch, for "mean" and, with
    ranks of different sizes, for "sum". DDP takes the mean of the gradients over the ranks."""
    own, _ = rows()
    ranks, world = dist.get_world_size(), dist.group.WORLD
    terms = [
        lambda kl, group: vk.controls.free_bits(kl.sum((1, 2)), 5.0, unit="per_batch_mean", group=group),
        lambda kl, group: vk.controls.free_bits(kl.sum((1, 2)), 4.2, unit="per_batch_mean", group=group),
        lambda kl, group: vk.controls.free_bits(kl, 0.55, unit="per_dim", group=group),
        lambda kl, group: vk.controls.free_bits(kl, 1.1, unit="per_group", group=group),
        lambda kl, group: vk.controls.free_bits(kl, 1.8, unit="per_group", groups=(1, 3), group=group),
        lambda kl, group: vk.controls.capacity(kl.sum((1, 2)), 4.6, unit="per_batch_mean", group=group),
    ]
    moved = []
    for term in terms:
        weights = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
        whole = term(kl_of_rows(weights, torch.arange(BATCH)), None).mean()
        (expected,) = torch.autograd.grad(whole, weights)
        part = term(kl_of_rows(weights, own), world)
        assert part.shape == (len(own),)
        close(part, whole.detach().expand(len(own)))
        for loss in (part.mean(), part.sum() * ranks / BATCH):
            (grad,) = torch.autograd.grad(loss, weights, retain_graph=True)
            dist.all_reduce(grad)
            close(grad / ranks, expected)
        alone = term(kl_of_rows(weights, own), None).mean()
        moved.append(not torch.isclose(alone, whole))
    assert any(moved)  # the means of one rank give another loss
    close(vk.controls.free_bits(torch.ones(0), 0.5, unit="per_batch_mean", group=world), torch.ones(0))


def check_controls_over_ranks():
    """Geco and RunningLogvar with group= have the values of one process with the whole batch, on every rank."""
    own, _ = rows()
    nll, loc = torch.linspace(0, 9, BATCH) ** 2, torch.zeros(BATCH, 3)
    x = torch.linspace(0, 1, BATCH * 3).view(BATCH, 3)
    makers = (lambda: vk.controls.Geco(2.0, speed=0.01, momentum=0.5)), (lambda: vk.controls.RunningLogvar(0.5))
    for make, given in zip(makers, ((nll,), (loc, x)), strict=True):
        one, ours, alone = make(), make(), make()
        for step in (1, 2, 3):
            one.update(*(t * step for t in given))
            ours.update(*(t[own] * step for t in given), group=dist.group.WORLD)
            alone.update(*(t[own] * step for t in given))
        close(ours.state_dict(), one.state_dict())
        assert not torch.isclose(alone.value, one.value)
    means = vk.controls.Geco(0.0, speed=1.0)
    means.update(torch.tensor(float(dist.get_rank())), group=dist.group.WORLD)
    close(means.violation, torch.tensor((dist.get_world_size() - 1) / 2))


def check_groups_that_are_refused():
    kl, world = torch.rand(4, 3), dist.group.WORLD
    shared = distribute_tensor(torch.rand(4), init_device_mesh("cpu", (dist.get_world_size(),)), [Shard(0)])
    wrong = [
        (lambda: vk.controls.free_bits(kl, 1.0, unit="per_sample", group=world), ValueError, "group: has no effect"),
        (lambda: vk.controls.capacity(kl, 1.0, group=world), ValueError, "group: has no effect"),
        (lambda: vk.controls.free_bits(kl, 1.0, unit="per_dim", group="world"), TypeError, "group: got str"),
        (lambda: vk.controls.Geco(1.0, speed=1.0).update(kl, group=True), TypeError, "group: got bool"),
        (lambda: vk.controls.RunningLogvar().update(kl, kl, group=-100), TypeError, "group: got int"),
        (lambda: vk.controls.free_bits(shared, 1.0, unit="per_batch_mean", group=world), TypeError, "beside a DTensor"),
    ]
    refused(wrong)


def check_terms_reduce():
    """The mean of a term over the whole batch is the sum over all ranks, divided by the size of the batch."""
    own, first = rows()
    model = vae()
    torch.manual_seed(5)
    whole = model.loss(data(), return_terms=True)
    torch.manual_seed(5)
    ours = model.loss(data()[own], shard=(first, BATCH), return_terms=True)
    sums = torch.cat([ours.nll.sum()[None], ours.kl.sum()[None], ours.kl_per_dim * len(own)])
    dist.all_reduce(sums)
    close(sums / BATCH, torch.cat([whole.nll.mean()[None], whole.kl.mean()[None], whole.kl_per_dim]))


def check_fit_of_a_batch_smaller_than_the_ranks():
    """The objective of `vae-kernels train` is right for last batches of any size. In a batch of one sample, one rank
    has no sample."""
    for n in (1, 2, 5):
        model, x = vae(), data()[:n]
        torch.manual_seed(5)
        expected = torch.autograd.grad(fit.objective("fused", model, x), list(model.parameters()))
        parallel = DistributedDataParallel(model)
        ((own, shard),) = fit.batches(x, torch.arange(n), n, "cpu")
        torch.manual_seed(5)
        fit.objective("fused", parallel, own, shard).backward()
        close([p.grad for p in model.parameters()], list(expected))
        measured = [fit.measure("fused", model, x, torch.arange(n), size, "cpu") for size in (n, 1)]
        assert measured[0][2].shape == (n, LATENTS)
        close(measured[0][2], measured[1][2])  # the means of the posteriors do not depend on the noise
        close(measured[0][2], model.encode(x)[0].detach())


def train(*options, code=0):
    terminal.draw = lambda *_: None
    result = CliRunner().invoke(cli.app(), ["train", *map(str, options)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def check_train_undisturbed():
    """Only the first rank prints and writes. test_a_worker_dies compares its bits with this run."""
    written, write = [], checkpoint.write
    checkpoint.write = lambda path, data: (written.append(path.name), write(path, data))
    printed = train(*OPTIONS["undisturbed"])
    checkpoint.write = write
    assert bool(printed) == bool(written) == (dist.get_rank() == 0), (printed, written)


def check_train_interrupted():
    """One rank gets Ctrl-C. Both ranks end after the same step, and the resumed run has the bits of an undisturbed
    run."""
    steps, objective = 0, fit.objective

    def interrupted(*args):
        nonlocal steps
        steps += 1
        if steps == 5 and dist.get_rank() == 1:
            signal.raise_signal(signal.SIGINT)
        return objective(*args)

    fit.objective = interrupted
    train(*OPTIONS["interrupted"], code=130)
    fit.objective = objective
    assert steps == 5
    train("--resume", OPTIONS["interrupted folder"])


def check_train_resumes():
    """Two ranks resume the run of one process. test_ranks.py compares the results."""
    train(*OPTIONS["resume"])


def said(name):
    try:
        globals()[name]()
    except Exception:
        return traceback.format_exc()
    return "passed"


if __name__ == "__main__":
    OPTIONS = json.loads(sys.argv[1])
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    for name in [name for name in list(globals()) if name.startswith("check_")]:
        results = [None] * dist.get_world_size()
        dist.all_gather_object(results, said(name))
        if dist.get_rank() == 0:
            failed = [r for r in results if r != "passed"]
            print(json.dumps({name: failed[0] if failed else "passed"}), flush=True)
    dist.destroy_process_group()
