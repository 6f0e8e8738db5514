"""Makes tables of the results, in Markdown."""

import math
import statistics

from vae_kernels.timing.contenders import ADDED, BY_SAMPLE, COMPILE, OURS
from vae_kernels.timing.table import LOSS, duration, factor

FUSED = "sample_kl + fused_elbo"  # a way to write a step; ADDED is another
NOISE = "noise"  # stands in place of a ratio that cannot be told from noise


def markdown(head, lines):
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


def time(row):
    return duration(row["median_us"]) if row else "-"


def mib(row):
    return "-" if row is None or row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.1f}"


def times(c, row, other):
    """How many times faster the row is than the other, or NOISE if the ratio cannot be told from noise."""
    if other is None:
        return "-"
    ratio, told = c.faster(row, other)
    return factor(ratio) if told else NOISE


def saved(c, row, other):
    """The share of the other's time that the row saves, or NOISE if the ratio cannot be told from noise."""
    ratio, told = c.faster(row, other)
    return f"**{1 - 1 / ratio:.0%}**" if told else NOISE


def best(comparison):
    """(the best eager form, the best compiled form or None, our first way)"""
    return comparison.eager[0], next(iter(comparison.compiled), None), comparison.ours


def alone(comparison):
    """{kind: the median time of the loss alone, without the rest of the training step}"""
    return {r["kind"]: r["median_us"] for r in comparison.rows if r["part"] == LOSS}


def share(c, row):
    """The share of a step by hand that its loss takes: no loss can save more. "-" if there is no such step, or if its
    loss was not timed alone."""
    loss = row and alone(c).get(row["kind"])
    return "-" if loss is None else f"{loss / row['median_us']:.0%}"


def speeds(comparisons, kept=None):
    """One line for each case: the best eager form, the best compiled form, ours, and our way by samples.

    kept: {key of a case: the same case with an allocator that keeps its memory}. Its ratio stands beside the other.
    """
    head = ["batch x dims / latents", "best eager", "torch.compile", "vae_kernels", "x eager", "x compile"]
    head += ["by samples", "x eager"]
    lines = []
    for c in comparisons:
        eager, compiled, ours = best(c)
        cells = [f"{c.name}: {c.what}" if c.name else c.what, time(eager), time(compiled), time(ours)]
        other = (kept or {}).get(c.key)
        star = f" ({times(other, other.ours, other.eager[0])}\\*)" if other else ""
        cells += [f"**{times(c, ours, eager)}**{star}", times(c, ours, compiled)]
        by_sample = next((r for r in c.others if r["name"] in BY_SAMPLE), None)
        cells += [time(by_sample), times(c, by_sample, eager) if by_sample else "-"]
        limit = c.limit_us()
        lines.append([*cells, f"{limit / ours['median_us']:.0%}" if limit else "-"])
    return markdown([*head, "of the limit"], lines)


KEPT = (
    "with an allocator that keeps its memory, for all contenders. glibc gives large blocks back to the system, which "
    "clears them page by page when they are asked for again: that is much of the time of eager code at large sizes."
)


def ways(comparisons):
    """One line for each case, and a line with the geometric means. A line has the step by fused_elbo, the step by
    (nll + kl).mean(), and the slower of these two beside the best rivals, whether or not the ratio is noise."""
    head = ["batch x dims / latents", "best eager", "torch.compile", FUSED, ADDED, "the slower: x eager", "x compile"]
    lines, ratios = [], []
    for c in comparisons:
        eager, compiled, _ = best(c)
        fused, added = (next(r for r in c.others if r["name"] == name) for name in (FUSED, ADDED))
        slower = max(fused["median_us"], added["median_us"])
        ratios.append([r["median_us"] / slower if r else math.nan for r in (eager, compiled)])
        cells = [c.what, time(eager), time(compiled), time(fused), time(added)]
        lines.append([*cells, *(f"{ratio:.2f}x" for ratio in ratios[-1])])
    means = (math.exp(statistics.fmean(map(math.log, column))) for column in zip(*ratios, strict=True))
    lines.append(["geometric mean", *[""] * 4, *(f"**{mean:.2f}x**" for mean in means)])
    return markdown(head, lines)


def steps(comparisons):
    """One line for each model: the share of a step that the loss takes, and the share that we save."""
    head = ["a training step", "eager", "of it the loss", "with our loss", "saved"]
    head += ["torch.compile", "of it the loss", "compiled, our loss", "saved"]
    lines = []
    for c in comparisons:
        eager, compiled, ours = best(c)
        both = next(iter(c.others[1:]), None)
        cells = [c.what, time(eager), share(c, eager), time(ours), saved(c, ours, eager)]
        gain = saved(c, both, compiled) if both and compiled else "-"
        lines.append([*cells, time(compiled), share(c, compiled), time(both), gain])
    return markdown(head, lines)


def amdahl(comparisons):
    """What a step would save by Amdahl's law if only the loss became faster, beside the measured saving: beside the
    eager step, and beside the compiled one. "at most": if the loss took no time at all."""
    head = ["a training step", "beside", "its time", "its loss", "our loss", "saved, at most", "by Amdahl's law"]
    head += ["measured", "noise"]
    lines = []
    for c in comparisons:
        loss = alone(c)
        for theirs, ours in zip(best(c)[:2], c.others, strict=False):
            if theirs is None or theirs["kind"] not in loss:
                continue
            step, its, mine = theirs["median_us"], loss[theirs["kind"]], loss[OURS]
            cells = ["" if theirs["kind"] == COMPILE else c.what, theirs["kind"], duration(step), duration(its)]
            cells += [duration(mine), f"{its / step:.0%}", f"{(its - mine) / step:.0%}"]
            lines.append([*cells, f"{1 - ours['median_us'] / step:.0%}", f"{c.noise:.0%}"])
    return markdown(head, lines)


def costs(comparisons):
    """The numbers of kernels, the memory and the first run, for the best contender of each kind."""
    head = ["batch x dims / latents", "kernels: eager", "compile", "ours", "peak MiB: eager", "compile", "ours"]
    head += ["first run: eager", "compile", "ours"]
    lines = []
    for c in comparisons:
        cells = [c.what, *("-" if r is None or r["kernels"] is None else str(r["kernels"]) for r in best(c))]
        cells += [mib(r) for r in best(c)]
        lines.append([*cells, *("-" if r is None else duration(r["first_us"]) for r in best(c))])
    return markdown(head, lines)


def contenders(comparisons):
    """One line for each contender of each case."""
    head = ["case", "contender", "median", "p20 to p80", "x best eager", "GB/s", "error", "noise"]
    lines = []
    for c in comparisons:
        for i, row in enumerate([*c.eager, *c.compiled, *c.others]):
            us, least = row["median_us"], row["least_bytes"]
            who = f"{row['kind']}: {row['name']}"
            cells = ["" if i else c.what, f"**{who}**" if row["kind"] == OURS else who, duration(us)]
            cells += [f"{duration(row['p20_us'])} to {duration(row['p80_us'])}", f"{c.eager[0]['median_us'] / us:.1f}x"]
            cells += [f"{least / us / 1e3:.1f}" if least else "-", f"{row['error']:.0e}"]
            lines.append([*cells, f"{c.noise:.0%}" if row is c.ours else ""])
        for row in c.wrong:
            lines.append(["", f"{row['kind']}: {row['name']}", "wrong", "", "", "", f"{row['error']:.0e}", ""])
    return markdown(head, lines)
