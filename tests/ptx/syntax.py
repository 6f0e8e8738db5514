"""PTX as text: comments, numbers, lists."""

import re


def strip(text):
    """Without comments and debug information; every line keeps its number."""
    blank = lambda m: "\n" * m[0].count("\n")  # noqa: E731
    text = re.sub(r"/\*.*?\*/", blank, text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"^[ \t]*\.(loc|file)\b[^\n]*", "", text, flags=re.M)
    return re.sub(r"\.section\s+\S+\s*\{.*?\}", blank, text, flags=re.S)


def number(text):
    """An integer, or the bits of a float that is written in hexadecimal, as 64 bits."""
    if text[:2] in ("0f", "0F", "0d", "0D"):
        return int(text[2:], 16)
    return int(text.rstrip("U"), 0) & 0xFFFFFFFFFFFFFFFF


def split(text):
    """At the commas that are in no bracket."""
    out, depth, now = [], 0, ""
    for c in text:
        depth += (c in "{[(") - (c in "}])")
        if c == "," and depth == 0:
            out.append(now.strip())
            now = ""
        else:
            now += c
    return [*out, now.strip()] if now.strip() else out


def inside(text):
    """The parts of a list in brackets."""
    return split(text.strip()[1:-1])


def listed(text):
    """The parts of a list in braces, or the text alone."""
    text = text.strip()
    return inside(text) if text.startswith("{") else [text]
