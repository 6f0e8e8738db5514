"""`vae-kernels train`: reads the options, trains, and makes a run folder. fit.py has the loop, checkpoint.py the files.

`torchrun --nproc-per-node 2 -m vae_kernels train` trains with two ranks. Every rank reads the data, takes its part of
each batch, and draws the noise that one process would draw for this part. Rank 0 writes the files. If a worker dies,
torchrun (--max-restarts) starts all workers again, and they continue from the last checkpoint of the run.
"""

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer

from .. import __version__
from . import UserError, checkpoint, ranks
from .agree import check, resumed_config
from .build import build
from .data import load
from .fit import measure
from .options import COLOURS, LIKELIHOODS, LOSSES, MODELS, PRECISIONS, SCHEDULES
from .prior import PriorName
from .restore import data_of, how_of
from .sweep import betas_of, sweep
from .terminal import go, save

Likelihood = Enum("Likelihood", {name: name for name in LIKELIHOODS}, type=str)
Model = Enum("Model", {name: name for name in MODELS}, type=str)
Loss = Enum("Loss", {name: name for name in LOSSES}, type=str)
Schedule = Enum("Schedule", {name: name for name in SCHEDULES}, type=str)
Precision = Enum("Precision", {name: name for name in PRECISIONS}, type=str)


# The groups of --help
_DATA, _MODEL, _TRAINING, _RUN = ({"rich_help_panel": name} for name in ("Data", "Model", "Training", "Run"))


def train(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder of images; .npy, .npz, .csv, .parquet, .h5ad, idx. Default: 5000 MNIST digits. "
            "With --resume: where the data lie now.",
            **_DATA,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Images: resize the shorter side to this, and take the middle square.", **_DATA),
    ] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Images: convert all to grey.", **_DATA)] = False,
    rgb: Annotated[
        bool, typer.Option("--rgb", help="Images: convert all to RGB; transparent pixels become white.", **_DATA)
    ] = False,
    standardise: Annotated[
        bool,
        typer.Option("--standardise", help="Tables: bring each column to mean 0 and standard deviation 1.", **_DATA),
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(help="With --likelihood mixed: other kinds of columns, such as visits=poisson,id=skip.", **_DATA),
    ] = None,
    likelihood: Annotated[
        Likelihood,
        typer.Option(
            help="p(x | z); a likelihood with a scale learns one scale for all pixels; mixed: a table.", **_MODEL
        ),
    ] = "bernoulli",
    prior: Annotated[
        PriorName, typer.Option(help="p(z); mog: mixture of Gaussians, flow: needs zuko.", **_MODEL)
    ] = "normal",
    components: Annotated[int | None, typer.Option(min=1, help="Of mog and vamp. Default: 100.", **_MODEL)] = None,
    latent_dim: Annotated[int, typer.Option(min=1, help="The dimensions of z.", **_MODEL)] = 20,
    model: Annotated[
        Model, typer.Option(help="mlp: fully connected layers; conv: convolutions, for images.", **_MODEL)
    ] = "mlp",
    beta: Annotated[
        str, typer.Option(help="Weight of the KL. With several, such as 0.5,1,4: a run for each.", **_TRAINING)
    ] = "1",
    epochs: Annotated[int, typer.Option(min=1, help="At most so many epochs.", **_TRAINING)] = 100,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many epochs without a better held-out -ELBO.", **_TRAINING),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a step.", **_TRAINING)] = 100,
    lr: Annotated[float, typer.Option(help="Step size of Adam.", **_TRAINING)] = 1e-3,
    schedule: Annotated[
        Schedule, typer.Option(help="Of the step size: cosine falls to 0 at the last epoch.", **_TRAINING)
    ] = "constant",
    precision: Annotated[
        Precision,
        typer.Option(help="Of the networks: bf16 is autocast to bfloat16. The loss stays float32.", **_TRAINING),
    ] = "float32",
    compiled: Annotated[
        bool, typer.Option("--compile", help="torch.compile the step; it needs a C++ compiler on a CPU.", **_TRAINING)
    ] = False,
    loss: Annotated[
        Loss, typer.Option(help="fused: this library; eager: written by hand, to compare.", **_TRAINING)
    ] = "fused",
    backend: Annotated[str, typer.Option(help="Backend of the fused loss.", **_TRAINING)] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", **_TRAINING)] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. Default: torch's number.", **_TRAINING)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of weights, order and noise.", **_TRAINING)] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the runs.", **_RUN)] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run. Default: made from the options.", **_RUN)] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue the run in this folder; --epochs may be raised.", **_RUN)
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write the doctor's report when the training ends.", **_RUN)
    ] = True,
    samples_every: Annotated[
        int | None,
        typer.Option(min=1, help="Also draw samples after every so many epochs, into the folder samples.", **_RUN),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write the metrics for TensorBoard into the run.", **_RUN)
    ] = False,
):
    """Train a VAE, and write weights, metrics and pictures to a run folder. For many GPUs, start it with torchrun.

    Exit codes: 0 if the training ended, 2 for a mistake that you can mend, 130 after Ctrl-C.
    """
    config = {
        "data": data and str(Path(data).resolve()),
        "size": size,
        "colour": COLOURS[0] if grey else COLOURS[1] if rgb else None,
        "standardise": standardise,
        "columns": columns,
        "likelihood": _value(likelihood),
        "prior": _value(prior),
        "components": components,
        "latent_dim": latent_dim,
        "epochs": epochs,
        "patience": patience,
        "batch_size": batch_size,
        "lr": lr,
        "schedule": _value(schedule),
        "precision": _value(precision),
        "compiled": compiled,
        "model": _value(model),
        "loss": _value(loss),
        "backend": backend,
        "device": device,
        "threads": threads,
        "seed": seed,
        "report": report,
        "samples_every": samples_every,
        "tensorboard": tensorboard,
    }
    typed = {key for key in context.params if context.get_parameter_source(key).name == "COMMANDLINE"}
    try:
        if grey and rgb:
            raise UserError("--grey, --rgb: got both, expected one")
        if typed & {"grey", "rgb"}:
            typed |= {"colour"}
        with ranks.joined():
            first, *more = betas = betas_of(beta)
            if more:
                code = sweep(
                    betas, lambda b, run: run_training(config | {"beta": b}, typed, out, run, None), out, name, resume
                )
            else:
                code = run_training(config | {"beta": first}, typed, out, name, resume)[0]
        raise SystemExit(code)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _value(choice):
    """The text of an option that is one of several."""
    return str(getattr(choice, "value", choice))


def run_training(config, typed, out, name, resume):
    """Check, build, train, draw. `typed`: names of the options on the command line. Returns (the exit code, the
    rows of metrics)."""
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
        table = None if data.table is None else [column._asdict() for column in data.table]
        config |= {"found": data.describe(), "scaling": data.scaling, "table": table}
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
        default += "" if config["beta"] == 1 else f"-beta-{config['beta']:g}"
        run = ranks.from_first(lambda: checkpoint.new_run(out, name, default))
        if name is not None and run.name != name:
            hint = f"; --resume {out / name} goes on with it" if (out / name / checkpoint.CONFIG).exists() else ""
            data.notes += (f"{out / name} exists already, so the run is {run.name}{hint}",)
        save(run, vae, optimizer, progress)  # from here on --resume can continue the run
    if ranks.first():
        versions = {"vae_kernels": __version__, "torch": torch.__version__, "torchrun": ranks.job()}
        checkpoint.save_config(run, config | versions)
    config |= {"device": device}
    return go(run, vae, optimizer, data, config, progress), progress["rows"]


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
