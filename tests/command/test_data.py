"""`--data` reads a file without changing its values. Whatever is wrong with a file, the error is one sentence."""

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from vae_kernels.cli import UserError
from vae_kernels.cli.data import load
from vae_kernels.cli.reading import arrays as arrays_


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_default_is_the_digits():
    data = load(None, "bernoulli")
    assert data.images.shape == (5000, 1, 28, 28) and data.images.dtype == torch.uint8
    assert data.images.max() == 255 and torch.equal(data.labels.bincount(), torch.full((10,), 500))
    train, test = data.split()
    assert (len(train), len(test)) == (4500, 500)
    assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(5000))
    assert torch.equal(test, load(None, "gaussian").split()[1])


ARRAYS = {
    "grey": (noise(20, 6, 5), (20, 1, 6, 5)),
    "vectors": (noise(20, 7), (20, 7)),
    "channels first": (noise(20, 3, 6, 5), (20, 3, 6, 5)),
    "channels last": (noise(20, 6, 5, 3), (20, 3, 6, 5)),
    "float64": (noise(20, 6, 5) / 255, (20, 1, 6, 5)),
    "float16": ((noise(20, 6, 5) / 255).astype(np.float16), (20, 1, 6, 5)),
    "bool": (noise(20, 6, 5) > 99, (20, 1, 6, 5)),
    "fortran order": (np.asfortranarray(noise(20, 6, 5)), (20, 1, 6, 5)),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays(tmp_path, case):
    values, shape = ARRAYS[case]
    np.save(tmp_path / "a.npy", values)
    images = load(tmp_path / "a.npy", "bernoulli").images
    assert images.shape == shape
    assert images.dtype == (torch.float32 if values.dtype.kind == "f" else torch.uint8)
    expected = values.transpose(0, 3, 1, 2) if case == "channels last" else values
    expected = expected.reshape(shape) * (255 if case == "bool" else 1)
    np.testing.assert_array_equal(images.numpy(), expected.astype(images.numpy().dtype))


def test_npz_with_labels(tmp_path):
    x, y = noise(4, 6, 5), np.array(["b", "a", "b", "c"])
    np.savez(tmp_path / "a.npz", x=x, y=y, more=np.zeros(3))
    data = load(tmp_path / "a.npz", "bernoulli")
    assert np.array_equal(data.images[:, 0], x)
    assert data.classes == ["a", "b", "c"] and data.labels.tolist() == [1, 0, 1, 2]
    np.savez(tmp_path / "b.npz", whatever=x)
    data = load(tmp_path / "b.npz", "bernoulli")
    assert np.array_equal(data.images[:, 0], x) and data.labels is None


def test_gaussian_takes_any_finite_value(tmp_path):
    values = 100 * np.random.default_rng(0).standard_normal((20, 7), dtype=np.float32)
    np.save(tmp_path / "a.npy", values)
    assert np.array_equal(load(tmp_path / "a.npy", "gaussian").images, values)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("1", 1), ("P", 3)])
def test_folder(tmp_path, mode, channels):
    for i in range(3):
        Image.fromarray(noise(3, 6, 5, 3)[i]).convert(mode).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    data = load(tmp_path, "bernoulli")
    assert data.images.shape == (3, channels, 6, 5) and data.images.dtype == torch.uint8 and data.labels is None
    first = np.asarray(Image.open(tmp_path / "0.png").convert("RGB" if channels == 3 else "L"))
    np.testing.assert_array_equal(data.images[0].permute(1, 2, 0).numpy(), first.reshape(6, 5, channels))


def test_folder_of_classes(tmp_path):
    for i, name in enumerate(("dog", "cat", "dog")):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(noise(6, 5)).save(tmp_path / name / f"{i}.JPG")
    data = load(tmp_path, "bernoulli")
    assert data.classes == ["cat", "dog"] and data.labels.tolist() == [0, 1, 1]


def save(path, values, **kwargs):
    np.save(path, values, **kwargs)
    return path


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def text(path, content=""):
    path.write_text(content)
    return path


def arrays(path, **values):
    np.savez(path, **values)
    return path


def member(path, name, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path


def png(path, *shape):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(noise(*shape)).save(path)
    return path


def wide(path):
    Image.fromarray(noise(6, 5).astype(np.uint16) * 257).save(path)
    return path


def deep(path):
    Image.fromarray(noise(6, 5).astype(np.float32)).save(path)
    return path


X = noise(20, 6, 5)
BROKEN = {
    "missing": (lambda d: d / "no.npy", "no.npy: no such file or folder"),
    "other type": (lambda d: text(d / "a.doc", "1,2"), r"a.doc: expected a file of the kind .npy, .npz, .csv.* or a f"),
    "empty npy": (lambda d: text(d / "a.npy"), "a.npy: cannot be read as a numpy file"),
    "empty npz": (lambda d: text(d / "a.npz"), "a.npz: cannot be read as a numpy file"),
    "text": (lambda d: text(d / "a.npy", "hello, I am no array" * 9), "a.npy: cannot be read as a numpy file"),
    "cut npy": (lambda d: cut(save(d / "a.npy", X)), "a.npy: cannot be read as a numpy file"),
    "cut header": (lambda d: cut(save(d / "a.npy", X), 0.05), "a.npy: cannot be read as a numpy file"),
    "no array in npz": (lambda d: member(d / "a.npz", "x", b"1, 2, 3"), r"a.npz: holds \['x'\], which are no arrays"),
    "a name too long": (lambda d: d / ("a" * 5000), "aaa: no such file or folder"),
    "no file name": (lambda d: d / "a\0.npy", "no such file or folder"),
    "cut npz": (lambda d: cut(arrays(d / "a.npz", x=X)), "a.npz: cannot be read as a numpy file"),
    "pickle": (lambda d: save(d / "a.npy", np.array([{}, 1]), allow_pickle=True), "a.npy: cannot be read .*pickle"),
    "pickle in npz": (lambda d: arrays(d / "a.npz", x=np.array([{}, 1], object)), "a.npz: cannot be read .*pickle"),
    "wrong keys": (lambda d: arrays(d / "a.npz", a=X, b=X), r"holds the arrays \['a', 'b'\], expected one named 'x'"),
    "no arrays": (lambda d: arrays(d / "a.npz"), r"holds the arrays \[\], expected one named 'x'"),
    "labels": (lambda d: arrays(d / "a.npz", x=X, y=np.arange(3)), r"'y' has shape \(3,\), expected .* 20 rows"),
    "scalar": (lambda d: save(d / "a.npy", np.float32(3)), r"has shape \(\), expected rows of data"),
    "one dim": (lambda d: save(d / "a.npy", np.zeros(9)), r"has shape \(9,\), expected rows of data"),
    "no rows": (lambda d: save(d / "a.npy", X[:0]), r"has shape \(0, 6, 5\), expected rows"),
    "one row": (lambda d: save(d / "a.npy", X[:1]), "has 1 row, expected at least 2"),
    "channels": (
        lambda d: save(d / "a.npy", noise(20, 4, 6, 5)),
        r"gives rows of shape \(4, 6, 5\), .*1 or 3 channels",
    ),
    "five dims": (lambda d: save(d / "a.npy", noise(2, 3, 4, 5, 6)), r"gives rows of shape \(3, 4, 5, 6\)"),
    "bits as bytes": (
        lambda d: save(d / "a.npy", (X > 0.5).astype(np.uint8)),
        "only 0 and 1, .* 0 and 1/255; save it as",
    ),
    "int64": (
        lambda d: save(d / "a.npy", X.astype(np.int64)),
        r"has dtype int64 and values from 0 to 25., expected uint8 .*if these are pixels, save x.astype\(np.uint8\)",
    ),
    "complex": (lambda d: save(d / "a.npy", X * 1j), "has dtype complex128, expected uint8"),
    "strings": (lambda d: save(d / "a.npy", np.array([["a"], ["b"]])), "has dtype <U1, expected uint8"),
    "0 to 255": (
        lambda d: save(d / "a.npy", X * 1.0),
        r"has values between 0 and 255, expected in \[0, 1\] for the bernou",
    ),
    "negative": (lambda d: save(d / "a.npy", X / 128 - 1), r"has values between -1 and 0.99\d*, expected in \[0, 1\]"),
    "nan": (
        lambda d: save(d / "a.npy", np.where(X > 250, np.nan, 0)),
        r"values that are not finite: \d+ of 600 values .* the first is NaN, in row \d+ at \(\d, \d\), expected in \[0",
    ),
    "no images": (lambda d: text(d / "a.txt").parent, "no image in this folder: there are 1 .txt; expected .bmp"),
    "empty png": (lambda d: text(d / "a.png").parent, "a.png: cannot be read as an image"),
    "cut png": (lambda d: cut(png(d / "a.png", 60, 50)).parent, "a.png: cannot be read as an image"),
    "mixed size": (
        lambda d: [png(d / "a.png", 6, 5), png(d / "b.png", 6, 7)] and d,
        "the 2 images have 2 sizes, from 5x6 to 7x6; --size 5 resizes all",
    ),
    "mixed kind": (
        lambda d: [png(d / "a.png", 6, 5), png(d / "b.png", 6, 5, 3)] and d,
        "holds 1 grey and 1 RGB images; --grey or --rgb makes all alike",
    ),
    "alpha": (lambda d: png(d / "a.png", 6, 5, 4).parent, "a.png: has transparent pixels; --rgb or --grey puts"),
    "16 bit beside 8 bit": (
        lambda d: [wide(d / "a.png"), png(d / "b.png", 6, 5)] and d,
        "holds 1 16-bit grey and 1 grey images; convert those of 16 bits first",
    ),
    "32 bit": (lambda d: deep(d / "a.tif").parent, "a.tif: has mode F, expected grey or RGB; convert this file first"),
    "one image": (lambda d: png(d / "a.png", 6, 5).parent, "has 1 row, expected at least 2"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_data_is_one_sentence(tmp_path, case):
    make, message = BROKEN[case]
    with pytest.raises(UserError, match=message) as caught:
        load(make(tmp_path), "bernoulli")
    assert "\n" not in str(caught.value)


def test_a_header_without_end_is_one_short_sentence(tmp_path):
    header = b"(" * 5000 + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(UserError, match=r"a.npy: cannot be read as a numpy file") as caught:
        load(tmp_path / "a.npy", "bernoulli")
    assert len(str(caught.value)) < 1000


def test_what_unpacks_to_more_than_there_is_memory_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((1000, 1000), np.uint8))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(arrays_, "memory", lambda: 900_000)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(UserError, match=r"a.npz: unpacks to 1e\+06 bytes, more than this machine has memory"):
        load(path, "bernoulli")


@pytest.mark.parametrize("kind", ["EPS", "PCX", "ICO"])
def test_another_format_under_the_name_of_an_image_is_not_opened(tmp_path, kind):
    """A png file may hold another format. An EPS file would start Ghostscript, which runs the code in the file."""
    Image.fromarray(noise(6, 5)).save(tmp_path / "a.png", kind)
    with pytest.raises(UserError, match=r"a.png: cannot be read as an image"):
        load(tmp_path, "bernoulli")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_gaussian_needs_finite_float32(tmp_path, value):
    x = np.zeros((5, 4))
    x[3, 2] = value
    with pytest.raises(UserError, match=r"expected (finite for the gaussian|what float32 can hold)"):
        load(save(tmp_path / "a.npy", x), "gaussian")
