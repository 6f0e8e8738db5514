"""Whether the options of a training go together, and whether --resume may change an option of a run."""

import math

from . import UserError, checkpoint, ranks
from .options import check_options
from .prior import check_prior

EAGER = ("bernoulli", "gaussian")  # the likelihoods that eager_loss.py has
# On --resume: these options do not change what a step computes. The checksum says whether the data are the same.
MAY_CHANGE = {"data", "epochs", "patience", "device", "threads", "compiled", "report", "tensorboard", "samples_every"}


def check(config):
    """UserError for the mistakes that typer does not find."""
    for key, least in (("beta", 0.0), ("lr", math.ulp(0.0))):
        if not least <= config[key] < math.inf:
            raise UserError(f"--{key}: got {config[key]:g}, expected a finite number {'>= 0' if least == 0 else '> 0'}")
    if config["loss"] == "eager":
        if ranks.count() > 1:
            raise UserError("--loss eager draws other noise on each rank; under torchrun: --loss fused")
        if config["backend"] != "auto":
            raise UserError(f"--backend {config['backend']} has no effect with --loss eager; leave one of them out")
        if config["likelihood"] not in EAGER:
            raise UserError(f"--likelihood {config['likelihood']} needs --loss fused; eager has {' and '.join(EAGER)}")
        if config["precision"] != "float32" or config["compiled"]:
            raise UserError("--precision and --compile need --loss fused; eager is float32, as people write it by hand")
    check_prior(config)


def resumed_config(run, config, typed):
    """The options of the run. Options in MAY_CHANGE come from the command line if they are there. Any other difference
    is a UserError."""
    old = checkpoint.load_config(run, "--resume")
    check_options(old, run / checkpoint.CONFIG)
    check(old)
    if old["schedule"] == "cosine" and "epochs" in typed and config["epochs"] != old["epochs"]:
        raise UserError(f"--epochs: {run} has a step size that falls to 0 at epoch {old['epochs']}; begin a new run")
    clash = [key for key in sorted(typed & config.keys() - MAY_CHANGE) if config[key] != old[key]]
    clash += sorted(typed & {"out", "name"})  # --resume names the folder already
    if clash:
        flags = ", ".join(
            f"--{key.replace('_', '-')}" + (f" (the run has {old[key]})" if key in old else "") for key in clash
        )
        raise UserError(f"--resume: {run} cannot go on with another {flags}; leave it out or begin a new run")
    kept = {key: old[key] for key in (*config, "found", "scaling", "table")}
    return kept | {key: config[key] for key in typed & MAY_CHANGE}
