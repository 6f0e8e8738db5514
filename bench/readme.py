"""python -m bench.readme: writes the README's table of times from the committed results."""

import csv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- python -m bench.readme -->\n", "<!-- end -->"


def table(path):
    """Markdown of one results file: a line a shape."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    where = rows[0]
    lines = [
        f"{where['device']}, {where['threads']} threads, PyTorch {where['torch']}, malloc: {where['allocator']}; "
        f"`bench/results/{path.name}`, made by `{where['command']}`:",
        "",
        "| batch x dims / latents, storage | eager | torch.compile | vae_kernels | faster than eager | than compile |",
        "|---|---|---|---|---|---|",
    ]
    shapes = dict.fromkeys(tuple(r[k] for k in _SHAPE) for r in rows)
    for shape in shapes:
        us = {r["name"]: float(r["median_us"]) for r in rows if tuple(r[k] for k in _SHAPE) == shape}
        batch, dims, latents, part, likelihood, dtype = shape
        compiled = _time(us["compile"]) if "compile" in us else "-"
        ratio = f"{us['compile'] / us['fused']:.1f}x" if "compile" in us else "-"
        lines.append(
            f"| {likelihood} {part} {batch} x {dims} / {latents}, {dtype} | {_time(us['eager'])} | {compiled} "
            f"| {_time(us['fused'])} | **{us['eager'] / us['fused']:.1f}x** | {ratio} |"
        )
    return "\n".join(lines)


_SHAPE = ("batch", "dims", "latents", "part", "likelihood", "dtype")


def _time(us):
    return f"{us:.0f} us" if us < 1000 else f"{us / 1000:.2f} ms" if us < 10_000 else f"{us / 1000:.0f} ms"


def rendered(readme):
    """The README's text with its table made anew."""
    before, rest = readme.split(BEGIN)
    after = rest[rest.index(END) :]
    tables = "\n\n".join(table(path) for path in sorted(RESULTS.glob("*.csv")))
    return f"{before}{BEGIN}{tables}\n{after}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(rendered(readme.read_text()))
