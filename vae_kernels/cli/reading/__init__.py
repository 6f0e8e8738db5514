"""Reads the files that `--data` may name. Each reader gives what it found, and no reader changes a value.

    folder.py   folders of images
    arrays.py   .npy, .npz, and the idx files of MNIST
    columns.py  the columns of a table for --likelihood mixed: kinds, categories, scales
    tables.py   .csv, .tsv, .parquet, sparse .npz, .h5ad
    values.py   whether a likelihood takes these values

No reader unpickles anything. If a file is wrong, a `UserError` says in one sentence how, and what to do.
"""

import ctypes
import os
from typing import NamedTuple

import numpy as np


class How(NamedTuple):
    """The options of the command that say how to read.

    size         None, or the height and width of all images: an image is resized and its middle is taken
    colour       None, "grey" or "rgb": what all images become
    standardise  whether each column of a table is brought to mean 0 and standard deviation 1
    scaling      None for the mean and deviation of the rows to train on; or (mean [D], deviation [D]) of a training
    columns      None, or the text of --columns
    table        None for the columns as they are recognised; or those of a training, see columns.py
    """

    size: int | None = None
    colour: str | None = None
    standardise: bool = False
    scaling: tuple[list[float], list[float]] | None = None
    columns: str | None = None
    table: tuple | None = None


class Found(NamedTuple):
    """What a reader found.

    values    [N, ...] the rows of data
    labels    [N] of any type, or None
    held_out  how many of the last rows are the user's own test set; None if there is no such set
    notes     what was left out, or read in one of several ways: plain sentences
    """

    values: np.ndarray
    labels: np.ndarray | None = None
    held_out: int | None = None
    notes: tuple[str, ...] = ()


def memory():
    """Bytes of memory of this machine."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Windows: MEMORYSTATUSEX has two words of 32 bits, its size and the load, and then seven words of 64 bits, of which
    # the first is the memory in bytes.
    status = (ctypes.c_uint64 * 8)(64)
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(status):
        raise OSError("Windows does not say how much memory this machine has")
    return status[1]


def detail_of(error):
    """The text of an error of another library, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def joined(parts, labels):
    """(values, labels, held_out) of a training set and a test set, [train, test]."""
    labels = None if any(part is None for part in labels) else np.concatenate(labels)
    return np.concatenate(parts), labels, len(parts[1])
