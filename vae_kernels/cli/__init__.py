"""The command `vae-kernels`. It needs the extra "demo". The library itself never imports this folder."""

import importlib.util
import sys

NEEDS = ("matplotlib", "mlxtend", "numpy", "PIL", "rich", "safetensors", "typer")


class UserError(Exception):
    """A mistake that the user can correct. It is shown as one sentence on stderr, without a traceback; exit code 2."""


def main():
    """Entry point of `vae-kernels` and of `python -m vae_kernels`."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        sentence = f'error: vae-kernels needs {", ".join(missing)}; get it with: pip install "vae-kernels[demo]"'
        print(sentence, file=sys.stderr)
        raise SystemExit(2)
    app()()


def app():
    """The typer application. It is built here and not at import, because typer may not be installed."""
    import typer

    from .bench import bench
    from .doctor import doctor
    from .train import train

    application = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Fused ELBO for PyTorch.")
    application.command()(train)
    application.command()(bench)
    application.command()(doctor)
    return application
