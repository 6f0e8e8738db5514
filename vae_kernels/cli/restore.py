"""The data and the model of a run folder: for --resume, the doctor, `vk.load_run` and the commands that use a run."""

import os

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from . import UserError, checkpoint
from .build import build
from .data import Data, load
from .options import check_options
from .reading import How, columns

STAND_IN = 1024  # rows of noise, with which a model is built before it gets its weights


def how_of(config):
    """The options of a run that say how to read its data."""
    table = config.get("table")  # None before the training has recognised the columns
    own = {"columns": config["columns"], "table": table and columns.of_config(table)}
    return How(config["size"], config["colour"], config["standardise"], **own)


def data_of(run, config):
    """The data of a run, at the place that `config` names. UserError if these are not the data of the training."""
    place = config["data"]
    if place is not None and not os.path.exists(place):
        raise UserError(f"{run}: its data are no longer at {place}; --data says where they lie now")
    data = load(place, config["likelihood"], how_of(config))
    if data.describe() != config["found"]:
        raise UserError(f"{data.source} has changed since {run} was trained, or holds other data: its values differ")
    return data


def options_of(run, argument="run"):
    """The options of a run, checked. argument: the name of `run` in messages."""
    config = checkpoint.load_config(run, argument)
    check_options(config, run / checkpoint.CONFIG)
    return config


def model_of(run, config, file=checkpoint.MODEL):
    """The model of a run with the weights in `file`, in evaluation mode, on the CPU. The data are not read."""
    shape, dtype = config["found"].get("shape"), config["found"].get("dtype")
    whole = isinstance(shape, list) and len(shape) > 1 and all(type(n) is int and n > 0 for n in shape)
    if not whole or not isinstance(getattr(torch, str(dtype), None), torch.dtype):
        raise UserError(
            f"{run / checkpoint.CONFIG}: found is {config['found']}, expected the shape and dtype of the data"
        )
    rows = max(STAND_IN, 2 * (config["components"] or 0))
    noise = torch.rand(rows, *shape[1:], generator=torch.Generator().manual_seed(0))
    try:
        data = Data(noise, None, [], "", str(run), table=how_of(config).table)
        model = build(config | {"backend": "auto"}, data)
        model.load_state_dict(load_file(run / file))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise UserError(f"{run} cannot be read as a run ({str(error).splitlines()[0]})") from error
    return model.eval()
