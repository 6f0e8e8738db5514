"""Makes the figures. Each figure has the checksum of its results, so a test can find a figure that is out of date."""

import hashlib

import matplotlib
from matplotlib.figure import Figure

from . import tables

INK = {"eager": "#999999", "torch.compile": "#d95f02", "vae_kernels": "#1f3a93", "limit": "#111111"}
COLUMNS = {"vae_kernels": (-0.2, 1.04), "torch.compile": (0.2, 1.6)}  # name: (place of its bar in a row, of its text)
TICKS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "vae_kernels", "font.size": 9, "axes.grid": True, "grid.alpha": 0.25}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save(figure, target, source, made_by="bench.readme"):
    target.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None, "Description": f"made by python -m {made_by} from {source.name} {digest(source)}"}
    figure.savefig(target, format="svg", metadata=metadata)
    lines = target.read_text(encoding="utf-8").splitlines()
    target.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def machine(comparisons):
    """The device, its threads and torch, of these comparisons: two lines."""
    row, threads = comparisons[0].first, max(c.first["threads"] for c in comparisons)
    return f"{row['device']}\n{threads} thread{'s' * (threads > 1)}, PyTorch {row['torch']}"


def bars(comparisons, kept, target, source):
    """Bars from 1x: how many times faster we are than the best eager form, and how many times faster the memory would
    allow. The ratios stand beside the bars, in columns of their own.

    kept: {key of a case: the same case with an allocator that keeps its memory}, for the footnote.
    """
    comparisons = [c for c in comparisons if c.limit_us()][::-1]
    height = 0.5 * len(comparisons) + 1.7
    ratios = []
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, height))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.31, right=0.64, top=1 - 0.8 / height, bottom=0.85 / height)
        for i, c in enumerate(comparisons):
            for (name, (at, column)), row in zip(COLUMNS.items(), (c.ours, *c.compiled[:1]), strict=False):
                ratio, told = c.faster(row, c.eager[0])
                axes.barh(i + at, ratio - 1, 0.36, left=1, color=INK[name], zorder=3)  # 1 is eager's time
                text = tables.factor(ratio) if told else tables.NOISE
                if name == "vae_kernels" and c.key in kept:
                    text += f" ({tables.times(kept[c.key], kept[c.key].ours, kept[c.key].eager[0])}*)"
                _beside(axes, column, i, text, name)
                ratios.append(ratio)
        axes.set(xscale="log", xlim=(0.9 * min(1, *ratios), 1.3 * max(ratios)), ylim=(-0.6, len(comparisons) - 0.4))
        limits = [c.eager[0]["median_us"] / c.limit_us() for c in comparisons]
        inside = [(limit, i - 0.2) for i, limit in enumerate(limits) if 1.1 * limit < axes.get_xlim()[1]]
        axes.plot(*zip(*inside, strict=True), "d", markersize=5, color="white", markeredgecolor=INK["limit"], zorder=4)
        axes.axvline(1, color=INK["eager"], linewidth=1.5, zorder=3)
        ticks = [tick for tick in TICKS if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
        axes.set_xticks(ticks, [f"{tick}x" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_yticks(range(len(comparisons)), [_label(c) for c in comparisons])
        axes.tick_params(length=0)
        axes.grid(axis="y", visible=False)
        axes.spines[["top", "right", "left"]].set_visible(False)
        for name, (_, column) in COLUMNS.items():
            _beside(axes, column, len(comparisons) - 0.3, name, name)
        figure.text(0.01, 1 - 0.1 / height, machine(comparisons), fontsize=10, fontweight="bold", va="top")
        notes = ["times faster than the best eager form (1x); diamond: at the speed of a copy of the bytes"]
        notes += [f"* {tables.KEPT.split('.')[0]}"] if any(c.key in kept for c in comparisons) else []
        figure.text(0.01, 0.12 / height, "\n".join(notes), fontsize=8, color="#555555")
        save(figure, target, source)


def _label(c):
    """What the sizes are; the shape; what else sets the case apart from the objective of a Bernoulli."""
    shape, *words = c.what.split(", ")
    return "\n".join(filter(None, (c.name, shape, ", ".join(word for word in words if word != "bernoulli"))))


def _beside(axes, column, row, text, name):
    """A text beside the axes, in the colour of a contender."""
    style = {"color": INK[name], "fontweight": "bold" if name == "vae_kernels" else "normal", "va": "center"}
    axes.text(column, row, text, transform=axes.get_yaxis_transform(), **style)


def curves(panels, target, source):
    """Curves of time against a size. panels: {(the column of the size, the title with the other sizes): comparisons}"""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 3 * len(panels) + 0.8), layout="constrained")
        for axes, ((column, title), comparisons) in zip(figure.subplots(len(panels)), panels.items(), strict=True):
            sizes = [c.first[column] for c in comparisons]
            lines = {
                "eager": [c.eager[0]["median_us"] for c in comparisons],
                "torch.compile": [c.compiled[0]["median_us"] if c.compiled else None for c in comparisons],
                "vae_kernels": [c.ours["median_us"] for c in comparisons],
            }
            for name, values in lines.items():
                if None not in values:
                    axes.plot(sizes, [v / 1e3 for v in values], marker="o", markersize=3, color=INK[name], label=name)
            limits = [c.limit_us() / 1e3 for c in comparisons]
            axes.plot(sizes, limits, color=INK["limit"], linestyle=":", label="limit, at the speed of a copy")
            axes.set(xscale="log", yscale="log", xlabel=column, ylabel="ms, forward and backward", title=title)
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.set_xticks([], minor=True)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.spines[["top", "right"]].set_visible(False)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle(machine(comparisons), fontsize=10, fontweight="bold", x=0.01, ha="left")
        save(figure, target, source)
