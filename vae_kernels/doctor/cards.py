"""The banner and the cards of a report, as HTML: one cause, one sentence for each symptom, and its gauge."""

import re

from ..core.page import fragment, text
from . import words
from .cause import Cause
from .gauges import Gauge
from .verdicts import Verdict

WIDTH, HEIGHT = 300, 52  # of a gauge, in its own units
RISE = {"healthy": 5, "watch": 9, "ill": 13}  # the height of a zone: a second sign beside the colour


def banner(cause: Cause, try_: str = "") -> str:
    """The cause and what to try. try_: the command to try; "" for the line of Python, or the advice."""
    explained = [words.name(symptom) for symptom in cause.explains]
    lines = [f'<section class="banner {cause.level}" aria-label="cause">']
    word = {"ill": "Found: ", "watch": "Suspected: ", "healthy": ""}[cause.level]
    title = cause.title if word else f"{cause.title[:1].upper()}{cause.title[1:]}"
    lines.append(f'<h2><span class="level">{word}</span>{text(title)}</h2><p>{text(cause.sentence)}</p>')
    if explained:
        verb = "explains" if cause.level == "ill" else "may explain"
        lines.append(f"<p>This {verb}: {text(', '.join(explained))}.</p>")
    if try_ or cause.code:
        lines.append(f"<p><strong>Try first</strong></p><pre><code>{_words(try_ or cause.code)}</code></pre>")
    elif cause.advice:
        lines.append(f"<p><strong>Try first:</strong> {text(cause.advice)}.</p>")
    return "\n".join([*lines, "</section>"])


def _words(code):
    """The code, whose lines break at spaces only, and not between an option and its value."""
    words_ = re.findall(r"--\S+ (?!--)\S+|\S+", code)
    return " ".join(f'<span class="w">{text(word)}</span>' for word in words_)


def card(verdict: Verdict, cause: Cause) -> str:
    """One symptom."""
    found = words.found(verdict)
    lines = [f'<article class="{verdict.level}">']
    lines.append(f'<header><h3>{text(words.name(verdict.symptom))}</h3><span class="level">{found}</span></header>')
    lines.append(f"<p>{text(words.sentence(verdict))}</p>")
    if verdict.gauge is not None and verdict.gauge.level == verdict.level:
        lines.append(gauge(verdict.gauge))
    lines.append(f"<details><summary>numbers</summary><p>{text(verdict.evidence)}</p>")
    if verdict.cause:
        lines.append(f"<dl><dt>Likely cause</dt><dd>{text(verdict.cause)}</dd>")
        lines.append(f"<dt>Try</dt><dd>{text(verdict.advice)}</dd></dl>")
    lines.append(f'<p class="faint"><code>diagnosis["{text(verdict.symptom)}"]</code></p></details>')
    if verdict.symptom in cause.explains:
        lines.append(f'<p class="faint">Explained by: {text(cause.title.split(":")[0])}.</p>')
    return "\n".join([*lines, "</article>"])


def gauge(found: Gauge) -> str:
    """The gauge as SVG: a zone for each level, the thresholds below the edges, and the number above its place."""
    zones = len(found.levels)
    wide = WIDTH / zones
    said = f"{found.name}: {found.text}"
    lines = [f'<svg class="gauge" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(said)}">']
    lines.append(f"<title>{text(said)}; {', '.join(_zones(found))}</title>")
    for i, level in enumerate(found.levels):
        high = RISE[level]
        place = f'x="{i * wide + 1:.1f}" y="{34 - high}" width="{wide - 2:.1f}" height="{high}"'
        lines.append(f'<rect class="{level}" {place} rx="1.5"><title>{words.FOUND[level]}</title></rect>')
    for i, stop in enumerate(found.stops[1:-1], 1):
        lines.append(f'<text x="{i * wide:.1f}" y="48" text-anchor="middle">{_stop(found, stop)}</text>')
    x = min(max(found.place * WIDTH, 5), WIDTH - 5)
    lines.append(f'<path class="needle" d="M{x:.1f} 36 l-5 -19 h10 z"/>')
    anchor = "start" if x < 0.25 * WIDTH else "end" if x > 0.75 * WIDTH else "middle"
    lines.append(f'<text class="value" x="{x:.1f}" y="12" text-anchor="{anchor}">{text(found.text)}</text>')
    return "\n".join([*lines, f'</svg><p class="faint of">{text(found.name)}</p>'])


def _zones(found):
    """What each zone means, in words: "found below 0.69"."""
    for low, high, level in zip(found.stops, found.stops[1:], found.levels, strict=False):
        yield f"{words.FOUND[level]} from {_stop(found, low)} to {_stop(found, high)}"


def _stop(found, stop):
    """A threshold as the number is shown: as a share of 100 %, or with three digits."""
    return f"{100 * stop:.3g}%" if found.text.endswith("%") else f"{stop:.3g}"


def cells(verdicts: list[Verdict], cause: Cause) -> str:
    """All cards: the cause, what was found and suspected, and then, folded, what was not found."""
    ordered = sorted(words.by_level(verdicts), key=lambda v: v.symptom != cause.symptom)
    sick, well = ([v for v in ordered if (v.level != "healthy") == there] for there in (True, False))
    lines = ['<div class="cards">', *(card(v, cause) for v in sick), "</div>"]
    if well:
        names = ", ".join(words.name(v.symptom) for v in well)
        lines.append(f'<details class="well"{"" if sick else " open"}><summary>Not found: {text(names)}</summary>')
        lines += ['<div class="cards">', *(card(v, cause) for v in well), "</div></details>"]
    return "\n".join(lines)


GAUGES = """
.vk .w { display: inline-block; max-width: 100%; }
.vk .cards { display: grid; gap: .75rem; align-items: start; margin-top: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.vk .well { margin-top: .75rem; } .vk .well > summary { margin-bottom: .75rem; }
.vk svg.gauge { display: block; width: 100%; max-width: 24rem; height: auto; margin: .4rem 0 0; }
.vk svg.gauge text { font: 12px system-ui, sans-serif; fill: var(--faint); }
.vk svg.gauge .value { font-weight: 700; fill: var(--ink); }
.vk svg.gauge rect { fill: var(--level); opacity: .8; } .vk svg.gauge .needle { fill: var(--ink); }
.vk .of { margin: 0; font-size: .85rem; }
"""


def notebook(diagnosis) -> str:
    """A Diagnosis in a notebook: the banner and the cards, without figures."""
    cause = diagnosis.cause
    return fragment(f"<style>{GAUGES}</style>{banner(cause)}{cells(diagnosis.verdicts, cause)}")
