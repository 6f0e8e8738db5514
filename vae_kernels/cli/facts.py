"""What the report of a run says of its training, and the command that the doctor suggests."""

import inspect
import shlex
from datetime import datetime

from ..doctor.facts import Facts
from . import checkpoint
from .options import OPTIONS
from .reading import columns

FLAGS = {"compiled": "--compile", "standardise": "--standardise"}
NOT_SHOWN = {"found", "scaling", "table", "report", "tensorboard", "samples_every", "data", "seed"}
NOT_REPEATED = {"device", "threads", "backend", "report", "tensorboard"}
STANDARDISE = "standardise each column"  # how the advice on columns of different scales begins


def facts_of(run, diagnosis):
    """The Facts of a run folder."""
    config, curves = checkpoint.load_config(run), checkpoint.load_metrics(run)
    found = config["found"]
    date = datetime.fromtimestamp((run / checkpoint.CONFIG).stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    epochs, seconds = len(curves["epoch"]), sum(curves["seconds"])
    options = {
        "data": f"{config['data'] or '5000 MNIST digits'}, {'x'.join(map(str, found['shape']))} {found['dtype']}, "
        f"crc32 {found['crc32']}",
        "trained": f"{date}: {epochs} epochs, {seconds:.0f} s",
        "seed": str(config["seed"]),
    }
    options |= {"version": ", ".join(f"{name} {config[name]}" for name in ("vae_kernels", "torch") if name in config)}
    options |= {_flag(key): str(value) for key, value in config.items() if key in OPTIONS.keys() - NOT_SHOWN}
    dims = checkpoint.load_dims(run)
    own = () if config["table"] is None else columns.modelled(columns.of_config(config["table"]))
    names = tuple(column.name for column in own)
    return Facts(command(run, config, diagnosis.cause, epochs), options, curves if epochs else {}, dims, names)


def command(run, config, cause, epochs):
    """The command to try first; "" if no option of the command is the advice."""
    more = max(2 * epochs, 1)
    longer = f"vae-kernels train --resume {shlex.quote(run.as_posix())} --epochs {more}"
    if config["schedule"] != "constant":  # a schedule has ended with its epochs, so the training begins anew
        longer = again(config, {"epochs": more})
    if cause.symptom == "effective beta":
        return again(config, {"beta": 1.0})
    if cause.symptom == "not converged":
        return longer if cause.advice.startswith("train longer") else again(config, {"lr": config["lr"] / 3})
    if cause.symptom == "no better than the mean":
        return longer
    if cause.symptom == "overfit":
        return again(config, {"patience": 10}) if config["patience"] is None else ""
    if cause.symptom == "holes in the latent space":
        return again(config, {"prior": "vamp"}) if (config["prior"], config["loss"]) == ("normal", "fused") else ""
    if cause.symptom == "blur":
        return again(config, {"latent_dim": 2 * config["latent_dim"]})
    if cause.symptom == "data" and STANDARDISE in cause.advice:
        return again(config, {"standardise": True})
    return ""


def again(config, change):
    """The command that trains anew with the same options, but for the changed ones."""
    from .train import train  # train imports this folder

    defaults = {name: option.default for name, option in inspect.signature(train).parameters.items()}
    words = ["vae-kernels", "train"]
    for key, value in (config | change).items():
        text = _number(value)
        if key == "colour" and value is not None:
            words.append(f"--{value}")
        elif key in FLAGS:
            words += [FLAGS[key]] * value
        elif key in change or (key in defaults and key not in NOT_REPEATED and text != _number(defaults[key])):
            words += [_flag(key), shlex.quote(text)]
    return " ".join(words)


def _flag(key):
    return f"--{key.replace('_', '-')}"


def _number(value):
    return f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value))
