"""Broken files for `train --data` and `--resume`: good files in which bytes or values are changed. Each file must be
read, or refused with one sentence (UserError), and nothing may ever be unpickled. tests/api/test_fuzz.py tries some
files; `make soak-fuzz` tries many.
"""

import contextlib
import gzip
import io
import json
import pickle
import random
import shutil
import struct
import warnings
import zipfile
from unittest import mock

import numpy as np
import torch
from PIL import Image
from scipy import sparse

from vae_kernels.cli import UserError, checkpoint, fit, terminal
from vae_kernels.cli import train as command
from vae_kernels.cli.data import load
from vae_kernels.cli.options import BEFORE
from vae_kernels.cli.reading import How

X = np.random.default_rng(0).integers(0, 256, (12, 6, 5), dtype=np.uint8)
NUMBERS = (0, 1, -1, 2, 12, 255, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf"))
VALUES = (*NUMBERS, None, True, False, "", "x", "bernoulli", "eager", "cuda:9", [], {}, [[]], [1, "a"], {"a": 1}, "\0")
DTYPES = (
    "|O",
    "|u1",
    "<f8",
    ">f4",
    "<f2",
    "<i8",
    "|b1",
    "<c16",
    "|V3",
    "<U9",
    "|S2",
    "<M8[s]",
    "<m8[D]",
    "<U999999999",
)


class Bomb:
    """An object whose unpickling raises an error that no reader catches."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


# ---------------------------------------------------------------- good files


def npy(values, **settings):
    out = io.BytesIO()
    np.save(out, values, **settings)
    return out.getvalue()


def image(kind, mode="L"):
    out = io.BytesIO()
    Image.fromarray(X[0]).convert(mode).save(out, kind)
    return out.getvalue()


def npz(compressed, **arrays):
    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(out, **arrays)
    return out.getvalue()


def table(values, names=""):
    out = io.StringIO()
    np.savetxt(out, values, delimiter=",", header=names, comments="")
    return out.getvalue().encode()


def idx(values):
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def sparse_npz(values, dtype=np.float32):
    out = io.BytesIO()
    sparse.save_npz(out, sparse.csr_matrix(values.astype(dtype)))
    return out.getvalue()


def header(rng):
    """An .npy file with the header of one array and the bytes of another."""
    shape = rng.choice(((12, 30), (0,), (), (2, 10**15), (10**30,), (-1, 3), (12, "6"), [12, 30], 12, ((1, 2),)))
    descr = rng.choice((*DTYPES, [("a", "<f4")], [("a", "|O")], ("<f4", (2,)), 3, None, "f4, |O"))
    said = {"descr": descr, "fortran_order": rng.choice((True, False, 1, "no")), "shape": shape}
    if rng.random() < 0.2:
        said.pop(rng.choice([*said]))
    text = repr(said) if rng.random() < 0.9 else "(" * rng.choice((5, 5000))
    text = (text + " " * rng.choice((0, 60, 70000)))[: rng.choice((40, 200, 65000))] + "\n"
    version, length = rng.choice(((1, "<H"), (2, "<I"), (3, "<I"), (9, "<H")))
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(length, len(text)) + text.encode() + X.tobytes()


def entries(rng):
    """A zip file that has the names which the reader looks for, with any content."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", rng.choice((0, 8, 12, 14))) as z:
        warnings.simplefilter("ignore")  # zipfile warns about two entries with one name
        for _ in range(rng.randrange(4)):
            name = rng.choice(("x.npy", "x", "y.npy", "../x.npy", "z.npy", "/x.npy", "x.npy/"))
            z.writestr(name, rng.choice((npy(X), npy(np.arange(12)), header(rng), b"", X.tobytes(), BOMB)))
    return out.getvalue()


BOMB = pickle.dumps(Bomb())
OBJECTS = npy(np.array([Bomb()] * 12, object), allow_pickle=True)
PEOPLE = b"size,colour,rooms,on,where\n" + b"".join(
    f"{i}.5,{['red', 'green', 'blue'][i % 3]},{i % 4},{i % 2},here\n".encode() for i in range(12)
)
WHOLE = {
    "a.npy": (
        *(npy(X), npy(X / 255), npy(np.asfortranarray(X.reshape(12, 30))), OBJECTS, BOMB),
        npy(np.zeros((12, 4), [("a", "f4")])),
    ),
    "a.npz": (
        *(npz(False, x=X, y=np.arange(12)), npz(True, x=X, y=np.array(["a", "b"] * 6)), npz(False, q=X), OBJECTS),
        npz(True, x=X, y=np.array(["2020-01-01"] * 12, "M8[D]")),
        npz(True, x=X, y=np.zeros(12, [("a", "f4"), ("b", "i2")])),
        npz(False, x=np.array([Bomb()] * 12, object)),
    ),
    "a.png": (image("PNG"), image("PNG", "RGB"), image("PNG", "P"), image("JPEG"), image("GIF"), image("TIFF")),
    "a.jpg": (image("JPEG"), image("JPEG", "RGB"), image("BMP"), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    "a.webp": (image("WEBP", "RGB"), image("WEBP", "RGBA"), image("TIFF", "CMYK"), image("PPM")),
    "a.csv": (table(X.reshape(12, 30) / 255), table(X.reshape(12, 30), names="a,b,c"), b"a;b\n1;2\n3;4\n", b'"\n1,2\n'),
    "m.csv": (PEOPLE, PEOPLE.replace(b"red", b""), PEOPLE.replace(b"0.5", b"1e300"), b"a\nx\n", b"a,a\n1,2\n3,4\n"),
    "a-images-idx3-ubyte": (idx(X), idx(X.reshape(12, 30)), gzip.compress(idx(X))),
    "a-images-idx3-ubyte.gz": (gzip.compress(idx(X)), idx(X)),
    "s.npz": (sparse_npz(X.reshape(12, 30)), sparse_npz(X.reshape(12, 30), np.int64)),
}


def broken(rng, data):
    """The bytes, some of which are changed."""
    data = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        size = rng.choice((1, 1, 2, 4, 8, 64))
        how = rng.randrange(5)
        if how == 0:
            del data[at:]
        elif how == 1:
            data[at : at + size] = rng.randbytes(size)
        elif how == 2:
            data[at : at + size] = rng.choice((b"\0", b"\xff", b"\x7f")) * size
        elif how == 3:
            data[at:at] = data[: rng.randrange(200)]
        elif data and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


# ---------------------------------------------------------------- --data


@contextlib.contextmanager
def nothing_is_unpickled():
    def refuse(*_, **__):
        raise SystemExit("something was unpickled")

    with mock.patch("pickle.load", refuse), mock.patch("pickle.loads", refuse), mock.patch("os.system", refuse):
        yield


def judge(read):
    """A sentence that says what is wrong with the reading of these files, or None."""
    try:
        with nothing_is_unpickled(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except UserError as error:
        return None if "\n" not in str(error) and len(str(error)) < 1000 else f"not one sentence: {str(error)[:200]}"
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None


def data(rng, folder):
    """Tries one broken file for --data, and gives what is wrong with the answer, or None."""
    name = rng.choice([*WHOLE])
    make = rng.randrange(4)
    content = header(rng) if name == "a.npy" and make == 0 else entries(rng) if name == "a.npz" and make == 0 else None
    path = folder / name
    path.write_bytes(broken(rng, content or rng.choice(WHOLE[name])))
    if name in ("a.png", "a.jpg", "a.webp"):
        (folder / "b.png").write_bytes(image("PNG"))
    likelihood = rng.choice(("bernoulli", "gaussian", "zinb")) if name != "m.csv" else "mixed"
    how = How(*rng.choice(((None, None), (8, None), (None, "grey"), (8, "rgb"), (None, None, True))))
    if likelihood == "mixed":
        how = How(columns=rng.choice((None, "size=laplace", "rooms=poisson,on=skip", "colour", "=skip", "a=b", '"')))
    place = folder if (folder / "b.png").exists() else path
    if place == path:
        how = how._replace(size=None, colour=None)
    wrong = judge(lambda: load(place, likelihood, how).describe())
    for file in folder.iterdir():
        file.unlink()
    return wrong and f"{name}: {wrong}"


# ---------------------------------------------------------------- --resume


def finished(folder, likelihood="bernoulli"):
    """A run of one epoch. The functions below break its parts."""
    np.save(folder / "small.npy", X.reshape(12, 30))
    (folder / "people.csv").write_bytes(PEOPLE)
    place = str(folder / ("people.csv" if likelihood == "mixed" else "small.npy"))
    config = {"data": place, "likelihood": likelihood, "prior": "normal", "components": None}
    config |= {"beta": 1.0, "latent_dim": 2, "epochs": 1, "batch_size": 5, "lr": 1e-3, "model": "mlp", "loss": "fused"}
    config |= {"backend": "torch", "device": "cpu", "threads": None, "seed": 0}
    config |= BEFORE
    with mock.patch.object(terminal, "draw"), contextlib.redirect_stdout(io.StringIO()):
        command.run_training(config, set(), folder, likelihood, None)
    return folder / likelihood


def steps(run, vae, optimizer, data, config, progress):
    """Replaces the training: it runs one more epoch, so everything that was read must be usable."""
    config = config | {"epochs": len(progress["rows"]) + 1}
    ignore = {"interrupt": False, "on_step": lambda *_: None, "on_epoch": lambda *_: None}
    fit.fit(vae, optimizer, data, config, progress, **ignore)
    checkpoint.save_state(run, vae, optimizer, progress)


def changed(rng, value):
    """A JSON value in which one part is replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice([*value])
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], changed(rng, value[at]), *value[at + 1 :]]
    return rng.choice(VALUES)


def safetensors(rng, content):
    """A safetensors file in which a part of the header is changed."""
    (length,) = struct.unpack("<Q", content[:8])
    said, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    if rng.random() < 0.5:
        progress = json.loads(said["__metadata__"]["progress"])
        text = json.dumps(changed(rng, progress)) if rng.random() < 0.9 else rng.choice(("", "[", "[" * 100000, "NaN"))
        said["__metadata__"]["progress"] = text
    elif rng.random() < 0.5:
        key = rng.choice([k for k in said if k != "__metadata__"])
        said[rng.choice(("optimizer.0", "optimizer.a.step", "model.x", "optimizer.999.step", key + "x"))] = said.pop(
            key
        )
    else:
        said = changed(rng, said)
    text = json.dumps(said).encode()
    return struct.pack("<Q", len(text)) + text + rest


def resume(rng, folder, whole):
    """Tries one broken run folder for --resume, and gives what is wrong with the answer, or None."""
    run = folder / "run"
    shutil.copytree(whole, run)
    config, state = run / checkpoint.CONFIG, run / checkpoint.CHECKPOINT
    how = rng.randrange(5)
    if how == 0:
        config.write_bytes(broken(rng, config.read_bytes()))
    elif how == 1:
        config.write_text(rng.choice(("[" * 100000, '"' + "a" * 10**6, "9" * 10000, "{}", "\ufeff{}")))
    elif how == 2:
        config.write_text(json.dumps(changed(rng, json.loads(config.read_text()))))
    elif how == 3:
        state.write_bytes(safetensors(rng, state.read_bytes()))
    else:
        state.write_bytes(broken(rng, rng.choice((state.read_bytes(), BOMB, OBJECTS))))
    threads = torch.get_num_threads()
    defaults = json.loads((whole / checkpoint.CONFIG).read_text())
    options = {k: defaults[k] for k in defaults if k not in ("found", "vae_kernels", "torch", "torchrun")}
    with mock.patch.object(command, "go", steps):
        wrong = judge(lambda: command.run_training(options, set(), folder, None, run))
    torch.set_num_threads(threads)
    shutil.rmtree(run)
    return wrong and f"{('config bytes', 'config text', 'config value', 'header', 'state bytes')[how]}: {wrong}"


def run(seed, count, folder):
    """(the number of files that were read or refused, [(seed, what is wrong)])."""
    wholes, here = [finished(folder, likelihood) for likelihood in ("bernoulli", "mixed")], folder / "here"
    here.mkdir()
    found = []
    for i in range(seed * 10**9, seed * 10**9 + count):
        rng = random.Random(i)
        wrong = data(rng, here) if i % 3 else resume(rng, here, rng.choice(wholes))
        if wrong:
            found.append((i, wrong))
    return count - len(found), found
