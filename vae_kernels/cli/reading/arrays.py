"""Reads numpy's files, and the idx files in which MNIST is published."""

import gzip
import math
import zipfile
import zlib

import numpy as np

from .. import UserError
from . import Found, detail_of, joined, memory, tables

MAPPED = 1 << 30  # bytes; a larger .npy file is not read whole: the training reads the rows of each batch from the disk
KEYS = "one named 'x', 'x_train' and 'x_test', or a single one"


def read(path):
    """What an .npy or .npz file holds."""
    _check_size(path)
    try:
        # Pickled objects run code when they are loaded, so they are never allowed.
        large = path.suffix.lower() == ".npy" and path.stat().st_size >= MAPPED
        found = np.load(path, allow_pickle=False, mmap_mode="r" if large else None)
        with_keys = isinstance(found, np.lib.npyio.NpzFile)
        arrays = {key: found[key] for key in found.files} if with_keys else {"x": found}
    except Exception as error:  # broken bytes make numpy raise a dozen types of errors
        text = f"cannot be read as a numpy file; it may be empty, cut off or pickled ({detail_of(error)})"
        raise UserError(f"{path}: {text}") from error
    if with_keys and tables.is_sparse(arrays):
        return tables.sparse(path)
    strange = [key for key, value in arrays.items() if not isinstance(value, np.ndarray)]
    if strange:
        raise UserError(f"{path}: holds {sorted(strange)}, which are no arrays")
    if {"x_train", "x_test"} <= arrays.keys():
        return _two_sets(path, arrays)
    if "x" not in arrays and len(arrays) != 1:
        raise UserError(f"{path}: holds the arrays {sorted(arrays)}, expected {KEYS}")
    values = arrays["x"] if "x" in arrays else next(iter(arrays.values()))
    labels = _labels(path, "y", arrays.get("y"), "x", values) if "x" in arrays else None
    return Found(values, labels)


def _two_sets(path, arrays):
    parts = [arrays["x_train"], arrays["x_test"]]
    if parts[0].shape[1:] != parts[1].shape[1:] or parts[0].dtype != parts[1].dtype or parts[0].ndim < 2:
        came = " and ".join(f"{part.dtype} {part.shape}" for part in parts)
        raise UserError(f"{path}: 'x_train' and 'x_test' are {came}, expected rows of one shape and type")
    labels = [_labels(path, f"y_{s}", arrays.get(f"y_{s}"), f"x_{s}", x) for s, x in zip(("train", "test"), parts)]  # noqa: B905
    return Found(*joined(parts, labels))


def _labels(path, name, y, of, x):
    """The labels as [N]; [N, 1], as Keras has them, is the same."""
    if y is None:
        return None
    flat = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if flat.shape != x.shape[:1]:
        rows = len(x) if x.ndim else 0
        raise UserError(
            f"{path}: {name!r} has shape {y.shape}, expected one label for each of the {rows} rows of {of!r}"
        )
    return flat


def _check_size(path):
    """UserError if an archive unpacks to more than the memory of this machine: a few megabytes may unpack to a
    terabyte."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return  # no archive: numpy reads it, or says what is wrong
    if size > memory():
        raise UserError(f"{path}: unpacks to {size:.3g} bytes, more than this machine has memory")


# ---------------------------------------------------------------- idx, http://yann.lecun.com/exdb/mnist

IMAGES = "-images-idx3-ubyte"
TRAIN, TEST = ("train",), ("t10k", "test")


def is_idx(path):
    return path.name.removesuffix(".gz").endswith("-ubyte")


def idx_in(folder):
    """{stem: file} for the idx files of images in this folder, as torchvision leaves them."""
    files = sorted((file for file in folder.glob(f"*{IMAGES}*") if is_idx(file)), reverse=True)
    return {file.name.split(IMAGES)[0]: file for file in files}  # of a file and its .gz, the file


def read_idx_folder(path, files):
    """The training set and the test set of a folder of idx files."""
    sets = [next((files[stem] for stem in stems if stem in files), None) for stems in (TRAIN, TEST)]
    if None in sets:
        names = ", ".join(file.name for file in files.values())
        raise UserError(f"{path}: holds {names}, expected train{IMAGES} and t10k{IMAGES}; or give one file")
    found = [read_idx(file) for file in sets]
    return Found(*joined([f.values for f in found], [f.labels for f in found]))


def read_idx(path):
    """The images of an idx file, and their labels if the file of the labels lies beside it."""
    values = _idx(path)
    beside = path.with_name(path.name.replace(IMAGES, "-labels-idx1-ubyte"))
    labels = _idx(beside) if beside != path and beside.exists() else None
    if labels is not None and labels.shape != values.shape[:1]:
        raise UserError(f"{beside}: has shape {labels.shape}, expected one label for each of the {len(values)} images")
    return Found(values, labels)


def _idx(path):
    """Bytes 0 and 1 are 0, byte 2 is the type (8: uint8), byte 3 the number of dimensions, then the sizes."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            zero, kind, dims = int.from_bytes(file.read(2), "big"), *file.read(2)
            shape = [int.from_bytes(file.read(4), "big") for _ in range(dims)]
            if zero or kind != 8 or dims > 4 or math.prod(shape) > memory():
                raise ValueError(f"its header says type {kind} and shape {shape}")
            content = file.read(math.prod(shape) + 1)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read as an idx file of bytes ({detail_of(error)})") from error
    if len(content) != math.prod(shape):
        raise UserError(
            f"{path}: its header says shape {tuple(shape)}, but {len(content)} bytes follow; it may be cut off"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
