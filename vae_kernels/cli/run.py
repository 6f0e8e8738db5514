"""`vk.load_run`: from a run of `vae-kernels train` to its use in Python.

This file imports the rest of the folder only in a call: a user of the library may not have the packages of the command.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from . import UserError, missing

if TYPE_CHECKING:
    import os

    import pandas

    from ..models.vae import VAE
    from .data import Data


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished or stopped run of `vae-kernels train`.

    path     the folder of the run
    vae      the VAE with its weights, on the CPU and in evaluation mode. `vae.likelihood` and
             `vae.prior` are those of the training. To train further, call `vae.train()` and use an optimizer.
    config   the options of the training: a dict of plain values
    metrics  {name: [a value for each epoch]}, in nats per sample: train_neg_elbo_nats, test_neg_elbo_nats, ...
    """

    path: Path
    vae: VAE
    config: dict[str, Any] = dataclasses.field(repr=False)
    metrics: dict[str, list[float]] = dataclasses.field(repr=False)

    def data(self, place: str | os.PathLike[str] | None = None) -> Data:
        """The data of the training, with `images`, `labels`, `classes` and `split()`.

        place: where the data lie now; None for the place at the training. The run has a checksum of the data.
            ValueError if the data have another checksum.
        """
        from .restore import data_of

        config = self.config if place is None else self.config | {"data": str(place)}
        return _plainly(lambda: data_of(self.path, config))

    def read(self, place: str | os.PathLike[str]) -> torch.Tensor:
        """Other data, [N, ...], read as the training read its data: with the same size and colour of images, and with
        the mean and deviation of the training's table. The VAE takes the rows as they are.

        ValueError if a file cannot be read, or if its rows have another shape.
        """
        from .data import load
        from .restore import how_of

        how = how_of(self.config)._replace(scaling=self.config.get("scaling"))
        found = _plainly(lambda: load(place, self.config["likelihood"], how)).images
        expected = tuple(self.config["found"]["shape"][1:])
        if found.shape[1:] != expected:
            raise ValueError(f"place: {place} has rows of shape {tuple(found.shape[1:])}, expected {expected}")
        return found

    def table(self, x: torch.Tensor) -> pandas.DataFrame:
        """Rows x [N, width] of a run with --likelihood mixed, as a table with the columns and values of the training:

            recon = run.vae.decode(run.vae.sample_prior(1000))
            run.table(run.vae.likelihood.sample(recon)).to_csv("drawn.csv", index=False)

        x: draws of `run.vae.likelihood.sample`, or means. If x has the probabilities of categories, the table has the
        most probable category. ValueError for a run with another likelihood.
        """
        from .reading import columns

        if self.config["table"] is None:
            raise ValueError(f"table: got a run of {self.config['likelihood']!r}, expected a run of 'mixed'")
        return columns.decoded(x.detach().cpu(), columns.of_config(self.config["table"]))


def load_run(path: str | os.PathLike[str], weights: Literal["last", "best"] = "last") -> Run:
    """The run in the folder `path`, which `vae-kernels train` has made, on the CPU.

        run = vk.load_run("runs/digits-bernoulli-fused")
        mu, logvar = run.vae.encode(run.read("more-digits.npy"))
        images = run.vae.sample(64)

    weights: "last" for the weights of the last epoch. "best", for a run with --patience: the weights of the epoch with
             the best held-out -ELBO.

    load_run reads only json and safetensors files. It unpickles nothing, and does not read the data. ImportError if a
    package of the command is missing. ValueError if the folder is not a run, or if a file of the run is broken.
    """
    if names := missing():
        raise ImportError(f'vk.load_run needs {", ".join(names)}; get it with: pip install "vae-kernels[demo]"')
    from . import checkpoint
    from .restore import model_of, options_of

    run, files = Path(path), {"last": checkpoint.MODEL, "best": checkpoint.BEST}
    if weights not in files:
        raise ValueError(f"weights: got {weights!r}, expected one of 'last', 'best'")

    def read() -> Run:
        config = options_of(run, "path")
        return Run(run, model_of(run, config, files[weights]), config, checkpoint.load_metrics(run))

    return _plainly(read)


def _plainly(read):
    """What `read` gives. A mistake of the user is a ValueError here, as everywhere in the library."""
    try:
        return read()
    except UserError as error:
        raise ValueError(str(error).replace("--data says", "place says")) from error
