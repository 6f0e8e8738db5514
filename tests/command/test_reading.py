"""`--data` as people have their data: folders of photos, tables, counts, the files of MNIST. `notes` says what was left
out, and what was read in one of several ways."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import sparse

from vae_kernels.cli import UserError
from vae_kernels.cli.data import load
from vae_kernels.cli.reading import How, arrays

pandas = pytest.importorskip("pandas")
RNG = np.random.default_rng(0)


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def picture(path, *shape, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(*shape)).save(path, **settings)


# ---------------------------------------------------------------- folders


def test_hidden_files_are_no_data(tmp_path):
    for i in range(4):
        picture(tmp_path / f"{i}.png", 6, 5)
        picture(tmp_path / ".ipynb_checkpoints" / f"{i}-checkpoint.png", 6, 5)
    picture(tmp_path / "__MACOSX" / "0.png", 6, 5)
    (tmp_path / "._1.png").write_bytes(b"AppleDouble")
    data = load(tmp_path, "bernoulli")
    assert len(data.images) == 4 and data.labels is None
    assert any("left out 6 hidden files" in note for note in data.notes)


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_the_split_of_the_folders_is_the_split(tmp_path, held_out):
    for part, count in (("train", 5), (held_out, 3)):
        for i in range(count):
            picture(tmp_path / part / ("cat" if i % 2 else "dog") / f"{i}.png", 6, 5)
    picture(tmp_path / "notes" / "0.png", 6, 5)
    data = load(tmp_path, "bernoulli")
    train, test = data.split()
    assert train.tolist() == [0, 1, 2, 3, 4] and test.tolist() == [5, 6, 7]
    assert data.classes == ["cat", "dog"] and data.labels.bincount().tolist() == [3, 5]
    assert any("left out 1 images" in note and "notes" in note for note in data.notes)


def test_the_first_folder_is_the_class(tmp_path):
    for name in ("a/2020/x.png", "a/2021/x.png", "b/x.png"):
        picture(tmp_path / name, 6, 5)
    data = load(tmp_path, "bernoulli")
    assert data.classes == ["a", "b"] and data.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "gif", "ppm"])
def test_formats(tmp_path, suffix):
    for i in range(3):
        picture(tmp_path / f"{i}.{suffix}", 6, 5)
    data = load(tmp_path, "bernoulli")
    assert data.images.shape[-2:] == (6, 5) and data.images.dtype == torch.uint8


def test_photos_of_all_kinds_become_alike(tmp_path):
    picture(tmp_path / "a.png", 20, 30, 3)
    picture(tmp_path / "b.jpg", 33, 21, 3)
    picture(tmp_path / "c.png", 25, 25)
    Image.fromarray(pixels(20, 22, 4)).save(tmp_path / "d.webp", lossless=True)
    Image.fromarray(pixels(20, 22, 3)).convert("CMYK").save(tmp_path / "e.tif")
    for colour, channels in (("rgb", 3), ("grey", 1)):
        images = load(tmp_path, "bernoulli", How(16, colour)).images
        assert images.shape == (5, channels, 16, 16) and images.dtype == torch.uint8
    with pytest.raises(UserError, match=r"--rgb or --grey"):
        load(tmp_path, "bernoulli", How(16))
    with pytest.raises(UserError, match=r"the 5 images have \d sizes, from 21x33 to 30x20; --size 20"):
        load(tmp_path, "bernoulli", How(None, "rgb"))


def test_the_middle_is_taken(tmp_path):
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 200
    for i in range(2):
        Image.fromarray(wide).save(tmp_path / f"{i}.png")
    assert (load(tmp_path, "bernoulli", How(8)).images == 200).all()


def test_a_transparent_pixel_is_white(tmp_path):
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[..., 3] = 0
    for i in range(2):
        Image.fromarray(clear).save(tmp_path / f"{i}.png")
    assert (load(tmp_path, "bernoulli", How(None, "rgb")).images == 255).all()


def test_an_opaque_alpha_is_no_transparency(tmp_path):
    values = pixels(2, 6, 5, 4)
    values[..., 3] = 255
    for i in range(2):
        Image.fromarray(values[i]).save(tmp_path / f"{i}.png")
    np.testing.assert_array_equal(load(tmp_path, "bernoulli").images, values[..., :3].transpose(0, 3, 1, 2))


def test_sixteen_bits(tmp_path):
    values = RNG.integers(0, 65536, (3, 6, 5)).astype(np.uint16)
    for i in range(3):
        Image.fromarray(values[i]).save(tmp_path / f"{i}.png")
    data = load(tmp_path, "bernoulli")
    np.testing.assert_array_equal(data.images[:, 0], values.astype(np.float32) / 65535)
    assert any("65535" in note for note in data.notes)


def test_a_camera_that_was_turned(tmp_path):
    values = pixels(6, 9)
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(2):
        Image.fromarray(values).save(tmp_path / f"{i}.png", exif=exif)
    np.testing.assert_array_equal(load(tmp_path, "bernoulli").images[0, 0], np.rot90(values, -1))


# ---------------------------------------------------------------- arrays


def test_two_sets_in_one_file(tmp_path):
    x, y = pixels(9, 6, 5), np.arange(9) % 3
    np.savez(tmp_path / "a.npz", x_train=x[:6], y_train=y[:6, None], x_test=x[6:], y_test=y[6:, None])
    data = load(tmp_path / "a.npz", "bernoulli")
    np.testing.assert_array_equal(data.images[:, 0], x)
    assert data.split()[1].tolist() == [6, 7, 8] and data.labels.tolist() == y.tolist()
    np.savez(tmp_path / "b.npz", x_train=x[:6], x_test=x[6:, :5])
    with pytest.raises(UserError, match="expected rows of one shape and type"):
        load(tmp_path / "b.npz", "bernoulli")


def idx(path, values):
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes((gzip.compress if path.suffix == ".gz" else bytes)(head + values.tobytes()))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_files_of_mnist(tmp_path, suffix):
    x, y = pixels(9, 6, 5), (np.arange(9) % 3).astype(np.uint8)
    for stem, rows in (("train", slice(6)), ("t10k", slice(6, 9))):
        idx(tmp_path / f"{stem}-images-idx3-ubyte{suffix}", x[rows])
        idx(tmp_path / f"{stem}-labels-idx1-ubyte{suffix}", y[rows])
    data = load(tmp_path, "bernoulli")
    np.testing.assert_array_equal(data.images[:, 0], x)
    assert data.labels.tolist() == y.tolist() and data.split()[1].tolist() == [6, 7, 8]
    one = tmp_path / f"train-images-idx3-ubyte{suffix}"
    assert len(load(one, "bernoulli").images) == 6
    one.write_bytes(one.read_bytes()[:20] if not suffix else gzip.compress(gzip.decompress(one.read_bytes())[:20]))
    with pytest.raises(UserError, match=r"header says shape .* but 4 bytes follow"):
        load(tmp_path, "bernoulli")


def test_a_large_file_is_not_read_whole(tmp_path, monkeypatch):
    x = RNG.random((40, 6, 5, 3), dtype=np.float32)
    np.save(tmp_path / "a.npy", x)
    whole = load(tmp_path / "a.npy", "bernoulli")
    monkeypatch.setattr(arrays, "MAPPED", 0)
    mapped = load(tmp_path / "a.npy", "bernoulli")
    assert torch.equal(whole.images, mapped.images) and whole.describe() == mapped.describe()
    memory = np.lib.format.open_memmap(tmp_path / "a.npy", mode="r+")
    memory[7] = 0.25
    memory.flush()
    assert (mapped.images[7] == 0.25).all() and not (whole.images[7] == 0.25).all()


def test_counts(tmp_path):
    x = RNG.poisson(3, (20, 7))
    for dtype, kind in ((np.int64, torch.int16), (np.float64, torch.int16), (np.uint8, torch.uint8)):
        np.save(tmp_path / "a.npy", x.astype(dtype))
        images = load(tmp_path / "a.npy", "zinb").images
        assert images.dtype == kind and np.array_equal(images, x)
    np.save(tmp_path / "a.npy", x + 40_000)
    assert load(tmp_path / "a.npy", "poisson").images.dtype == torch.int32
    for wrong, said in (
        (np.log1p(x), r"the value .* in row 0 at \(\d,\), expected whole counts.*raw counts"),
        (-x, "-"),
    ):
        np.save(tmp_path / "a.npy", wrong)
        with pytest.raises(UserError, match=said):
            load(tmp_path / "a.npy", "negative_binomial")


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "coo_matrix"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_sparse_counts(tmp_path, kind, dtype):
    x = RNG.poisson(0.3, (20, 7))
    sparse.save_npz(tmp_path / "a.npz", getattr(sparse, kind)(x.astype(dtype)))
    images = load(tmp_path / "a.npz", "negative_binomial").images
    assert images.dtype == torch.int16 and np.array_equal(images, x)


def test_an_anndata_file(tmp_path):
    anndata = pytest.importorskip("anndata")
    x = RNG.poisson(0.5, (20, 7)).astype(np.float32)
    cells = pandas.DataFrame({"cell_type": ["a", "b"] * 10}, index=[f"c{i}" for i in range(20)])
    found = anndata.AnnData(np.log1p(x), obs=cells, layers={"counts": sparse.csr_matrix(x)})
    found.write_h5ad(tmp_path / "a.h5ad")
    data = load(tmp_path / "a.h5ad", "zinb")
    assert np.array_equal(data.images, x) and data.classes == ["a", "b"]
    assert any("counts" in note for note in data.notes)


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t"), ("csv", ";")])
def test_text_tables(tmp_path, names, suffix, separator):
    x = RNG.random((20, 4))
    frame = pandas.DataFrame(x, columns=list("abcd"))
    frame.to_csv(tmp_path / f"t.{suffix}", sep=separator, index=False, header=names)
    np.testing.assert_array_equal(load(tmp_path / f"t.{suffix}", "bernoulli").images, x.astype(np.float32))


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    x = RNG.random((20, 4))
    pandas.DataFrame(x, columns=list("abcd")).assign(label=["u", "v"] * 10).to_parquet(tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", "bernoulli")
    np.testing.assert_array_equal(data.images, x.astype(np.float32))
    assert data.classes == ["u", "v"]


def test_labels_and_row_numbers_of_a_table(tmp_path):
    pandas.DataFrame({"a": RNG.random(10), "Label": list("uv" * 5)}).to_csv(tmp_path / "t.csv")
    data = load(tmp_path / "t.csv", "bernoulli")
    assert data.images.shape == (10, 1) and data.classes == ["u", "v"] and len(data.notes) == 2


def test_text_in_a_table_is_named(tmp_path):
    pandas.DataFrame({"a": RNG.random(10), "city": ["x"] * 10}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match=r"1 of 2 columns hold no numbers \('city'\)"):
        load(tmp_path / "t.csv", "bernoulli")


def test_standardise(tmp_path):
    x = RNG.standard_normal((50, 3)) * [1, 100, 0] + [0, 5, 7]
    pandas.DataFrame(x).to_csv(tmp_path / "t.csv", index=False, header=False)
    advised = load(tmp_path / "t.csv", "gaussian")
    assert any("--standardise" in note for note in advised.notes)
    data = load(tmp_path / "t.csv", "gaussian", How(standardise=True))
    rows = data.images[data.split()[0]].double()
    torch.testing.assert_close(rows.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(rows.std(0, correction=0), torch.tensor([1.0, 1, 0]).double(), rtol=0, atol=1e-6)
    assert data.describe() == advised.describe()  # the checksum is that of the values in the file
    again = load(tmp_path / "t.csv", "gaussian", How(standardise=True, scaling=data.scaling))
    assert torch.equal(again.images, data.images)
    with pytest.raises(UserError, match="--standardise: bernoulli needs values of its own range"):
        np.save(tmp_path / "a.npy", RNG.random((20, 4)))
        load(tmp_path / "a.npy", "bernoulli", How(standardise=True))


def test_an_option_without_effect_is_an_error(tmp_path):
    np.save(tmp_path / "a.npy", pixels(20, 6, 5))
    for how, said in (
        (How(size=8), "--size"),
        (How(colour="grey"), "--grey"),
        (How(standardise=True), "--standardise"),
    ):
        with pytest.raises(UserError, match=said):
            load(tmp_path / "a.npy", "gaussian", how)


# ---------------------------------------------------------------- leaks


def test_copies_between_train_and_test_are_counted(tmp_path):
    x = pixels(40, 6, 5)
    np.save(tmp_path / "a.npy", x)
    data = load(tmp_path / "a.npy", "bernoulli")
    assert data.copies() == 0
    train, test = data.split()
    x[test[:3]] = x[train[:3]]
    np.save(tmp_path / "a.npy", x)
    assert load(tmp_path / "a.npy", "bernoulli").copies() == 3
