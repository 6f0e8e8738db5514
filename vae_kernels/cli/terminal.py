"""A training in the terminal: what is said before, while and after it runs."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..doctor import quantities
from ..doctor.grey import grey_share
from . import UserError, checkpoint, doctor, ranks
from .alarm import glance, of_the_mean, unfit, warning
from .build import learned_scale
from .fit import Interrupt, best, fit, out_of_patience
from .pictures import draw


def save(run, vae, optimizer, progress):
    if ranks.first():
        checkpoint.save_state(run, vae, optimizer, progress)


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

    board = tensorboard(run) if config["tensorboard"] and ranks.first() else None

    def on_epoch(row):
        save(run, vae, optimizer, progress)
        if config["patience"] and best(progress["rows"]) is row and ranks.first():
            checkpoint.save_best(run, vae)
        if board is not None:
            for key in row.keys() - {"epoch"}:
                board.add_scalar(key, row[key], row["epoch"])
            board.flush()
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
    early = out_of_patience(progress["rows"], config["patience"])
    if early:
        console.print(f"\nno better test -ELBO in {config['patience']} epochs; {checkpoint.BEST} has the best weights")
    elif done < config["epochs"]:
        if progress["step"]:  # else on_epoch has just saved
            save(run, vae, optimizer, progress)
        place = f"in epoch {done + 1}" if progress["step"] else f"after epoch {done}"
        console.print(f"\nstopped {place}; saved. To go on: vae-kernels train --resume {run}")
        if done:
            draw(run, vae, data, config, progress["rows"])
        return 130  # as a shell reports a process that Ctrl-C has ended
    draw(run, vae, data, config, progress["rows"])
    last, top = progress["rows"][-1], best(progress["rows"])
    said = f"\ntest -ELBO {last['test_neg_elbo_nats']:.2f} nats per image after {done} epochs"
    console.print(said + (" (a cross entropy of grey pixels, no log-likelihood)" if grey else ""), style="bold")
    if top["test_neg_elbo_nats"] < last["test_neg_elbo_nats"] - 1:
        console.print(f"(it was {top['test_neg_elbo_nats']:.2f} after epoch {top['epoch']}: fewer epochs fit better)")
    if (text := learned_scale(vae)) is not None:
        console.print(text)
    if done == before:
        console.print("no epoch was left to train, the pictures are drawn again; a larger --epochs goes on")
    names = ", ".join(sorted(file.name for file in run.iterdir() if not file.name.startswith(".")))
    console.print(f"{time.perf_counter() - started:.0f} s; in {run}: {names}")
    if config["report"] and ranks.first():
        report(run, data, console)
    console.print(f"what is well with it, and what is ill, with figures: vae-kernels doctor {run}")
    return 0


def report(run, data, console):
    """Write the doctor's report, and say in a line what is ill."""
    try:
        diagnosis, _ = doctor.examine(run, doctor.SAMPLES, data=data)
        doctor.write(run / doctor.REPORT, diagnosis, run)
    except UserError as error:  # the training has ended well: it keeps its exit code
        console.print(f"no report: {error}")
        return
    ill = ", ".join(v.symptom for v in diagnosis.verdicts if v.level == "ill")
    console.print(f"doctor {diagnosis.level}{': ' if ill else ''}{ill}; the report: {run / doctor.REPORT}")


def tensorboard(run):
    """Writes the metrics for TensorBoard into the run."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--tensorboard needs tensorboard: pip install tensorboard") from error
    return SummaryWriter(str(run))
