"""python -m bench.pages: writes tables of docs/papers.md, docs/priors.md and docs/last_layer.md from the results of
examples/papers, bench.mixture and bench.cross_entropy."""

import csv
import re
import statistics

from .rows import RESULTS, ROOT

DOCS = ROOT / "docs"
# Burda et al. 2016, table 1, one stochastic layer: -log p(x) of the test images of MNIST, in nats
PUBLISHED = {("vae", "1"): 86.76, ("vae", "5"): 86.47, ("iwae", "5"): 85.54}
ENDS = ("vae", "1"), ("iwae", "5")  # the two models of the sentence below the table
PASSES = sum(3**i for i in range(8))  # of the paper's schedule, 3280


def read(name):
    with open(RESULTS / f"{name}.csv", newline="", encoding="utf-8") as file:
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


def passes(share, stages):
    return f"{PASSES / int(share):.0f} of {PASSES}" + (", equal stages" if stages == "equal" else "")


def iwae():
    rows = []
    found = [r for r in read("papers/one_layer") if r["batch"] == "20"]
    for (objective, k, share, stages), runs in grouped(found, "objective", "samples", "share", "stages").items():
        ours, paper = statistics.mean(float(r["test_neg_log_p_nats"]) for r in runs), PUBLISHED[objective, k]
        row = [objective.upper(), k, passes(share, stages), len(runs), spread(runs, "test_neg_elbo_nats")]
        row += [spread(runs, "test_neg_log_p_nats"), paper, f"{ours - paper:+.2f}", spread(runs, "active_units", 0)]
        rows.append((int(share), stages == "equal", objective == "iwae", k, row))
    head = ["objective", "k", "passes", "seeds", "-ELBO", "-log p(x)", "the paper", "difference", "active units"]
    made = table(head, [row for *_, row in sorted(rows)])
    least = min((int(r["share"]) for r in found if r["stages"] == "paper"), default=0)
    longest = [r for r in found if (r["share"], r["stages"]) == (str(least), "paper")]
    longest = {
        r["objective"]: float(r["test_neg_log_p_nats"]) for r in longest if (r["objective"], r["samples"]) in ENDS
    }
    gain, published = longest["vae"] - longest["iwae"], PUBLISHED[ENDS[0]] - PUBLISHED[ENDS[1]]
    said = f"After {PASSES / least:.0f} passes the IWAE with 5 samples is {gain:.2f} nats better than the VAE with one"
    return f"{made}\n\n{said} sample. In the paper, after {PASSES} passes, it is {published:.2f} nats better."


def vamp():
    found = [r for r in read("papers/one_layer") if r["batch"] != "20"]
    names = {"normal": "N(0, I)", "vamp": "VampPrior, 500 pseudo-inputs"}
    rows = []
    for (share, stages, prior), runs in grouped(found, "share", "stages", "prior").items():
        row = [passes(share, stages), names[prior], len(runs), spread(runs, "test_neg_elbo_nats")]
        rows.append((int(share), prior, [*row, spread(runs, "test_neg_log_p_nats"), spread(runs, "active_units", 0)]))
    head = ["passes", "prior", "seeds", "-ELBO", "-log p(x)", "active units"]
    return table(head, [row for *_, row in sorted(rows)])


def sigma():
    rows = []
    for (kind, beta), runs in grouped(read("papers/sigma"), "sigma", "beta").items():
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
    for (objective, beta), runs in grouped(read("papers/tcvae"), "objective", "beta").items():
        name = "beta-TCVAE" if objective == "tcvae" else "VAE" if float(beta) == 1 else "beta-VAE"
        rows.append([name, f"{float(beta):g}", len(runs), *(spread(runs, f"{term}_nats", 1) for term in terms)])
        rows[-1] += [spread(runs, "mutual_information_gap", 3), spread(runs, "active_units", 0)]
    rows.sort(key=lambda row: (float(row[1]), row[0]))
    head = ["model", "beta", "seeds", "nll", "mutual information", "total correlation", "dimension-wise KL"]
    return table([*head, "information gap", "active units"], rows)


def where(row):
    threads = f"{row['threads']} thread{'s' * (row['threads'] != '1')}"
    return f"{row['device']}, {threads}, PyTorch {row['torch']}, commit {row['commit']}; `{row['command']}`"


def mixture():
    names = {"fused": "**vae_kernels**", "distributions": "torch.distributions", "keops": "KeOps"}
    names |= {"matmul": "matrix products", "broadcast": "broadcasting"}
    names |= {f"{name}_compile": f"{names[name]}, torch.compile" for name in ("matmul", "broadcast")}
    rows = []
    for r in read("mixture/cpu") + read("mixture/cpu-large"):
        sizes = f"{r['points']} x {r['components']} x {r['dims']}"
        faster = "" if r["name"] == "fused" else f"{float(r['fused_is_times_faster']):.3g}x"
        rows.append([sizes, names[r["name"]], f"{float(r['median_us']) / 1e3:.3g}", faster])
    made = table(["N x K x D", "", "ms", "vae_kernels is faster by"], rows)
    return f"{made}\n\n{where(read('mixture/cpu')[0])}."


def priors():
    names = "neg_elbo", "reconstruction", "kl", "neg_log_p"
    rows = []
    for r in read("priors/digits"):
        rows.append([r["prior"], *(f"{float(r[f'test_{name}_nats']):.2f}" for name in names)])
        rows[-1] += [r["standard_error_of_sampling"], r["median_effective_samples"]]
    head = ["prior", "-ELBO", "reconstruction", "KL", "-log p(x)", "its standard error", "effective samples"]
    return table(head, rows)


def cross_entropy():
    names = {"fused": "**vae_kernels**: `F.linear`, then `vk.nll`", "log_softmax": "`log_softmax`"}
    names |= {"F.cross_entropy": "`F.cross_entropy`", "F.linear_cross_entropy": "`F.linear_cross_entropy`"}
    names["F.linear_cross_entropy, chunks"] = "`F.linear_cross_entropy` with `LinearCrossEntropyOptions()`"
    rows = []
    for r in read("cross_entropy/cpu"):
        sizes = f"{r['rows']} x {r['classes']}" + (f", hidden {r['hidden']}" if r["hidden"] != "0" else "")
        name = "**vae_kernels**: `vk.nll`" if (r["case"], r["name"]) == ("baskets", "fused") else names[r["name"]]
        faster = "" if r["name"] == "fused" else f"{float(r['fused_is_times_faster']):.2f}x"
        memory = f"{float(r['peak_bytes']) / 2**20:.0f} MiB"
        rows.append([f"{r['case']}: {sizes}", name, f"{float(r['median_us']) / 1e3:.1f}", faster, memory])
    made = table(["case", "", "ms", "vae_kernels is faster by", "memory"], rows)
    return f"{made}\n\n{where(read('cross_entropy/cpu')[0])}."


def lean():
    rows, found = [], grouped(read("lean/cpu"), "batch", "dims", "latents", "likelihood", "threads")
    best = {}
    for (*case, threads), measured in found.items():
        timed = [r for r in measured if r["median_us"] and r["name"] != "again"]
        of_kind = {kind: [r for r in timed if r["kind"] == kind] for kind in ("eager", "vae_kernels")}
        fastest = {kind: min(of, key=lambda r: float(r["median_us"])) for kind, of in of_kind.items()}
        theirs, ours = fastest["eager"], fastest["vae_kernels"]
        ratio = float(theirs["median_us"]) / float(ours["median_us"])
        memory = int(ours["peak_bytes"]) / int(theirs["peak_bytes"])
        best.setdefault(tuple(case), {})[threads] = f"**{ratio:.2f}**" if ratio < 1 else f"{ratio:.2f}", f"{memory:.2f}"
    for (batch, dims, latents, likelihood), of in best.items():
        cells = [f"{batch} x {int(dims):,} / {latents}, {likelihood}", of["1"][0], of["2"][0]]
        rows.append([*cells, f"{of['1'][1]}, {of['2'][1]}"])
    made = table(["batch x dims / latents", "1 thread", "2 threads", "peak memory, of that of eager"], rows)
    row = read("lean/cpu")[0]
    return f"{made}\n\n{row['device']}, PyTorch {row['torch']}, commit {row['commit']}; `{row['command']}`."


PAGES = {
    "lean.md": {"lean": lean},
    "papers.md": {"iwae": iwae, "vamp": vamp, "sigma": sigma, "tcvae": tcvae},
    "priors.md": {"mixture": mixture, "priors": priors},
    "last_layer.md": {"cross_entropy": cross_entropy},
}


def rendered(name):
    """The text of a page of docs/ with its tables made anew. A table stands between two comments."""
    page = (DOCS / name).read_text(encoding="utf-8")
    for part, made in PAGES[name].items():
        begin = f"<!-- python -m bench.pages: {part} -->"
        pattern = re.compile(rf"{re.escape(begin)}\n.*?<!-- end -->", re.DOTALL)
        page, count = pattern.subn(lambda _, b=begin, m=made: f"{b}\n{m()}\n<!-- end -->", page)
        if count != 1:
            raise ValueError(f"{name}: got the comment {begin} {count} times, expected once")
    return page


if __name__ == "__main__":
    for name in PAGES:
        (DOCS / name).write_text(rendered(name), encoding="utf-8")
