"""The wall time of an epoch of ctgan's TVAE: with its own loss, with attach(), and with a loss of nothing, in turns in
one run; and how like the rows that a trained TVAE draws are to the rows of a real table, with both losses, over seeds.

    pip install ctgan sdmetrics statsmodels && python -m bench.tvae     # bench/results/tvae: about 4 minutes
    python -m bench.tvae --docs                                         # the tables of docs/tvae.md, from the files

The loss of nothing is 0 times the outputs of the networks: no loss can be faster. Encoder, decoder and Adam are
ctgan's. A turn is TVAE.fit() as a user calls it, without the preparation of the table, which ctgan does once before the
first epoch and which takes as long with every loss. The tables of the times are drawn: each number is one of two
clusters. The scores are those of sdmetrics, from 0 to 1: KSComplement of a number, TVComplement of a category,
CorrelationSimilarity or ContingencySimilarity of a pair.
"""

import argparse
import csv
import itertools
import statistics
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results/tvae"
DOCS = ROOT / "docs/tvae.md"
LOSSES = "ctgan", "attach", "nothing"
# The columns: how many numbers, and how many categories each other column has. The first two are the forms of two
# common tables, Adult and Covertype.
TABLES = {
    15: (6, (9, 16, 7, 15, 6, 5, 2, 42, 2)),
    55: (10, (2,) * 44 + (7,)),
    100: (50, tuple(range(2, 12)) * 5),
}
CODES = "rate_marriage", "religious", "occupation", "occupation_husb"  # categories of the real table


def drawn(columns, rows, seed=0):
    """(a table with so many columns, the names of the discrete columns)"""
    import numpy as np
    import pandas as pd

    rng, (numbers, sizes) = np.random.default_rng(seed), TABLES[columns]
    found = {f"n{i}": rng.normal(size=rows) + 6 * rng.integers(0, 2, rows) for i in range(numbers)}
    found |= {f"c{i}": rng.integers(0, size, rows) for i, size in enumerate(sizes)}
    return pd.DataFrame(found), [name for name in found if name.startswith("c")]


class Prepared:
    """In the place of ctgan's DataTransformer: the table is prepared already."""

    def __init__(self, table, discrete):
        from ctgan.data_transformer import DataTransformer

        start = time.perf_counter()
        self.transformer = DataTransformer()
        self.transformer.fit(table, discrete)
        self.rows = self.transformer.transform(table)
        self.seconds = time.perf_counter() - start

    def __call__(self):
        return self

    def fit(self, table, discrete):
        pass

    def transform(self, table):
        return self.rows

    def __getattr__(self, name):
        return getattr(self.transformer, name)


@contextmanager
def exchanged(**names):
    """Names in the module of TVAE have other values while the context is open."""
    from ctgan.synthesizers import tvae

    before = {name: getattr(tvae, name) for name in names}
    try:
        for name, value in names.items():
            setattr(tvae, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(tvae, name, value)


def nothing(recon_x, x, sigmas, mu, logvar, output_info, factor):
    return 0 * recon_x.sum() + 0 * sigmas.sum(), 0 * mu.sum() + 0 * logvar.sum()


def trained(loss, table, discrete, epochs, seed):
    """A TVAE after fit() with this loss."""
    import torch
    from ctgan import TVAE

    from vae_kernels.integrations.ctgan import attach

    tvae = TVAE(epochs=epochs, enable_gpu=False)
    tvae.set_random_state(seed)
    torch.manual_seed(seed)  # of the weights and of the order of the rows
    if loss == "attach":
        attach(tvae)
    with exchanged(**({"_loss_function": nothing} if loss == "nothing" else {})):
        tvae.fit(table, discrete)
    return tvae


def times(rows, epochs, turns, where):
    """One row of results for each turn."""
    found = []
    for columns in TABLES:
        table, discrete = drawn(columns, rows)
        prepared = Prepared(table, discrete)
        for turn in range(-1, turns):  # the first turn is not counted
            for loss in LOSSES:
                with exchanged(DataTransformer=prepared):
                    start = time.perf_counter()
                    tvae = trained(loss, table, discrete, epochs, turn + 1)
                    seconds = time.perf_counter() - start
                if turn >= 0:
                    sizes = {"columns": columns, "numbers_of_a_row": prepared.output_dimensions, "rows": rows}
                    steps = {"loss": loss, "turn": turn, "steps": len(tvae.loss_values), "seconds": round(seconds, 4)}
                    found.append(sizes | steps | {"seconds_to_prepare": round(prepared.seconds, 2)} | where)
        print(*summary(found[-turns * len(LOSSES) :]), sep="\n", flush=True)
    return found


def real():
    """(a survey of 6,366 women, as statsmodels ships it; its discrete columns)"""
    import statsmodels.api as sm

    table = sm.datasets.fair.load_pandas().data
    return table.astype(dict.fromkeys(CODES, int)), list(CODES)


def score(table, rows, discrete):
    """(the mean score of the columns, and that of the pairs of two numbers or of two categories), from 0 to 1."""
    from sdmetrics.column_pairs import ContingencySimilarity, CorrelationSimilarity
    from sdmetrics.single_column import KSComplement, TVComplement

    columns = [(TVComplement if name in discrete else KSComplement).compute(table[name], rows[name]) for name in table]
    pairs = [
        (ContingencySimilarity if names[0] in discrete else CorrelationSimilarity).compute(
            table[list(names)], rows[list(names)]
        )
        for names in itertools.combinations(table, 2)
        if (names[0] in discrete) == (names[1] in discrete)
    ]
    return statistics.mean(columns), statistics.mean(pairs)


def quality(epochs, seeds, where):
    """One row of results for each seed and loss."""
    import numpy as np

    table, discrete = real()
    np.random.seed(0)
    prepared, found = Prepared(table, discrete), []
    for seed in range(seeds):
        for loss in LOSSES[:2]:
            with exchanged(DataTransformer=prepared):
                tvae = trained(loss, table, discrete, epochs, seed)
            columns, pairs = score(table, tvae.sample(len(table)), discrete)
            row = {"table": "fair", "rows": len(table), "epochs": epochs, "seed": seed, "loss": loss}
            last = tvae.loss_values["Loss"][-10:].mean()
            row |= {"last_loss": round(last, 4), "columns": round(columns, 4), "pairs": round(pairs, 4)}
            found.append(row | where)
    print(*scores(found), sep="\n", flush=True)
    return found


def summary(rows):
    """The rows of the table of times in Markdown: medians of all turns, in ms for a step."""
    for columns in dict.fromkeys(int(r["columns"]) for r in rows):
        own, ours, least = (
            1e3
            * statistics.median(
                float(r["seconds"]) / int(r["steps"]) for r in rows if (int(r["columns"]), r["loss"]) == (columns, loss)
            )
            for loss in LOSSES
        )
        yield (
            f"| {columns} | {own:.1f} ms | {ours:.1f} ms, **{own / ours:.2f}x** | {least:.1f} ms, {own / least:.2f}x | "
            f"{(own - ours) / (own - least):.0%} |"
        )


def scores(rows):
    """The rows of the table of scores in Markdown: the mean over the seeds, and the standard deviation."""
    for loss in LOSSES[:2]:
        cells = []
        for name in ("last_loss", "columns", "pairs"):
            each = [float(r[name]) for r in rows if r["loss"] == loss]
            spread = f" ± {statistics.stdev(each):.3f}" if len(each) > 1 else ""
            cells.append(f"{statistics.mean(each):.3f}{spread}")
        yield f"| {loss} | {' | '.join(cells)} |"


TABLES_OF_DOCS = {
    "times": (
        summary,
        "| columns | ctgan's loss, a step | `attach` | loss of nothing | of its gain |\n|---|---|---|---|---|",
    ),
    "quality": (scores, "| loss | last loss | columns | pairs of columns |\n|---|---|---|---|"),
}


def table_of(name, folder=RESULTS):
    """A table of docs/tvae.md, from the file of results."""
    rows, head = TABLES_OF_DOCS[name]
    with open(folder / f"{name}.csv", newline="", encoding="utf-8") as file:
        return "\n".join([head, *rows(list(csv.DictReader(file)))])


def write_docs():
    text = DOCS.read_text(encoding="utf-8")
    for name in TABLES_OF_DOCS:
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{table_of(name)}\n{end}{rest.partition(end)[2]}"
    DOCS.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="of the drawn tables")
    parser.add_argument("--epochs", type=int, default=5, help="of a turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quality-epochs", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=tuple(TABLES_OF_DOCS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--docs", action="store_true", help="write the tables of docs/tvae.md, and measure nothing")
    args = parser.parse_args()
    if args.docs:
        return write_docs()
    import ctgan
    import torch

    from vae_kernels.timing import results

    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    where = results.where("python -m bench.tvae") | {"threads": args.threads, "ctgan": ctgan.__version__}
    if args.only != "quality":
        results.write(args.out / "times.csv", times(args.rows, args.epochs, args.turns, where))
    if args.only != "times":
        results.write(args.out / "quality.csv", quality(args.quality_epochs, args.seeds, where))


if __name__ == "__main__":
    main()
