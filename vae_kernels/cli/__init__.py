"""The command `vae-kernels`, and `vk.load_run`. They need the extra "demo". The library imports nothing else of this
folder."""

import importlib.util
import io
import sys
from typing import Annotated

NEEDS = ("matplotlib", "mlxtend", "numpy", "PIL", "rich", "safetensors", "typer")


# Each is a line at the end of a command's --help. The key "" is for vae-kernels itself.
EXAMPLES = {
    "": (
        "A first look:",
        "vae-kernels train --epochs 20",
        "vae-kernels doctor runs/digits-bernoulli-fused",
        "--install-completion makes the shell complete commands and options.",
    ),
    "train": (
        "vae-kernels train --epochs 20",
        "vae-kernels train --data photos/ --size 64 --rgb --model conv --name photos",
        "vae-kernels train --data people.csv --likelihood mixed --columns id=skip",
        "vae-kernels train --data cells.h5ad --likelihood zinb --patience 10",
        "vae-kernels train --beta 0.5,1,4",
        "vae-kernels train --resume runs/photos --epochs 200",
        "torchrun --nproc-per-node 2 -m vae_kernels train",
    ),
    "doctor": ("vae-kernels doctor runs/photos", "vae-kernels doctor runs/photos --data /mnt/photos"),
    "audit": (
        "vae-kernels audit losses.py:my_loss",
        "vae-kernels audit losses.py:my_loss --shape 16x1x28x28/20 --probabilities",
        "vae-kernels audit models.losses:my_loss --likelihood zinb --shape 16x2000/10",
        "vae-kernels audit train.py:my_loss --step train_step --html audit.html",
    ),
    "encode": ("vae-kernels encode runs/photos --data more-photos/ --out z.csv",),
    "sample": ("vae-kernels sample runs/photos -n 64 --out samples.png",),
    "reconstruct": ("vae-kernels reconstruct runs/photos --out reconstructions.png",),
    "bench": (
        "vae-kernels bench",
        "vae-kernels bench --shape 128x784/20 --compile none",
        "vae-kernels bench --shape 64x2000/10 --likelihood zinb --outputs 3",
        "vae-kernels bench all --out bench/results",
    ),
    "env": ("vae-kernels env", "vae-kernels env --json"),
}
GROUPS = {
    "Train and judge": ("train", "doctor", "audit"),
    "Use a run": ("encode", "sample", "reconstruct"),
    "Measure": ("bench",),
    "Report a mistake of ours": ("env",),
}


class UserError(Exception):
    """A mistake that the user can correct. It is shown as one sentence on stderr, without a traceback; exit code 2."""


def missing():
    """The names of the packages that the command needs and that are not installed."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


def main():
    """Entry point of `vae-kernels` and of `python -m vae_kernels`."""
    if names := missing():
        if sys.argv[1:2] == ["env"]:  # somebody who reports a mistake may lack the packages
            from .env import show

            return show("--json" in sys.argv)
        sentence = f'error: vae-kernels needs {", ".join(names)}; get it with: pip install "vae-kernels[demo]"'
        print(sentence, file=sys.stderr)
        raise SystemExit(2)
    # On Windows a pipe has an old code page, which lacks characters that the user's own files have.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()()


def app():
    """The typer application. It is built here and not at import, because typer may not be installed."""
    import typer

    from .audit import audit
    from .bench import bench
    from .doctor import doctor
    from .env import show
    from .train import train
    from .use import encode, reconstruct, sample

    def say_version(wanted: bool):
        if wanted:
            from .. import __version__

            print(f"vae-kernels {__version__}")
            raise typer.Exit()

    def options(
        version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=say_version, help="Say the version, and end.")
        ] = False,
    ):
        """Train variational autoencoders, judge the trained models, and use them."""

    def env(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False):
        """Say what is here: versions, backends with reasons, processor, GPU. It shows no path, user or host."""
        show(as_json)

    settings = {"no_args_is_help": True, "pretty_exceptions_enable": False, "callback": options}
    application = typer.Typer(**settings, epilog=_lines(""))
    commands = {f.__name__: f for f in (train, doctor, audit, encode, sample, reconstruct, bench, env)}
    for group, names in GROUPS.items():
        for name in names:
            application.command(rich_help_panel=group, epilog=_lines(name))(commands[name])
    return application


def _lines(name):
    """The examples of a command as the end of its --help: an empty line keeps two lines apart there."""
    return "\n\n".join(EXAMPLES[name] if not name else ("Examples:", *EXAMPLES[name]))
