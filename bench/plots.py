"""Makes the figures. Each figure has the checksum of its results, so a test can find a figure that is out of date."""

import hashlib

import matplotlib
from matplotlib.figure import Figure

from . import tables

INK = {"eager": "#999999", "torch.compile": "#d95f02", "vae_kernels": "#1f3a93", "limit": "#111111"}
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "vae_kernels", "font.size": 9, "axes.grid": True, "grid.alpha": 0.25}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save(figure, target, source):
    target.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None, "Description": f"made by python -m bench.readme from {source.name} {digest(source)}"}
    figure.savefig(target, format="svg", metadata=metadata)
    lines = target.read_text().splitlines()
    target.write_text("\n".join(line.rstrip() for line in lines) + "\n")


def bars(comparisons, target, source):
    """Bars: how many times faster we are than the best eager form, and how many times faster the memory would allow."""
    comparisons = [c for c in comparisons if c.limit_us()][::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.62 * len(comparisons) + 1), layout="constrained")
        axes = figure.subplots()
        for i, c in enumerate(comparisons):
            eager = c.eager[0]["median_us"]
            found = {"torch.compile": c.compiled[0] if c.compiled else None, "vae_kernels": c.ours}
            for at, (name, row) in zip((0.2, -0.2), found.items(), strict=True):
                if row:
                    ratio, told = c.faster(row, c.eager[0])
                    label = name if i == 0 else None
                    axes.barh(i + at, ratio - 1, 0.38, left=1, color=INK[name], label=label)  # 1 is eager's time
                    axes.text(max(ratio, 1) * 1.04, i + at, tables.factor(ratio) if told else tables.NOISE, va="center")
            limit = eager / c.limit_us()
            label = "limit: the bytes nobody can do without, at the speed of a copy" if i == 0 else None
            axes.plot([limit, limit], [i - 0.42, i + 0.42], color=INK["limit"], linewidth=2, label=label)
        axes.axvline(1, color=INK["eager"], linewidth=1.5, label="best eager form")
        axes.set(xscale="log", yticks=range(len(comparisons)), yticklabels=[c.what for c in comparisons])
        axes.set_xlabel("times faster than the best eager form (logarithmic)")
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        save(figure, target, source)


def curves(panels, target, source):
    """Curves of time against a size. panels: {(the column of the size, the title with the other sizes): comparisons}"""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        for axes, ((column, title), comparisons) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
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
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
        save(figure, target, source)
