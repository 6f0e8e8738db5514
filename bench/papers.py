"""python -m bench.papers: writes the tables of docs/papers.md from bench/results/papers. The scripts in examples/papers
make these results."""

import csv
import re
import statistics

from .rows import RESULTS, ROOT

PAGE, FOLDER = ROOT / "docs" / "papers.md", RESULTS / "papers"
# Burda et al. 2016, table 1, one stochastic layer: -log p(x) of the test images of MNIST, in nats
PUBLISHED = {("vae", "1"): 86.76, ("vae", "5"): 86.47, ("iwae", "5"): 85.54}
PASSES = sum(3**i for i in range(8))  # of the paper's schedule, 3280


def read(name):
    with open(FOLDER / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def grouped(rows, *names):
    """{the values of these columns: rows}, in the order of the file."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def spread(rows, name, digits=2):
    """The mean of a column. If there are several seeds, with the smallest and the largest value."""
    values = [float(row[name]) for row in rows]
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def iwae():
    rows = []
    found = [r for r in read("one_layer") if r["batch"] == "20"]
    for (objective, k, share, samples), runs in grouped(
        found, "objective", "samples", "share", "samples_of_log_p"
    ).items():
        ours, paper = statistics.mean(float(r["test_neg_log_p_nats"]) for r in runs), PUBLISHED[objective, k]
        passes = f"{PASSES / int(share):.0f} of {PASSES}"
        rows.append([objective.upper(), k, passes, len(runs), spread(runs, "test_neg_elbo_nats")])
        rows[-1] += [spread(runs, "test_neg_log_p_nats"), samples, paper, f"{ours - paper:+.2f}"]
        rows[-1] += [spread(runs, "active_units", 0), spread(runs, "hours")]
    rows.sort(key=lambda row: (row[0] == "IWAE", row[1], row[2]))
    head = ["objective", "k", "passes", "seeds", "-ELBO", "-log p(x)", "its samples", "the paper", "difference"]
    return table([*head, "active units", "hours"], rows)


def vamp():
    found = [r for r in read("one_layer") if r["batch"] != "20"]
    names = {"normal": "N(0, I)", "vamp": "VampPrior, 500 pseudo-inputs"}
    rows = []
    for (prior,), runs in grouped(found, "prior").items():
        rows.append([names[prior], len(runs), spread(runs, "test_neg_elbo_nats"), spread(runs, "test_neg_log_p_nats")])
        rows[-1] += [spread(runs, "active_units", 0)]
    return table(["prior", "seeds", "-ELBO", "-log p(x)", "active units"], rows)


def sigma():
    rows = []
    for (kind, beta), runs in grouped(read("sigma"), "sigma", "beta").items():
        rows.append([{"1": "1", "learned": "learned", "optimal": "closed form"}[kind], f"{float(beta):g}", len(runs)])
        rows[-1] += [spread(runs, "sigma_in_training", 3), spread(runs, "test_mse", 4), spread(runs, "test_kl_nats", 1)]
        rows[-1] += [spread(runs, "test_neg_elbo_nats", 0), spread(runs, "frechet_of_samples", 1)]
        rows[-1] += [spread(runs, "active_units", 0)]
    rows.sort(key=lambda row: (row[0], -float(row[1])))
    head = ["sigma", "beta", "seeds", "sigma in training", "mean square error", "KL", "-ELBO", "Frechet distance"]
    return table([*head, "active units"], rows)


def tcvae():
    terms = "nll", "mutual_information", "total_correlation", "dimension_wise_kl"
    rows = []
    for (objective, beta), runs in grouped(read("tcvae"), "objective", "beta").items():
        name = "beta-TCVAE" if objective == "tcvae" else "VAE" if float(beta) == 1 else "beta-VAE"
        rows.append([name, f"{float(beta):g}", len(runs), *(spread(runs, f"{term}_nats", 1) for term in terms)])
        rows[-1] += [spread(runs, "mutual_information_gap", 3), spread(runs, "active_units", 0)]
    rows.sort(key=lambda row: (float(row[1]), row[0]))
    head = ["model", "beta", "seeds", "nll", "mutual information", "total correlation", "dimension-wise KL"]
    return table([*head, "information gap", "active units"], rows)


TABLES = {"iwae": iwae, "vamp": vamp, "sigma": sigma, "tcvae": tcvae}


def rendered(page):
    """The text of the page with its tables made anew. A table stands between two comments."""
    for name, made in TABLES.items():
        begin = f"<!-- python -m bench.papers: {name} -->"
        pattern = re.compile(rf"{re.escape(begin)}\n.*?<!-- end -->", re.DOTALL)
        page, count = pattern.subn(lambda _, b=begin, m=made: f"{b}\n{m()}\n<!-- end -->", page)
        if count != 1:
            raise ValueError(f"{PAGE.name}: got the comment {begin} {count} times, expected once")
    return page


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
