"""The command `vae-kernels`, and `vk.load_run`. They need the extra "demo". The library imports nothing else of this
folder."""

import importlib.util
import sys
from typing import Annotated

NEEDS = ("matplotlib", "mlxtend", "numpy", "PIL", "rich", "safetensors", "typer")


EPILOG = (
    "A first look: vae-kernels train --epochs 20, then vae-kernels doctor runs/digits-bernoulli-fused. "
    "--install-completion makes the shell complete options."
)


class UserError(Exception):
    """A mistake that the user can correct. It is shown as one sentence on stderr, without a traceback; exit code 2."""


def missing():
    """The names of the packages that the command needs and that are not installed."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


def main():
    """Entry point of `vae-kernels` and of `python -m vae_kernels`."""
    if names := missing():
        sentence = f'error: vae-kernels needs {", ".join(names)}; get it with: pip install "vae-kernels[demo]"'
        print(sentence, file=sys.stderr)
        raise SystemExit(2)
    app()()


def app():
    """The typer application. It is built here and not at import, because typer may not be installed."""
    import typer

    from .bench import bench
    from .doctor import doctor
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

    application = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, callback=options, epilog=EPILOG)
    for command in (train, doctor, encode, sample, reconstruct, bench):
        application.command()(command)
    return application
