"""The command `vae-kernels`, and `vk.load_run`. They need the extra "demo". The library imports nothing else of this
folder."""

import importlib.util
import sys

NEEDS = ("matplotlib", "mlxtend", "numpy", "PIL", "rich", "safetensors", "typer")


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

    application = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Fused ELBO for PyTorch.")
    for command in (train, doctor, encode, sample, reconstruct, bench):
        application.command()(command)
    return application
