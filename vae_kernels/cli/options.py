"""The options of a run as its config.json holds them: of one that was edited or forged, which option is wrong is said
in one sentence. What the command line gives has been checked by typer."""

import math

from ..formulas import LIKELIHOODS
from . import UserError
from .prior import PriorName

IMAGE_LIKELIHOODS = [name for name, formula in LIKELIHOODS.items() if formula.SUPPORT != "counts"]  # of pixels
MODELS, LOSSES = ("mlp", "conv"), ("fused", "eager")
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


TEXT = is_text, "a text"
# option -> whether a value is one of it, and what it should be
OPTIONS = {
    "data": or_none(TEXT),
    "likelihood": one_of(IMAGE_LIKELIHOODS),
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
    "found": (lambda v: isinstance(v, dict), "what the data were like"),
}


def check_options(config, path):
    """UserError if one of the options is missing, or of another type or size than it can have."""
    missing = [key for key in OPTIONS if key not in config]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}")
    for key, (test, expected) in OPTIONS.items():
        if not test(config[key]):
            raise UserError(f"{path}: {key} is {str(config[key])[:50]!r}, expected {expected}")
