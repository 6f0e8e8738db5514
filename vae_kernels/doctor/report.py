"""A Diagnosis as one HTML page: the text and the figures. template.py has the layout, cards.py the symptoms."""

from . import columns, quantities, words
from .cards import banner, cells
from .facts import Facts
from .template import HEAD, STYLE, TAIL, TEMPLATE
from .verdicts import of_observed

NEEDS = 'the HTML report needs matplotlib and jinja2: pip install "vae-kernels[demo]"'


def page(diagnosis, title, facts=None):
    """The text of the page. facts: what is known of the training, or None."""
    template, graphs, strips = environment(TEMPLATE)
    facts, cause = facts or Facts(), diagnosis.cause
    pictures = diagnosis.views.pictures is not None
    return template.render(
        title=title,
        word={"healthy": "nothing found", "watch": "suspected", "ill": "found"}[diagnosis.level],
        summary=summary(diagnosis),
        banner=banner(cause, facts.try_),
        cards=cells(diagnosis.verdicts, cause),
        figures=[*strips.strips(diagnosis), *graphs.graphs(diagnosis, facts)],
        columns=columns.by_kind(diagnosis.measures.columns, facts.columns),
        missing="" if pictures else f"No reconstructions and no traversals: {diagnosis.views.why_not}.",
        numbers=[(name, quantities.plain(value), what) for name, value, what in quantities.table(diagnosis.measures)],
        options=facts.options,
    )


def environment(body):
    """(the jinja2 template of a page with this body, the module graphs, the module strips). ImportError if a package is
    missing."""
    try:
        from jinja2 import Environment, StrictUndefined

        from . import graphs, strips
    except ImportError as error:
        raise ImportError(f"{error}; {NEEDS}") from error
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return jinja.from_string(HEAD + body + TAIL, globals={"style": STYLE}), graphs, strips


def summary(diagnosis):
    """The summary below the title, in one line."""
    m = diagnosis.measures
    by_level = {level: [words.name(v.symptom) for v in diagnosis.verdicts if v.level == level] for level in words.FOUND}
    texts = [f"{words.FOUND[level]}: {', '.join(by_level[level])}" for level in ("ill", "watch") if by_level[level]]
    share = of_observed(m, ", {} of x observed")
    return f"{m.samples} samples, {m.latents} latents{share}. {'; '.join(texts) or 'No symptom'}."
