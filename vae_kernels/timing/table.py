"""The rows of one case as text, for the terminal."""

from .case import shown
from .contenders import COPY, EAGER


def table(rows):
    """The rows of one case as text: times, and ratios to the best eager form."""
    timed = [row for row in rows if row["median_us"] is not None]
    best = min(row["median_us"] for row in timed if row["kind"] == EAGER and row["part"] == rows[0]["part"])
    first = rows[0]
    shape = shown(first["batch"], first["dims"], first["latents"])
    head = [first.get("model") or f"{first['likelihood']} {first['part']}", shape, first["dtype"], first["x"]]
    head += [first["direction"], f"gradient {first['incoming']:g}", f"{first['threads']} threads"]
    lines = ["", "  ".join(map(str, head))]
    for row in rows:
        if row not in timed:
            lines.append(f"  {row['kind']} {row['name']}: wrong by {row['error']:.1e}, and not timed")
            continue
        part = f"{row['part']}: " if row["part"] == "loss of the step" else ""
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
