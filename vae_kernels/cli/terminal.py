"""A training in the terminal: what is said before, while and after it runs."""

import time

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from ..doctor import quantities
from ..doctor.grey import grey_share
from . import UserError, checkpoint, doctor, ranks
from .alarm import of_the_mean, unfit
from .build import learned_scale
from .epochs import Epochs, duration
from .fit import Interrupt, best, fit, out_of_patience
from .listing import listing
from .pictures import draw, samples_of
from .reading import columns


def save(run, vae, optimizer, progress):
    if ranks.first():
        checkpoint.save_state(run, vae, optimizer, progress)


def go(run, vae, optimizer, data, config, progress):
    """Train with a live row and a bar, save after each epoch, draw the pictures, and list the files. Returns the exit
    code."""
    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False, quiet=not ranks.first())
    grey = grey_share(data.images, config["likelihood"])
    for label, text in opening(run, vae, data, config, progress, grey):
        say(console, label, text)
    before, started = len(progress["rows"]), time.perf_counter()
    epochs = Epochs(console, config, vae, before, of_the_mean(vae, data), data.unit)
    board = tensorboard(run) if config["tensorboard"] and ranks.first() else None

    def on_epoch(row):
        save(run, vae, optimizer, progress)
        if config["patience"] and best(progress["rows"]) is row and ranks.first():
            checkpoint.save_best(run, vae)
        if board is not None:
            for key in row.keys() - {"epoch"}:
                board.add_scalar(key, row[key], row["epoch"])
            board.flush()
        epochs.on_epoch(row)
        samples_of(row["epoch"], run, vae, data, config)

    with Interrupt().listen() as interrupt, epochs.shown():
        calls = {"on_step": epochs.on_step, "on_epoch": on_epoch}
        finite = fit(vae, optimizer, data, config, progress, interrupt=interrupt, **calls)
    epochs.close()
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
    said = f"\ntest -ELBO {last['test_neg_elbo_nats']:.2f} {data.unit} after {done} epochs"
    said += " (a cross entropy of grey pixels, no log-likelihood)" if grey else ""
    console.print(said, style="bold", soft_wrap=not console.is_terminal)
    if top["test_neg_elbo_nats"] < last["test_neg_elbo_nats"] - 1:
        console.print(f"(it was {top['test_neg_elbo_nats']:.2f} after epoch {top['epoch']}: fewer epochs fit better)")
    if (text := learned_scale(vae)) is not None:
        console.print(text)
    if done == before:
        console.print("no epoch was left to train, the pictures are drawn again; a larger --epochs goes on")
    taken = time.perf_counter() - started
    if config["report"] and ranks.first():
        report(run, data, console)
    console.print(f"{duration(taken)}; in {run}:")
    listing(console, run)
    console.print(f"what is well with it, and what is ill, with figures: vae-kernels doctor {run}")
    return 0


def opening(run, vae, data, config, progress, grey):
    """(label, sentence) pairs: what is trained, on what, and what to know before."""
    shape = "x".join(map(str, data.images.shape[1:]))
    n_train, n_test = map(len, data.split())
    dtype = str(data.images.dtype)[6:]
    yield "data", f"{data.source}: {n_train} to train on, {n_test} held out, each {shape} {dtype}"
    for note in data.notes:
        yield "note", note
    if data.table is not None:
        for kind, names in columns.described(data.table):
            yield "table", f"{kind}: {names}"
        yield "table", "--columns name=kind gives a column another kind, and name=skip leaves the column out"
    if copies := data.copies():
        yield "note", f"{copies} of {n_test} held-out rows are copies of rows to train on: the test is too easy"
    if grey:
        yield "note", quantities.grey(grey)
    size = sum(p.numel() for p in vae.parameters())
    yield (
        "model",
        f"{config['model']}, {config['latent_dim']} latents, {config['likelihood']}, prior {config['prior']}, "
        f"{size:,} parameters; {config['loss']} loss on {config['device']}"
        + (f", {ranks.count()} ranks" if ranks.count() > 1 else ""),
    )
    yield "run", f"{run}" + (f", going on after epoch {len(progress['rows'])}" if progress["rows"] else "")
    if (text := unfit(data, config)) is not None:
        yield "note", text


def say(console, label, text):
    """A label and a sentence. On a terminal, a long sentence goes on under its first word."""
    if not console.is_terminal:
        console.print(f"{label:7}{text}")
        return
    grid = Table.grid(Column(width=7), Column(overflow="fold"))
    grid.add_row(Text(label, "yellow" if label == "note" else "cyan"), text)
    console.print(grid, soft_wrap=False)


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
