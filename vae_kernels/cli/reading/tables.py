"""Reads tables: .csv, .tsv and .parquet by pandas, sparse matrices by scipy, .h5ad by anndata."""

import csv
import importlib

import numpy as np

from .. import UserError
from . import Found, detail_of, memory

LABELS = "label", "labels", "class", "target", "y"  # columns of a table that are no data, in small letters
CELLS = "cell_type", "celltype", "cell_types", "leiden", "louvain"  # columns of an AnnData's obs
FRAMES = {".csv", ".tsv", ".parquet"}
SUFFIXES = {*FRAMES, ".h5ad"}


def read(path):
    """What a table holds."""
    suffix = path.suffix.lower()
    return _h5ad(path) if suffix == ".h5ad" else _of_frame(path)


def frame_of(path):
    """(a table with all its columns as pandas reads them, notes)"""
    frame, notes = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path), []
    if len(frame.columns) > 1 and str(frame.columns[0]) in ("Unnamed: 0", "__index_level_0__"):
        frame = frame.iloc[:, 1:]
        notes.append("left out the first column, which has no name: pandas writes the numbers of the rows there")
    return frame, notes


def _library(path, name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{path}: needs {name} to be read: pip install {name}") from error


def _csv(path):
    """A text file as a frame. The first line has the names of the columns, unless it has numbers alone."""
    pandas = _library(path, "pandas")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
        separator = max("\t,;", key=first.count) if path.suffix.lower() != ".tsv" else "\t"
        cells = next(csv.reader([first], delimiter=separator), [])
        header = None if cells and all(_is_number(cell) for cell in cells) else 0
        return pandas.read_csv(path, sep=separator, header=header, encoding="utf-8-sig")
    except Exception as error:  # pandas raises a dozen types
        raise UserError(f"{path}: cannot be read as a table ({detail_of(error)})") from error


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parquet(path):
    pandas = _library(path, "pandas")
    _library(path, "pyarrow")
    try:
        return pandas.read_parquet(path, engine="pyarrow")
    except Exception as error:
        raise UserError(f"{path}: cannot be read as a table ({detail_of(error)})") from error


def _of_frame(path):
    """The columns of numbers, and the labels if a column has such a name."""
    frame, notes = frame_of(path)
    labels = [column for column in frame.columns if str(column).lower() in LABELS]
    if labels:
        notes.append(f"the labels are the column {labels[0]!r}")
    data = frame.drop(columns=labels[:1])
    text = [str(column) for column in data.columns if data[column].dtype.kind not in "biuf"]
    if text:
        named = ", ".join(map(repr, text[:5])) + (", ..." if len(text) > 5 else "")
        remedy = f"take --likelihood mixed, or turn them into numbers; labels are read from a column {LABELS[0]!r}"
        raise UserError(f"{path}: {len(text)} of {len(frame.columns)} columns hold no numbers ({named}); {remedy}")
    values = data.to_numpy() if data.shape[1] else np.zeros((len(data), 0))
    if values.dtype == object:  # a bool column beside numbers
        values = values.astype(np.float64)
    return Found(values, frame[labels[0]].astype(str).to_numpy() if labels else None, None, tuple(notes))


# ---------------------------------------------------------------- matrices of counts


def is_sparse(arrays):
    """Whether these are the arrays of a file that scipy.sparse.save_npz made."""
    return {"format", "shape", "data"} <= arrays.keys()


def sparse(path):
    """The matrix of a sparse .npz, dense."""
    library = _library(path, "scipy.sparse")
    try:
        matrix = library.load_npz(path)  # never unpickles
        matrix.check_format() if hasattr(matrix, "check_format") else None
    except Exception as error:
        raise UserError(f"{path}: cannot be read as a sparse matrix ({detail_of(error)})") from error
    return Found(_dense(path, matrix))


def _dense(path, matrix):
    """A matrix as an array. Counts that are stored as floats become small integers first, which saves memory."""
    if not hasattr(matrix, "toarray"):
        return np.asarray(matrix)
    matrix = _as_counts(matrix.tocsr())
    size = matrix.shape[0] * matrix.shape[1] * matrix.dtype.itemsize
    if size > memory():
        raise UserError(f"{path}: unpacks to {size:.3g} bytes, more than this machine has memory; keep fewer columns")
    return matrix.toarray()


def _as_counts(matrix):
    data = matrix.data
    if (
        len(data) == 0
        or data.dtype.kind not in "iuf"
        or not (np.isfinite(data).all() and (data == np.floor(data)).all())
    ):
        return matrix
    for kind in (np.int16, np.int32):
        if np.iinfo(kind).min <= data.min() and data.max() <= np.iinfo(kind).max:
            return matrix.astype(kind)
    return matrix


def _h5ad(path):
    """The counts of an AnnData file: X, or layers["counts"] where X has other numbers than counts."""
    anndata = _library(path, "anndata")
    try:
        found = anndata.read_h5ad(path)
        name, matrix = "X", found.X
        if "counts" in found.layers and not _are_counts(matrix):
            name, matrix = 'layers["counts"]', found.layers["counts"]
        labels = next((found.obs[column] for column in CELLS if column in found.obs), None)
    except Exception as error:
        raise UserError(f"{path}: cannot be read as an AnnData file ({detail_of(error)})") from error
    notes = [f"the values are those of {name}, {found.n_obs} cells x {found.n_vars} genes"]
    if labels is not None:
        notes.append(f"the labels are obs[{labels.name!r}]")
    labels = None if labels is None else labels.astype(str).to_numpy()
    return Found(_dense(path, matrix), labels, None, tuple(notes))


def _are_counts(matrix):
    data = np.asarray(matrix.data if hasattr(matrix, "toarray") else matrix)
    return data.size == 0 or bool(np.isfinite(data).all() and (data >= 0).all() and (data == np.floor(data)).all())
