"""Two diagnoses beside each other, as one HTML page: causes, symptoms, numbers, options that differ, and figures."""

from ..core.page import text
from . import quantities, words
from .cards import banner
from .report import environment

TEMPLATE = """<header>
<h1>{{ title }}</h1>
<p class="faint">{{ names[0] }} is on the left, or first on a small page; {{ names[1] }} is on the right.</p>
</header>
<main>
<div class="two">
{% for name, banner in banners %}
<div><h3>{{ name }}</h3>
{{ banner | safe }}</div>
{% endfor %}
</div>
{% for heading, rows in tables %}
<section><h2>{{ heading }}</h2>
<table class="beside">
<tr><th></th>{% for name in names %}<th scope="col">{{ name }}</th>{% endfor %}</tr>
{% for name, one, other in rows %}
<tr><th scope="row">{{ name }}</th><td>{{ one | safe }}</td><td>{{ other | safe }}</td></tr>
{% endfor %}
</table></section>
{% endfor %}
<section><h2>Pictures</h2>
{% for name, bodies in figures %}
<h3>{{ name }}</h3>
<div class="two">
{% for run, body in bodies %}
<figure><h4>{{ run }}</h4>
{{ body | safe }}</figure>
{% endfor %}
</div>
{% endfor %}
</section>
</main>
"""


def page(diagnoses, names, facts):
    """The text of the page. diagnoses, names, facts: two of each."""
    template, graphs, strips = environment(TEMPLATE)
    kls = [d.measures.kl_per_dim for d in diagnoses]
    top = None if any(kl is None for kl in kls) else max(1.0, *(1.1 * kl.max().item() for kl in kls))
    drawn = [[*strips.strips(d), *graphs.graphs(d, f, top)] for d, f in zip(diagnoses, facts, strict=True)]
    one, other = ({figure["name"]: figure["body"] for figure in figures} for figures in drawn)
    shared = [(name, list(zip(names, (body, other[name]), strict=True))) for name, body in one.items() if name in other]
    banners = [(name, banner(d.cause, f.try_)) for name, d, f in zip(names, diagnoses, facts, strict=True)]
    tables = [("Symptoms", _symptoms(*diagnoses)), ("Options that differ", _options(*facts))]
    tables = [(heading, rows) for heading, rows in (*tables, ("Numbers", _numbers(*diagnoses))) if rows]
    title = " beside ".join(names)
    return template.render(title=title, word=title, names=names, banners=banners, tables=tables, figures=shared)


def _symptoms(one, other):
    """(name, level of one, level of the other), the worst first."""
    found = [{v.symptom: v for v in d.verdicts} for d in (one, other)]
    order = [v.symptom for v in words.by_level([*one.verdicts, *other.verdicts])]
    return [(words.name(s), *(_level(of.get(s)) for of in found)) for s in dict.fromkeys(order)]


def _level(verdict):
    if verdict is None:
        return "-"
    gauge = verdict.gauge
    number = "" if gauge is None else f' <span class="faint">{text(gauge.name)}: {text(gauge.text)}</span>'
    return f'<span class="level {verdict.level}">{words.found(verdict)}</span>{number}'


def _numbers(one, other):
    values = [{name: value for name, value, _ in quantities.table(d.measures)} for d in (one, other)]
    names = dict.fromkeys((*values[0], *values[1]))
    return [(name, *(text(of.get(name, "-")) for of in values)) for name in names]


def _options(one, other):
    names = dict.fromkeys((*one.options, *other.options))
    rows = [(name, *(text(f.options.get(name, "-")) for f in (one, other))) for name in names]
    return [row for row in rows if row[1] != row[2]]
