"""The command `vae-kernels`. It needs the extra "demo"; the library itself never imports anything in here."""

import importlib.util
import sys

NEEDS = ("matplotlib", "mlxtend", "numpy", "PIL", "rich", "safetensors", "typer")


class UserError(Exception):
    """What the user can put right: shown as one sentence on stderr, without a traceback, and exit code 2."""


def main():
    """Entry point of `vae-kernels` and of `python -m vae_kernels`."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        sentence = f'error: vae-kernels needs {", ".join(missing)}; get it with: pip install "vae-kernels[demo]"'
        print(sentence, file=sys.stderr)
        raise SystemExit(2)
    app()()


def app():
    """The typer application. Built on call: typer may be missing where this package is imported."""
    import typer

    from .bench import bench
    from .doctor import doctor
    from .train import train

    application = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Fused ELBO for PyTorch.")
    application.command()(train)
    application.command()(bench)
    application.command()(doctor)
    return application
