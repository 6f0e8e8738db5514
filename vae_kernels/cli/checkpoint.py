"""The run folder. Every file is replaced whole (`os.replace`), so a run that is killed leaves the last good file.

checkpoint.safetensors has everything that a resumed run needs: weights, optimizer, random state, and the progress as
JSON. It is one file, so its parts always belong to the same step. model.safetensors (the weights alone) and metrics.csv
are made from the same state, for people and other programs. Nothing is ever pickled.
"""

import contextlib
import csv
import io
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from . import UserError
from .fit import ROW
from .options import BEFORE

CONFIG, CHECKPOINT, METRICS = "config.json", "checkpoint.safetensors", "metrics.csv"
DIMS = "kl_per_dim.csv"  # the KL of each latent after each epoch
MODEL, BEST = "model.safetensors", "best.safetensors"  # the weights of the last epoch, and of the best with --patience


def new_run(out, name, default):
    """Make and return the folder out/name. name: None for `default`. If there is such a folder already, the new one is
    the first free one of name-2, name-3, ..."""
    if name is not None and (name in ("", ".", "..") or Path(name).name != name):
        raise UserError(f"--name: got {name!r}, expected a plain folder name; --out says where it goes")
    first = Path(out) / (name or default)
    number = 1
    while True:
        run = first if number == 1 else first.with_name(f"{first.name}-{number}")
        try:
            run.mkdir(parents=True)
            return run
        except OSError as error:
            if not (isinstance(error, FileExistsError) and run.exists()):  # else a part of the path --out is a file
                raise UserError(f"cannot make the folder {run}: {error.strerror}") from error
        number += 1


def write(path, data):
    """Write `data`, bytes or text, to `path`. If that fails, the old file stays."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # the disk may be full: free the part that was written
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def find_job(out, job):
    """The run folder in `out` that this launch of torchrun has made, or None."""
    for path in Path(out).glob(f"*/{CONFIG}"):
        if load_config(path.parent).get("torchrun") == job:
            return path.parent
    return None


def save_config(run, config):
    write(run / CONFIG, json.dumps(config, indent=2) + "\n")


def load_config(run, argument="run"):
    """config.json of a run folder. UserError if `run` is no run folder. argument: the name of `run` in the message."""
    path = Path(run) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{argument}: {run} is not a folder that vae-kernels train has made: {path} is unreadable"
        ) from error
    if not isinstance(config, dict):
        raise UserError(f"{argument}: {path} holds a {type(config).__name__}, expected the options of a run")
    return BEFORE | config


def save_state(run, vae, optimizer, progress):
    """Write the checkpoint, the weights and the metrics.

    progress: a dict for JSON. Its `rows` has one dict for each finished epoch, all with the same keys. Its `dims`, if
    there, has the KL of each latent after each epoch; it has a file of its own.
    """
    dims = progress.get("dims")
    progress = {key: value for key, value in progress.items() if key != "dims"}
    model = {name: tensor.detach().cpu().contiguous() for name, tensor in vae.state_dict().items()}
    tensors = {f"model.{name}": tensor for name, tensor in model.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor.cpu().contiguous() for name, tensor in state.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_initialized():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    write(run / CHECKPOINT, save(tensors, metadata={"progress": json.dumps(progress)}))
    write(run / MODEL, save(model))
    table = io.StringIO()
    if progress["rows"]:
        writer = csv.DictWriter(table, progress["rows"][0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(progress["rows"])
    write(run / METRICS, table.getvalue())
    if dims:
        head = ",".join(["epoch", *(f"kl_{i}_nats" for i in range(len(next(iter(dims.values())))))])
        lines = [f"{epoch}," + ",".join(f"{kl:.6g}" for kl in row) for epoch, row in dims.items()]
        write(run / DIMS, "\n".join([head, *lines, ""]))


def load_dims(run):
    """{epoch: the KL of each latent [L]} of kl_per_dim.csv; {} if the run has none. UserError if the file is no table
    of numbers."""
    path = Path(run) / DIMS
    if not path.exists():
        return {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        if any(len(row) != len(head) for row in rows):
            raise ValueError("its rows have different lengths")
        return {int(epoch): [float(kl) for kl in row] for epoch, *row in rows}
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as the KL of each latent ({error})") from error


def save_best(run, vae):
    """Write the weights of the epoch with the best held-out -ELBO so far."""
    write(run / BEST, save({name: tensor.detach().cpu().contiguous() for name, tensor in vae.state_dict().items()}))


def load_metrics(run):
    """{metric: its value after each epoch} of metrics.csv. UserError if the file is no table of numbers."""
    path = Path(run) / METRICS
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in ROW}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as the metrics of a run") from error


def load_state(run, vae, optimizer):
    """Restore the weights, the optimizer and torch's random state that save_state() saved; return the progress."""
    path = Path(run) / CHECKPOINT
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            progress = json.loads(file.metadata()["progress"])
        _check_progress(progress)
        vae.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        state = {}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = tensor
        _check_state(state, optimizer)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        torch.set_rng_state(tensors["random.cpu"])
        if torch.cuda.is_initialized() and "random.cuda" in tensors:  # a run that was on a CPU has no "random.cuda"
            torch.cuda.set_rng_state(tensors["random.cuda"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"--resume: {path} cannot be read, or does not fit its {CONFIG} ({detail})") from error
    epochs = len(progress["rows"])
    dims = {epoch: row for epoch, row in load_dims(run).items() if epoch <= epochs}
    return progress | ({"dims": dims} if dims else {})


def _check_progress(progress):
    """ValueError if fit() cannot continue from this progress."""
    numbers = {"step": int, "loss_sum": (int, float), "seconds": (int, float)}
    good = isinstance(progress, dict) and isinstance(progress.get("rows"), list)
    good = good and all(_is_number(progress.get(key), kind) for key, kind in numbers.items()) and progress["step"] >= 0
    for row in progress["rows"] if good else ():
        good = good and isinstance(row, dict) and tuple(row) == ROW and all(map(_is_number, row.values()))
    if not good:
        raise ValueError("its progress is not that of a run")


def _is_number(value, kind=(int, float)):
    return isinstance(value, kind) and not isinstance(value, bool) and abs(value) <= 1e300


def _check_state(state, optimizer):
    """ValueError if `state` is not Adam's state for these parameters. Before the first step the state is empty."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, tensors in state.items():
        like = parameters[index] if 0 <= index < len(parameters) else None
        expected = {} if like is None else {"step": (), "exp_avg": like.shape, "exp_avg_sq": like.shape}
        found = {name: t.shape for name, t in tensors.items() if t.dtype == torch.float32}
        if found != expected or len(found) != len(tensors):
            raise ValueError(f"the optimizer's state of parameter {index} is not Adam's")
