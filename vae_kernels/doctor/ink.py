"""Colours, axes and SVG of the figures. The colours suit light and dark pages, and stay apart for colour-blind readers
(Okabe & Ito 2008, Color Universal Design)."""

import io
import re

import matplotlib
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY, PINK = "#0072B2", "#D55E00", "#009E73", "#808080", "#CC79A7"
INK = "#000000"  # becomes the page's text colour
# A class has a colour and a marker: ten colours alone are too many to tell apart.
CLASSES = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999933", "#AA4499", "#9C6B5B", "#6673D9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">")
# text stays text, and the ids are the same in each run
SVG = {"svg.fonttype": "none", "svg.hashsalt": "vae_kernels", "font.family": "sans-serif", "font.size": 11}
WIDTH = 4.5
TIP = "tip:"


def axes(height=3.2):
    """The axes of a new figure. There is no window and no global state."""
    with matplotlib.rc_context(SVG):  # pyright: ignore[reportArgumentType] - its list of keys changes with the version
        return Figure(figsize=(WIDTH, height), layout="constrained").subplots()


def tip(artist, text):
    """Show this text when the mouse is over the artist."""
    artist.set_gid(TIP + text)


def svg(figure, text):
    """The figure as an <svg> element for a page. Black becomes the page's text colour. `text` is the alternative
    text."""
    with matplotlib.rc_context(SVG):  # pyright: ignore[reportArgumentType] - its list of keys changes with the version
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, dpi=160, metadata={"Date": None, "Creator": None})
    source = buffer.getvalue()
    source = source[source.index("<svg") :]
    source = re.sub(r"<metadata>.*?</metadata>", "", source, flags=re.S)
    source = re.sub(f'<g id="{TIP}([^"]*)">', r"<g><title>\1</title>", source)
    source = source.replace("#000000", "currentColor").replace("'DejaVu Sans', ", "")
    source = re.sub(r'width="[\d.]+pt" height="[\d.]+pt" ', "", source, count=1)
    text = text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return source.replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1)
