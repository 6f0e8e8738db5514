"""Checks the options in the config.json of a run, which somebody may have edited or forged: one sentence says which
option is wrong. typer checks the options on the command line."""

import math

from ..formulas import ELEMENT
from . import UserError
from .prior import PriorName
from .reading.columns import is_table

# The parameters that all samples may share (build.py). The decoder predicts the first parameter of a likelihood.
SHARED = {"logvar", "logscale", "log_inverse_dispersion", "dropout_logits"}
LIKELIHOODS = [name for name, formula in ELEMENT.items() if SHARED.issuperset(formula.PARAMETERS[1:])]
LIKELIHOODS += ["mixed"]  # of a table; reading/columns.py says which columns
MODELS, LOSSES, COLOURS = ("mlp", "conv"), ("fused", "eager"), ("grey", "rgb")
SCHEDULES, PRECISIONS = ("constant", "cosine"), ("float32", "bf16")
# What a run of version 0.1 did before the option existed
BEFORE = {"size": None, "colour": None, "standardise": False, "scaling": None, "patience": None}
BEFORE |= {"schedule": "constant", "precision": "float32", "compiled": False, "tensorboard": False, "report": True}
BEFORE |= {"samples_every": None, "columns": None, "table": None}
LARGEST = 2**31 - 1


def one_of(names):
    return lambda v: isinstance(v, str) and v in names, f"one of {', '.join(names)}"


def whole(least):
    return lambda v: type(v) is int and least <= v <= LARGEST, f"an integer from {least} to {LARGEST}"


def number(least):
    return lambda v: type(v) in (int, float) and least <= v < math.inf, f"a finite number >= {least:g}"


def or_none(option):
    test, expected = option
    return lambda v: v is None or test(v), f"null, or {expected}"


def is_text(value):
    return isinstance(value, str) and "\0" not in value


def is_scaling(value):
    """Whether this is None, or (means, deviations): two lists of numbers of one length."""
    if value is None:
        return True
    pair = isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, (list, tuple)) for v in value)
    return pair and len(value[0]) == len(value[1]) and all(number(-math.inf)[0](v) for part in value for v in part)


TEXT = is_text, "a text"
YES_OR_NO = lambda v: isinstance(v, bool), "true or false"
# option -> (a function that tells whether a value is valid, the words for a valid value)
OPTIONS = {
    "data": or_none(TEXT),
    "likelihood": one_of(LIKELIHOODS),
    "prior": one_of([name.value for name in PriorName]),
    "components": or_none(whole(1)),
    "beta": number(0.0),
    "latent_dim": whole(1),
    "epochs": whole(1),
    "batch_size": whole(1),
    "lr": number(math.ulp(0.0)),
    "model": one_of(MODELS),
    "loss": one_of(LOSSES),
    "backend": TEXT,
    "device": TEXT,
    "threads": or_none(whole(1)),
    "seed": whole(0),
    "size": or_none(whole(1)),
    "colour": or_none(one_of(COLOURS)),
    "standardise": YES_OR_NO,
    "patience": or_none(whole(1)),
    "schedule": one_of(SCHEDULES),
    "precision": one_of(PRECISIONS),
    "compiled": YES_OR_NO,
    "tensorboard": YES_OR_NO,
    "report": YES_OR_NO,
    "samples_every": or_none(whole(1)),
    "scaling": (is_scaling, "null, or the means and deviations of the columns"),
    "columns": or_none(TEXT),
    "table": (is_table, "null, or the columns of a table"),
    "found": (lambda v: isinstance(v, dict), "what the data were like"),
}


def check_options(config, path):
    """UserError if an option is missing or has a value that is not valid."""
    missing = [key for key in OPTIONS if key not in config]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}")
    for key, (test, expected) in OPTIONS.items():
        if not test(config[key]):
            raise UserError(f"{path}: {key} is {str(config[key])[:50]!r}, expected {expected}")
    if (config["likelihood"] == "mixed") != (config["table"] is not None):
        raise UserError(f"{path}: table is {str(config['table'])[:50]!r}, beside the likelihood {config['likelihood']}")
