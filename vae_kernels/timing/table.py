"""The rows of one case: as text for a file or a pipe, and as cells for the table of a terminal."""

from .case import shown
from .contenders import COPY, EAGER

LOSS = "loss of the step"  # a part of a training step: the loss alone


def duration(us):
    """A time with three digits, in us, ms or s."""
    for unit, size in (("us", 1), ("ms", 1e3), ("s", 1e6)):
        if us < 999.5 * size or unit == "s":
            value = us / size
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def factor(ratio):
    """A ratio as text. A ratio below 1 gets one more decimal, because 0.04 must not read as 0.0."""
    return f"{ratio:.{2 if ratio < 1 else 1}f}x"


def head(rows):
    """The case of these rows in words."""
    first = rows[0]
    shape = shown(first["batch"], first["dims"], first["latents"])
    words = [first.get("model") or f"{first['likelihood']} {first['part']}", shape, first["dtype"], first["x"]]
    words += [first["direction"], f"gradient {first['incoming']:g}", f"{first['threads']} threads"]
    return "  ".join(map(str, words))


def best_eager(rows):
    """The median time of the best eager form, in us."""
    timed = [row for row in rows if row["median_us"] is not None]
    return min(row["median_us"] for row in timed if row["kind"] == EAGER and row["part"] == rows[0]["part"])


def cells(row, best):
    """{column: text} of a row. A column that the row lacks is missing. best: what best_eager() gives."""
    if row["median_us"] is None:
        return {"time": "wrong", "20 to 80 %": f"by {row['error']:.0e}"}
    found = {"time": duration(row["median_us"])}
    if row["kind"] != COPY and row["part"] != LOSS:
        found["x eager"] = factor(best / row["median_us"])
    found["20 to 80 %"] = f"{duration(row['p20_us'])} to {duration(row['p80_us'])}"
    if row.get("least_bytes") and row["kind"] != COPY:
        found["of copy"] = f"{row['least_bytes'] / row['median_us'] * 1e6 / row['copy_bytes_per_s']:.0%}"
    if row.get("graph_us"):
        found["by graph"] = duration(row["graph_us"])
    if row.get("host_us"):
        found["host"] = duration(row["host_us"])
    if row.get("peak_bytes") is not None:
        found["peak MiB"] = f"{row['peak_bytes'] / 2**20:.1f}"
    if row.get("kernels"):
        found["kernels"] = str(row["kernels"])
    if row.get("first_us"):
        found["first run"] = duration(row["first_us"])
    return found


def table(rows):
    """The rows of one case as text: times, and ratios to the best eager form."""
    timed, best = [row for row in rows if row["median_us"] is not None], best_eager(rows)
    lines = ["", head(rows)]
    for row in rows:
        if row not in timed:
            lines.append(f"  {row['kind']} {row['name']}: wrong by {row['error']:.1e}, and not timed")
            continue
        part = f"{row['part']}: " if row["part"] == LOSS else ""
        line = f"  {part + row['kind'] + ' ' + row['name']:<54} {row['median_us']:>11.1f} us"
        line += f"  ({row['p20_us']:.1f} to {row['p80_us']:.1f})"
        if row["kind"] != COPY and not part:
            line += f"  {best / row['median_us']:6.2f}x best eager"
        lines.append(line + _details(row))
    return "\n".join(lines)


def _details(row):
    texts = [f"{row['disturbed']:.0%} of runs disturbed"] if row["disturbed"] else []
    if row.get("least_bytes") and row["kind"] != COPY:
        speed = row["least_bytes"] / row["median_us"] * 1e6
        texts.append(f"{speed / 1e9:.1f} GB/s, {speed / row['copy_bytes_per_s']:.0%} of copy")
    if row.get("kernels"):
        texts.append(f"{row['kernels']} kernels")
    if row.get("peak_bytes") is not None:
        texts.append(f"peak {row['peak_bytes'] / 2**20:.1f} MiB")
    if row.get("first_us"):
        texts.append(f"first run {row['first_us'] / 1e3:.0f} ms")
    for key in ("graph_us", "host_us"):
        if row.get(key):
            texts.append(f"{key[:-3]} {row[key]:.1f} us")
    return "  " + ", ".join(texts) if texts else ""
