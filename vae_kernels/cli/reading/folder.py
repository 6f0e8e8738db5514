"""Reads a folder of images, as users of torchvision.datasets.ImageFolder have them: each sub-folder is a class.

Hidden files are no data: `.ipynb_checkpoints` of Jupyter and `._1.png` of a Mac hold copies. If the folder has a
folder `train` and a folder `test` or `val`, then these are the user's own split.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .. import UserError
from . import Found, arrays, detail_of, memory

# Pillow reads these formats by itself. For EPS, Pillow starts Ghostscript, so EPS is left out.
FORMATS = "PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pbm"}
HELD_OUT = "test", "val", "valid", "validation"
PLAIN = {"L": "grey", "RGB": "RGB"}
CONVERTED = "CMYK", "YCbCr", "LAB", "HSV"  # Pillow converts these to RGB; it would clamp the values of other modes


def read(path, how):
    """The images below `path`, and their classes."""
    idx = arrays.idx_in(path)
    if idx:
        if how.size or how.colour:
            raise UserError(f"{path}: holds idx files; --size, --grey and --rgb are for folders of images")
        return arrays.read_idx_folder(path, idx)
    files, notes = _files(path)
    train, held_out, more = _split(path, files)
    files = [*train, *held_out]
    kinds = list(_each(_kind, files))
    _check_alike(path, files, kinds, how)
    pixels = np.stack(list(_each(lambda file: _pixels(file, how), files)))
    labels = _classes(path, files, 2 if held_out else 1)
    if any(mode.startswith("I;16") for mode, _, _ in kinds):
        notes += ("the images have 16 bits: they are read as x / 65535",)
    return Found(pixels, labels, len(held_out) or None, notes + more)


def _each(function, files):
    """The results for all files, in their order. Pillow decodes outside of Python's lock."""
    with ThreadPoolExecutor() as pool:
        yield from pool.map(function, files)


def _files(path):
    """(the image files, sentences about what was left out)"""
    # by the parts of the names, because Windows orders paths without regard to the case
    everything = sorted((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.parts)
    hidden = [file for file in everything if _is_hidden(file.relative_to(path))]
    seen = [file for file in everything if not _is_hidden(file.relative_to(path))]
    files = [file for file in seen if file.suffix.lower() in SUFFIXES]
    others = Counter(file.suffix.lower() or "no suffix" for file in seen if file.suffix.lower() not in SUFFIXES)
    found = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
    if not files:
        there = f"there are {found}" if found else "there is no file"
        there += f" ({len(hidden)} hidden)" if hidden else ""
        raise UserError(f"{path}: no image in this folder: {there}; expected {', '.join(sorted(SUFFIXES))}")
    notes = (f"left out {len(hidden)} hidden files, such as {hidden[0].relative_to(path)}",) if hidden else ()
    return files, notes + ((f"left out files that are no images: {found}",) if found else ())


def _is_hidden(relative):
    return any(part.startswith((".", "__MACOSX")) for part in relative.parts)


def _split(path, files):
    """(files to train on, files held out, notes). Without folders of these names all files are in the first list."""
    top = {file: file.relative_to(path).parts[0] for file in files if file.parent != path}
    names = set(top.values())
    held_out = next((name for name in HELD_OUT if name in names), None)
    if "train" not in names or held_out is None:
        return files, [], ()
    unused = [file for file in files if top.get(file) not in ("train", held_out)]
    notes = [f"the split is that of the folders train and {held_out}"]
    if unused:
        folders = ", ".join(sorted({top.get(file, ".") for file in unused}))
        notes.append(f"left out {len(unused)} images that are in neither of both ({folders})")
    return *([file for file in files if top.get(file) == name] for name in ("train", held_out)), tuple(notes)


def _classes(path, files, depth):
    """The name of the folder of each image, at this depth below `path`; None if all images have one."""
    names = [file.relative_to(path).parts[depth - 1 : -1] for file in files]
    names = [parts[0] if parts else "." for parts in names]
    return np.array(names) if len(set(names)) > 1 else None


# ---------------------------------------------------------------- one image


def _open(file):
    from PIL import Image

    return Image.open(file, formats=FORMATS)


def _guarded(file, function):
    try:
        with _open(file) as image:
            return function(image)
    except UserError:
        raise
    except Exception as error:  # Pillow raises a dozen types
        raise UserError(
            f"{file}: cannot be read as an image; it may be empty or cut off ({detail_of(error)})"
        ) from error


def _kind(file):
    """(mode, size, whether some pixels are transparent) of a file, after what changes no pixel: a palette becomes its
    colours, and black and white become grey."""

    def look(image):
        mode = image.mode
        transparent = mode in ("RGBA", "LA", "PA") and image.getchannel("A").getextrema()[0] < 255
        transparent |= mode in ("P", "L", "RGB", "1") and "transparency" in image.info
        mode = {"1": "L", "P": "RGB", "PA": "RGB", "RGBA": "RGB", "LA": "L"}.get(mode, mode)
        width, height = image.size
        if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # the camera was turned
            width, height = height, width
        return mode, (width, height), transparent

    return _guarded(file, look)


def _pixels(file, how):
    """The pixels of one file, [H, W] or [H, W, 3]: uint8, or float32 in [0, 1] where the file has 16 bits."""
    from PIL import Image, ImageOps

    def convert(image):
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            pixels = Image.fromarray(np.asarray(image).astype(np.float32) / 65535)
            return np.asarray(_resized(pixels, how.size))
        if image.mode in ("RGBA", "LA", "PA", "P"):
            white = Image.new("RGBA", image.size, "white")
            opaque = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
            image = opaque.convert("L") if image.mode == "LA" else opaque
        target = {"grey": "L", "rgb": "RGB", None: "L" if image.mode == "1" else image.mode}[how.colour]
        return np.asarray(_resized(image.convert(target), how.size))

    return _guarded(file, convert)


def _resized(image, size):
    """The image with its shorter side resized to `size`, and its middle: size x size."""
    if size is None:
        return image
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


# ---------------------------------------------------------------- all images


def _check_alike(path, files, kinds, how):
    """UserError if the images are not of one kind and size: the sentence names the option that makes them alike."""
    for file, (mode, _, transparent) in zip(files, kinds, strict=True):
        wide = mode.startswith("I;16")
        if mode not in PLAIN and not wide and (how.colour is None or mode not in CONVERTED):
            remedy = "--grey or --rgb converts all images" if mode in CONVERTED else "convert this file first"
            raise UserError(f"{file}: has mode {mode}, expected grey or RGB; {remedy}")
        if wide and how.colour == "rgb":
            raise UserError(f"{file}: has 16 bits of grey; --rgb is for images of 8 bits")
        if transparent and how.colour is None:
            raise UserError(f"{file}: has transparent pixels; --rgb or --grey puts all images on white")
    modes = Counter("16-bit grey" if mode.startswith("I;16") else PLAIN.get(mode, mode) for mode, _, _ in kinds)
    if len(modes) > 1 and (how.colour is None or "16-bit grey" in modes):
        found = " and ".join(f"{count} {mode}" for mode, count in modes.most_common())
        remedy = "convert those of 16 bits first" if "16-bit grey" in modes else "--grey or --rgb makes all alike"
        raise UserError(f"{path}: holds {found} images; {remedy}")
    sizes = Counter(size for _, size, _ in kinds)
    if len(sizes) > 1 and how.size is None:
        small, large = min(sizes), max(sizes)
        side = min(64, *(min(size) for size in sizes))
        found = f"{len(sizes)} sizes, from {small[0]}x{small[1]} to {large[0]}x{large[1]}"
        raise UserError(
            f"{path}: the {len(files)} images have {found}; --size {side} resizes all, and takes the middle"
        )
    width, height = (how.size, how.size) if how.size else next(iter(sizes))
    channels = 3 if (how.colour or next(iter(modes))).lower() == "rgb" else 1
    if (size := len(files) * width * height * channels) > memory():
        raise UserError(
            f"{path}: unpacks to {size:.3g} bytes, more than this machine has memory; give a smaller --size"
        )
