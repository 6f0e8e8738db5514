"""The epochs of a training on the console: a row for each, and on a terminal also a live row and a bar.

A file or a pipe gets each row, with its alarm written out. On a terminal a long training shows every tenth row, and an
alarm is written once: a row in which it still holds has a mark.
"""

import time
from contextlib import nullcontext

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.text import Text

from ..doctor.verdicts import alarm
from .alarm import glance, warning

HEAD = "epoch  train -ELBO  test -ELBO = reconstruction +    KL   active units"
SHORT = 20  # on a terminal a training of at most so many epochs shows each row
EVERY = 10  # ... and a longer one every tenth
PAUSE = 0.2  # seconds between two looks at the loss: to read the loss waits for the device
MARK, ALARM = "  ILL", "bold red"


def duration(seconds):
    """A duration in words."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Times(ProgressColumn):
    """How long the training has run, and how long it will."""

    def render(self, task):
        left = "" if task.time_remaining is None else f", {duration(task.time_remaining)} left"
        return Text(f"{duration(task.elapsed or 0.0)} gone{left}")


class Epochs:
    """Shows the epochs of a training. known: -ELBO of the data's mean, or None. unit: the words of data.Data.

    `with epochs.shown():` has the live row and the bar. on_step() and on_epoch() are what fit() calls.
    """

    def __init__(self, console, config, vae, done, known, unit):
        self.console, self.config, self.vae, self.known, self.unit = console, config, vae, known, unit
        self.terminal, self.looked = console.is_terminal, 0.0
        columns = BarColumn(), TextColumn("{task.percentage:.0f}%"), Times()
        self.bar = Progress(*columns, console=console)
        self.task = self.bar.add_task("", total=config["epochs"], completed=done)
        self.every = EVERY if config["epochs"] > SHORT else 1
        self.first = done + 1
        self.kind = ""  # of the alarm that was written last
        self.hidden = None  # the row of the last epoch, where it was not printed
        self.live = Live(console=console, transient=True, refresh_per_second=5) if self.terminal else nullcontext()

    def shown(self):
        """The context in which the training runs."""
        self.console.print(f"\n{self.unit}:\n{HEAD}", style="bold")
        return self.live

    def on_step(self, epoch, step, steps, loss, x):
        """The live row and the bar."""
        if not self.terminal or time.monotonic() - self.looked < PAUSE:
            return
        self.looked = time.monotonic()
        kl, active = glance(self.vae, x)
        text = f"{epoch:5d}  {loss.item():11.2f}  {'in training':>10}  {'':14} {kl:7.2f}   {self._of(active)}"
        ill = alarm(kl, active, self.config["beta"])
        self.bar.update(self.task, completed=epoch - 1 + step / steps)
        now = Text.assemble((text, "dim"), (MARK if ill else "", ALARM))
        self._live(*([] if self.hidden is None else [self.hidden]), now, refresh=True)

    def on_epoch(self, row):
        """The row of an epoch that has ended."""
        numbers = row["test_kl_nats"], row["active_units"], self.config["beta"], row["test_neg_elbo_nats"], self.known
        text = (
            f"{row['epoch']:5d}  {row['train_neg_elbo_nats']:11.2f}  {row['test_neg_elbo_nats']:10.2f}   "
            f"{row['test_reconstruction_nats']:14.2f} {row['test_kl_nats']:7.2f}   {self._of(row['active_units'])}"
        )
        if not self.terminal:
            self.console.print(text + warning(*numbers))
            return
        ill = alarm(*numbers)
        kind = ill.split(":")[0].split(",")[0]  # the sentence without its numbers
        if ill and kind != self.kind:
            self.console.print(Text(f"ILL  {ill}", ALARM))
        if self.kind and not ill:
            self.console.print(Text("well  the alarm is over", "green"))
        changed, self.kind = kind != self.kind, kind
        self.hidden = Text.assemble(text, (MARK if ill else "", ALARM))
        if changed or row["epoch"] == self.first or row["epoch"] % self.every == 0:
            self.close()
        else:
            self._live(self.hidden)

    def close(self):
        """Print the row of the last epoch, if it was not printed."""
        if self.hidden is not None:
            self._live()
            self.console.print(self.hidden)
        self.hidden = None

    def _live(self, *rows, refresh=False):
        self.live.update(Group(*rows, self.bar), refresh=refresh)

    def _of(self, active):
        return f"{active:4d}/{self.config['latent_dim']}"
