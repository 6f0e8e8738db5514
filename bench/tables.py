"""Tables of the results, in Markdown."""

from vae_kernels.bench.contenders import COMPILE, EAGER, OURS


def markdown(head, lines):
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


def duration(us):
    """Three digits, of us, ms or s."""
    for unit, size in (("us", 1), ("ms", 1e3), ("s", 1e6)):
        if us < 999.5 * size or unit == "s":
            value = us / size
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def times(row, other):
    """How many times faster the row is than the other."""
    return f"{other['median_us'] / row['median_us']:.1f}x" if other else "-"


def mib(row):
    size = row["peak_bytes"]
    return "-" if size is None else f"{size / 2**20:.1f}"


def speeds(comparisons):
    """A line a case: the best eager form, the best compiled one, ours."""
    head = [
        "batch x dims / latents",
        "best eager",
        "torch.compile",
        "vae_kernels",
        "x eager",
        "x compile",
        "of the limit",
    ]
    lines = []
    for c in comparisons:
        eager, compiled, limit = c.eager[0], next(iter(c.compiled), None), c.limit_us()
        cells = [c.what, duration(eager["median_us"]), duration(compiled["median_us"]) if compiled else "-"]
        cells += [duration(c.ours["median_us"]), f"**{times(c.ours, eager)}**", times(c.ours, compiled)]
        lines.append([*cells, f"{limit / c.ours['median_us']:.0%}" if limit else "-"])
    return markdown(head, lines)


def steps(comparisons):
    """A line a model: what the loss is of a step, and what we save."""
    head = [
        "a training step",
        "eager",
        "of it the loss",
        "with our loss",
        "saved",
        "torch.compile",
        "compiled, our loss",
        "saved",
    ]
    lines = []
    for c in comparisons:
        eager, compiled = c.eager[0], c.compiled[0]
        both = c.others[1]
        alone = {r["kind"]: r for r in c.rows if r["part"] == "loss of the step"}
        share = alone[EAGER]["median_us"] / eager["median_us"]
        cells = [
            c.what,
            duration(eager["median_us"]),
            f"{share:.0%}",
            duration(c.ours["median_us"]),
            saved(c.ours, eager),
        ]
        lines.append([*cells, duration(compiled["median_us"]), duration(both["median_us"]), saved(both, compiled)])
    return markdown(head, lines)


def saved(row, other):
    return f"**{1 - row['median_us'] / other['median_us']:.0%}**"


def amdahl(comparisons):
    """What a step would save if only the loss became faster, beside what it does save."""
    head = ["model", "step", "its loss, eager", "its loss, ours", "saved by Amdahl's law", "saved, measured", "noise"]
    lines = []
    for c in comparisons:
        eager = c.eager[0]["median_us"]
        alone = {r["kind"]: r["median_us"] for r in c.rows if r["part"] == "loss of the step"}
        cells = [c.what, duration(eager), duration(alone[EAGER]), duration(alone[OURS])]
        cells += [f"{(alone[EAGER] - alone[OURS]) / eager:.0%}", f"{1 - c.ours['median_us'] / eager:.0%}"]
        lines.append([*cells, f"{c.noise:.0%}"])
    return markdown(head, lines)


def costs(comparisons):
    """Kernels, memory and the first run, of the best of each kind."""
    head = ["batch x dims / latents", "kernels: eager", "compile", "ours", "peak MiB: eager", "compile", "ours"]
    head += ["first run: eager", "compile", "ours"]
    lines = []
    for c in comparisons:
        best = [c.eager[0], next(iter(c.compiled), None), c.ours]
        cells = [c.what, *("-" if r is None or r["kernels"] is None else str(r["kernels"]) for r in best)]
        cells += ["-" if r is None else mib(r) for r in best]
        lines.append([*cells, *("-" if r is None else duration(r["first_us"]) for r in best)])
    return markdown(head, lines)


def contenders(comparisons):
    """A line for each contender of each case."""
    head = ["case", "contender", "median", "p20 to p80", "x best eager", "GB/s", "error", "noise"]
    lines = []
    for c in comparisons:
        for i, row in enumerate([*c.eager, *c.compiled, *c.others]):
            speed = f"{row['least_bytes'] / row['median_us'] / 1e3:.1f}" if row["least_bytes"] else "-"
            who = (
                f"{row['kind']}: {row['name']}"
                if row["kind"] in (EAGER, COMPILE)
                else f"**{row['kind']}: {row['name']}**"
            )
            spread = f"{duration(row['p20_us'])} to {duration(row['p80_us'])}"
            cells = ["" if i else c.what, who, duration(row["median_us"]), spread, times(row, c.eager[0]), speed]
            lines.append([*cells, f"{row['error']:.0e}", f"{c.noise:.0%}" if row is c.ours else ""])
    return markdown(head, lines)


def against(comparisons):
    """[(times we are faster, comparison, rival)] of every comparison and the best of each kind, the slowest first."""
    pairs = [(c, rivals[0]) for c in comparisons for rivals in (c.eager, c.compiled) if rivals]
    return sorted(((r["median_us"] / c.ours["median_us"], c, r) for c, r in pairs), key=lambda found: found[0])


CLOSEST = 3


def losses(comparisons):
    """Where a rival is faster than we are; and the closest of the rest, so that the table is never empty."""
    found = against(comparisons)
    lost = [f for f in found if f[0] < 1]
    lines = []
    for ratio, c, rival in found[: len(lost) + CLOSEST]:
        verdict = "we win" if ratio >= 1 else "we lose"
        if abs(1 / ratio - 1) <= c.noise:
            verdict = f"a tie: two equal runs differ by {c.noise:.0%}"
        who = f"{rival['kind']}: {rival['name']}"
        cells = [c.what, who, duration(rival["median_us"]), duration(c.ours["median_us"]), f"{ratio:.2f}x", verdict]
        lines.append(cells)
    head = ["case", "rival", "its time", "ours", "we are faster by", "so"]
    said = f"In {len(lost)} of {len(found)} comparisons the best eager or compiled form is faster"
    return f"{said}; after these the {CLOSEST} closest of the others:\n\n{markdown(head, lines)}"
