"""`vae-kernels train`: reads the options, trains, and makes a run folder. fit.py has the loop, checkpoint.py the files.

`torchrun --nproc-per-node 2 -m vae_kernels train` trains with two ranks. Every rank reads the data, takes its part of
each batch, and draws the noise that one process would draw for this part. Rank 0 writes the files. If a worker dies,
torchrun (--max-restarts) starts all workers again, and they continue from the last checkpoint of the run.
"""

import os
import sys
import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .. import __version__
from ..doctor import quantities
from ..doctor.grey import grey_share
from . import UserError, checkpoint, ranks
from .agree import check, resumed_config
from .alarm import glance, of_the_mean, unfit, warning
from .build import build, learned_scale
from .data import load
from .fit import Interrupt, fit, measure
from .options import COLOURS, LIKELIHOODS, LOSSES, MODELS
from .pictures import draw
from .prior import PriorName
from .restore import data_of, how_of

Likelihood = Enum("Likelihood", {name: name for name in LIKELIHOODS}, type=str)
Model = Enum("Model", {name: name for name in MODELS}, type=str)
Loss = Enum("Loss", {name: name for name in LOSSES}, type=str)


def train(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder of images; .npy, .npz, .csv, .parquet, .h5ad, idx. Default: 5000 MNIST digits. "
            "With --resume: where the data lie now."
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Images: resize the shorter side to this, and take the middle square.")
    ] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Images: convert all to grey.")] = False,
    rgb: Annotated[
        bool, typer.Option("--rgb", help="Images: convert all to RGB, transparent pixels to white.")
    ] = False,
    standardise: Annotated[
        bool, typer.Option("--standardise", help="Tables: bring each column to mean 0 and standard deviation 1.")
    ] = False,
    likelihood: Annotated[
        Likelihood, typer.Option(help="p(x | z); a likelihood with a scale learns one scale for all pixels.")
    ] = "bernoulli",
    prior: Annotated[PriorName, typer.Option(help="p(z); mog: mixture of Gaussians, flow: needs zuko.")] = "normal",
    components: Annotated[int | None, typer.Option(min=1, help="Of mog and vamp. Default: 100.")] = None,
    beta: Annotated[float, typer.Option(help="Weight of the KL.")] = 1.0,
    latent_dim: Annotated[int, typer.Option(min=1)] = 20,
    epochs: Annotated[int, typer.Option(min=1)] = 100,
    batch_size: Annotated[int, typer.Option(min=1)] = 100,
    lr: Annotated[float, typer.Option(help="Step size of Adam.")] = 1e-3,
    model: Annotated[Model, typer.Option()] = "mlp",
    loss: Annotated[Loss, typer.Option(help="fused: this library; eager: written by hand, to compare.")] = "fused",
    backend: Annotated[str, typer.Option(help="Backend of the fused loss.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: torch's number.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of weights, order and noise.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run. Default: made from the options.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue the run in this folder; --epochs may be raised.")
    ] = None,
):
    """Train a VAE, and write weights, metrics and pictures to a run folder. For many GPUs, start it with torchrun."""
    config = {
        "data": data and str(Path(data).resolve()),
        "size": size,
        "colour": COLOURS[0] if grey else COLOURS[1] if rgb else None,
        "standardise": standardise,
        "likelihood": str(getattr(likelihood, "value", likelihood)),
        "prior": str(getattr(prior, "value", prior)),
        "components": components,
        "beta": beta,
        "latent_dim": latent_dim,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "model": str(getattr(model, "value", model)),
        "loss": str(getattr(loss, "value", loss)),
        "backend": backend,
        "device": device,
        "threads": threads,
        "seed": seed,
    }
    typed = {key for key in context.params if context.get_parameter_source(key).name == "COMMANDLINE"}
    try:
        if grey and rgb:
            raise UserError("--grey, --rgb: got both, expected one")
        if typed & {"grey", "rgb"}:
            typed |= {"colour"}
        with ranks.joined():
            code = run_training(config, typed, out, name, resume)
        raise SystemExit(code)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def run_training(config, typed, out, name, resume):
    """Check, build, train, draw. `typed`: names of the options on the command line. Returns the exit code."""
    check(config)
    if resume is None and ranks.started_again():
        resume = ranks.from_first(lambda: checkpoint.find_job(out, ranks.job()))
        typed = typed - {"out", "name"}
    if resume is not None:
        config = resumed_config(resume, config, typed)
    device = torch.device(pick_device(config["device"]))
    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    if resume is None:
        data = load(config["data"], config["likelihood"], how_of(config))
        config |= {"found": data.describe(), "scaling": data.scaling}
    else:
        data = data_of(resume, config)
    torch.manual_seed(config["seed"])
    try:  # a mistake in the options shows here, before the run has a folder
        vae = build(config, data).to(device)
        measure(config["loss"], vae, data.images, torch.arange(1), 1, device)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(" ".join(str(error).split())) from error
    # `fused` is Adam's own step in one kernel. Both losses train with it.
    optimizer = torch.optim.Adam(vae.parameters(), lr=config["lr"], fused=device.type in ("cpu", "cuda"))
    progress = {"rows": [], "step": 0, "loss_sum": 0.0, "seconds": 0.0}
    if resume is not None:
        run = resume
        progress = checkpoint.load_state(run, vae, optimizer)
        if len(progress["rows"]) > config["epochs"]:
            raise UserError(f"--epochs: got {config['epochs']}, but {run} has {len(progress['rows'])} already")
    else:
        default = "-".join([data.name, config["likelihood"], config["loss"], config["prior"]]).removesuffix("-normal")
        run = ranks.from_first(lambda: checkpoint.new_run(out, name, default))
        save(run, vae, optimizer, progress)  # from here on --resume can continue the run
    if ranks.first():
        versions = {"vae_kernels": __version__, "torch": torch.__version__, "torchrun": ranks.job()}
        checkpoint.save_config(run, config | versions)
    return go(run, vae, optimizer, data, config | {"device": device}, progress)


def save(run, vae, optimizer, progress):
    if ranks.first():
        checkpoint.save_state(run, vae, optimizer, progress)


def pick_device(device):
    """The name of a device that works. "auto" is cuda if there is a GPU, else cpu. Under torchrun "cuda" is the GPU of
    this rank."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and ranks.count() > 1:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device: {device!r} cannot be used here ({reason})") from error
    return device


def go(run, vae, optimizer, data, config, progress):
    """Train with a progress bar, save after each epoch, draw the pictures, and list the files. Returns the exit
    code."""
    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False, quiet=not ranks.first())
    shape = "x".join(map(str, data.images.shape[1:]))
    n_train, n_test = map(len, data.split())
    size = sum(p.numel() for p in vae.parameters())
    dtype = str(data.images.dtype)[6:]
    console.print(f"data   {data.source}: {n_train} to train on, {n_test} held out, each {shape} {dtype}")
    for note in data.notes:
        console.print(f"note   {note}")
    if copies := data.copies():
        console.print(f"note   {copies} of {n_test} held-out rows are copies of rows to train on: the test is too easy")
    grey = grey_share(data.images, config["likelihood"])
    if grey:
        console.print(f"note   {quantities.grey(grey)}")
    console.print(
        f"model  {config['model']}, {config['latent_dim']} latents, {config['likelihood']}, prior {config['prior']}, "
        f"{size:,} parameters; {config['loss']} loss on {config['device']}"
        + (f", {ranks.count()} ranks" if ranks.count() > 1 else "")
    )
    console.print(f"run    {run}" + (f", going on after epoch {len(progress['rows'])}" if progress["rows"] else ""))
    if (text := unfit(data, config)) is not None:
        console.print(f"note   {text}")
    console.print(
        "\nnats per image:\nepoch  train -ELBO  test -ELBO = reconstruction +    KL   active units", style="bold"
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f}%"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("starting", total=config["epochs"])
    shown = 0.0
    before, started = len(progress["rows"]), time.perf_counter()
    known = of_the_mean(vae, data)

    def on_step(epoch, step, steps, loss, x):
        nonlocal shown
        # not at each step: to read the loss waits for the device
        if time.monotonic() - shown > 0.2 and not bar.disable:
            shown = time.monotonic()
            kl, active = glance(vae, x)
            text = f"epoch {epoch}/{config['epochs']}  loss {loss.item():.1f}  KL {kl:.1f}  active {active}"
            text += warning(kl, active, config["beta"])
            bar.update(task, completed=epoch - 1 + step / steps, description=text)

    def on_epoch(row):
        save(run, vae, optimizer, progress)
        console.print(
            f"{row['epoch']:5d}  {row['train_neg_elbo_nats']:11.2f}  {row['test_neg_elbo_nats']:10.2f}   "
            f"{row['test_reconstruction_nats']:14.2f} {row['test_kl_nats']:7.2f}   "
            f"{row['active_units']:4d}/{config['latent_dim']}"
            + warning(row["test_kl_nats"], row["active_units"], config["beta"], row["test_neg_elbo_nats"], known)
        )

    with Interrupt().listen() as interrupt, bar:
        finite = fit(vae, optimizer, data, config, progress, interrupt=interrupt, on_step=on_step, on_epoch=on_epoch)
    done = len(progress["rows"])
    if not finite:
        raise UserError(
            f"the loss is no longer finite in epoch {done + 1}; {unfit(data, config) or 'try a smaller --lr'} "
            f"({run} keeps epoch {done})"
        )
    if done < config["epochs"]:
        if progress["step"]:  # else on_epoch has just saved
            save(run, vae, optimizer, progress)
        place = f"in epoch {done + 1}" if progress["step"] else f"after epoch {done}"
        console.print(f"\nstopped {place}; saved. To go on: vae-kernels train --resume {run}")
        if done:
            draw(run, vae, data, config, progress["rows"])
        return 130  # as a shell reports a process that Ctrl-C has ended
    draw(run, vae, data, config, progress["rows"])
    last, best = progress["rows"][-1], min(progress["rows"], key=lambda row: row["test_neg_elbo_nats"])
    said = f"\ntest -ELBO {last['test_neg_elbo_nats']:.2f} nats per image after {done} epochs"
    console.print(said + (" (a cross entropy of grey pixels, no log-likelihood)" if grey else ""), style="bold")
    if best["test_neg_elbo_nats"] < last["test_neg_elbo_nats"] - 1:
        console.print(f"(it was {best['test_neg_elbo_nats']:.2f} after epoch {best['epoch']}: fewer epochs fit better)")
    if (text := learned_scale(vae)) is not None:
        console.print(text)
    if done == before:
        console.print("no epoch was left to train, the pictures are drawn again; a larger --epochs goes on")
    names = ", ".join(sorted(file.name for file in run.iterdir() if not file.name.startswith(".")))
    console.print(f"{time.perf_counter() - started:.0f} s; in {run}: {names}")
    console.print(f"what is well with it, and what is ill, with figures: vae-kernels doctor {run}")
    return 0
