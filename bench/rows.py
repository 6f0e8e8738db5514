"""Reads the committed results and groups their rows into comparisons."""

import math
from dataclasses import asdict
from pathlib import Path

from vae_kernels.timing import results, steps, suites
from vae_kernels.timing.case import shown
from vae_kernels.timing.contenders import COMPILE, COPY, EAGER, OURS
from vae_kernels.timing.measure import AGAIN
from vae_kernels.timing.table import LOSS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
NUMBERS = {"median_us", "p20_us", "p80_us", "runs", "disturbed", "first_us", "graph_us", "host_us", "kernels"}
NUMBERS |= {"peak_bytes", "least_bytes", "copy_bytes_per_s", "error", "batch", "dims", "latents", "threads", "incoming"}


PARTS = {
    "objective": "",
    "loss": "without sampling",
    "nll": "nll alone",
    "masked nll": "nll alone, bool mask",
    "weighted nll": "nll alone, float32 weight",
    "terms": "log p of each element",
    "free bits": "without sampling, free bits",
    "decomposition": "decomposition of the KL",
    "sample": "sample and its KL alone",
}


# What the sizes of the published cases are: (batch, dims, latents) -> words
NAMES = {
    (8, 64, 4): "tiny model",
    (16, 100, 8): "tiny model",
    (128, 784, 20): "MNIST MLP",
    (256, 3072, 128): "3x32x32 images",
    (256, 12288, 128): "3x64x64 images",
    (64, 196608, 256): "3x256x256 images",
    (1024, 20000, 30): "single cells, 20,000 genes",
    (8, 0, 16384): "diffusion latents 4x64x64",
    (16, 3072, 0): "3x32x32 images",
    (16, 12288, 0): "3x64x64 images",
    (8192, 5, 2): "table of 5 columns",
    (8192, 10, 2): "table of 10 columns",
    (65536, 1, 1): "one column",
    (65536, 1, 0): "one column",
    (256, 30, 0): "table of 30 columns",
    (2048, 30, 0): "table of 30 columns",
}


class Comparison:
    """The rows of one case. eager and compiled are lists, the fastest first. others are our ways to write the case;
    ours is the first of these ways, which the README shows."""

    def __init__(self, rows):
        self.wrong = [r for r in rows if r["median_us"] is None]  # a contender with a wrong result was not timed
        self.rows = rows = [r for r in rows if r["median_us"] is not None]
        self.first = rows[0]
        of = lambda kind: [r for r in rows if r["kind"] == kind and r["part"] != LOSS]  # noqa: E731
        self.eager, self.compiled = (sorted(of(k), key=lambda r: r["median_us"]) for k in (EAGER, COMPILE))
        self.others = [r for r in of(OURS) if r["name"] != AGAIN]
        self.ours = self.others[0]
        again = next((r for r in of(OURS) if r["name"] == AGAIN), self.ours)
        self.noise = math.exp(abs(math.log(again["median_us"] / self.ours["median_us"]))) - 1
        self.copy = next(iter(of(COPY)), None)

    @property
    def ways(self):
        """Our rows that are compared with rivals: every way to write the case, so that the slow ways are shown too. For
        a training step this is ours alone, because the other way is compiled."""
        return [self.ours] if self.first["model"] else self.others

    @property
    def what(self):
        """The case in words."""
        return in_words(self.first)

    @property
    def name(self):
        """What the sizes of the case are, such as "MNIST MLP", or ""."""
        return NAMES.get(tuple(self.first[key] for key in ("batch", "dims", "latents")), "")

    @property
    def key(self):
        """The case, without the allocator."""
        return tuple(self.first[name] for name in results.CASE)

    def faster(self, row, other):
        """(how many times faster the row is than the other, whether this ratio can be told from noise). A ratio can be
        told from noise if it is larger than the difference between two equal runs, and if the two ranges from the 20th
        to the 80th percentile do not overlap."""
        ratio = other["median_us"] / row["median_us"]
        apart = row["p80_us"] < other["p20_us"] or other["p80_us"] < row["p20_us"]
        return ratio, apart and abs(math.log(ratio)) > math.log1p(self.noise)

    def limit_us(self):
        """The time in which a copy would move the bytes that every implementation must move."""
        row = self.ours
        return row["least_bytes"] / row["copy_bytes_per_s"] * 1e6 if row["least_bytes"] else None


def in_words(row):
    """The case of a row in words, its shape first."""
    shape = shown(row["batch"], row["dims"], row["latents"], " x ", " / ")
    if row["model"]:
        return f"{row['model']}, batch {row['batch']}" + ("" if row["dtype"] == "float32" else f", {row['dtype']}")
    parts = [_likelihood(row)] if row["dims"] else []
    parts += [PARTS[row["part"]]] if PARTS[row["part"]] else []
    parts += [] if (row["dtype"], row["x"]) == ("float32", "float32") else [f"{row['dtype']}, x {row['x']}"]
    parts += [] if row["direction"] == "both" else [row["direction"]]
    parts += [] if row["incoming"] == 1 else [f"gradient {row['incoming']:g}"]
    return ", ".join([shape, *parts])


def _likelihood(row):
    return row["likelihood"] + (f" of {row['outputs']} parameters" if row["outputs"] > "1" else "")


def devices():
    """{path of a file of results: its rows, with numbers in place of text}"""
    return {path: [_numbers(row) for row in results.read(path)] for path in sorted(RESULTS.glob("*.csv"))}


def missing(rows):
    """The cases of today's suites that these rows lack, in words. Cases that differ only by the number of threads are
    not counted, because each machine has its own numbers of threads. A file without the suite "shapes", such as that of
    a GPU, is of some suites only, and lacks no case of another suite."""
    ran = {row["suite"] for row in rows}
    ran = {*suites.CASES, "steps"} if "shapes" in ran else ran
    columns = [name for name in results.CASE if name != "threads"]
    key = lambda row: tuple(row[name] for name in columns)  # noqa: E731
    cases = [case for suite, made in suites.CASES.items() if suite in ran for case in made()]
    cases = [_numbers({name: results.shown(getattr(case, name)) for name in columns}) for case in cases]
    found, models = {key(row) for row in rows}, {(row["model"], row["dtype"]) for row in rows}
    lacking = dict.fromkeys(in_words(row | {"model": ""}) for row in cases if key(row) not in found)
    made = [(client, dtype) for client, dtype in steps.CASES if "steps" in ran and (client.name, dtype) not in models]
    return [*lacking, *(in_words(asdict(c.case) | {"model": c.name, "dtype": dtype}) for c, dtype in made)]


def _numbers(row):
    as_number = lambda text: float(text) if "." in text or "e" in text else int(text)  # noqa: E731
    return {key: (as_number(v) if v else None) if key in NUMBERS else v for key, v in row.items()}


def comparisons(rows, *suites):
    """The comparisons of these suites, in the order of the file."""
    found = {}
    for row in rows:
        if row["suite"] in suites:
            found.setdefault((row["suite"], row["allocator"], results.case(row)), []).append(row)
    return [Comparison(group) for group in found.values()]
